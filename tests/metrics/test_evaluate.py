"""An evaluation by the real classifier: what is near, what is far, and what it says of itself."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from raygen.config import VaeTrial
from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.metrics import comparable, protocol_hash
from raygen.metrics.elbo import bits_per_dim
from raygen.metrics.evaluate import Evaluator, prepare
from raygen.models.conv_vae import ConvVae
from raygen.train.vae import VaeLearner

CPU = torch.device("cpu")
TRAIN = 600
FD = ("fd_classifier",)


class Replay:
    """A model that "generates" given images, one after another, whatever the latents."""

    device, latent_dim = CPU, 4

    def __init__(self, images: Tensor) -> None:
        self.images, self.classes = images, len(images)  # so labels are positions
        self.graph = False

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        self.graph |= torch.is_grad_enabled()
        return self.images[labels]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache and one thread for the whole module: the classifier is trained once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> ImageData:
    train, test = (
        Split(*map(torch.from_numpy, draw_shapes(n, seed))) for n, seed in ((TRAIN, 0), (300, 1))
    )
    return ImageData("shapes", tuple(SHAPES), train, test, fingerprint(train, test))


@pytest.fixture(scope="module")
def evaluator(data: ImageData) -> Evaluator:
    return Evaluator(FD, data, TRAIN, CPU)


@pytest.fixture(scope="module")
def vae() -> VaeLearner:
    return VaeLearner(VaeTrial(model=ConvVae(latent_dim=4, width=4)), 10, CPU, seed=0)


def test_the_training_set_has_no_distance_to_itself(data: ImageData, evaluator: Evaluator) -> None:
    assert _distance(evaluator, data.train.images) == pytest.approx(0.0, abs=1e-3)


def test_more_real_images_are_much_nearer_than_noise_and_than_one_image(
    data: ImageData, evaluator: Evaluator
) -> None:
    fresh = torch.from_numpy(draw_shapes(TRAIN, seed=2)[0])
    noise = torch.randint_like(fresh, 256)
    same = data.train.images[:1].expand(TRAIN, -1, -1, -1)

    real = _distance(evaluator, fresh)

    assert real > 0
    assert 10 * real < _distance(evaluator, noise)
    assert 10 * real < _distance(evaluator, same)


def test_more_noise_on_real_images_means_more_distance(
    data: ImageData, evaluator: Evaluator
) -> None:
    noise = torch.randn(data.train.images.shape, generator=torch.Generator().manual_seed(0))
    distances = []
    for level in (0, 10, 30, 90):
        images = (data.train.images + level * noise).clamp(0, 255).round().byte()
        distances.append(_distance(evaluator, images))

    assert distances == sorted(distances)


def test_the_order_of_the_images_does_not_matter(data: ImageData, evaluator: Evaluator) -> None:
    images = torch.from_numpy(draw_shapes(TRAIN, seed=2)[0])

    forwards, backwards = _distance(evaluator, images), _distance(evaluator, images.flip(0))

    assert forwards == pytest.approx(backwards, rel=1e-4)


def test_an_evaluation_says_what_data_encoder_and_samples_it_is_of(
    data: ImageData, evaluator: Evaluator
) -> None:
    protocol = evaluator(Replay(data.train.images))["fd_classifier"].protocol

    assert protocol["metric"] == "fd_classifier"
    assert protocol["data_hash"] == data.fingerprint
    assert protocol["samples"] == TRAIN
    assert protocol["encoder_hash"] == prepare(FD, data, CPU)["classifier"]["hash"]
    assert protocol["reference"] == f"train, {TRAIN} images"


def test_the_protocol_hash_is_that_of_every_equal_evaluator_and_of_no_other(
    data: ImageData, evaluator: Evaluator
) -> None:
    model = Replay(data.train.images)

    def digest(samples: int) -> str:
        score = Evaluator(FD, data, samples, CPU)(model)["fd_classifier"]
        return protocol_hash(score.protocol)

    assert digest(TRAIN) == protocol_hash(evaluator(model)["fd_classifier"].protocol)
    assert digest(TRAIN) != digest(TRAIN - 1)


def test_an_evaluator_of_sent_assets_equals_one_that_prepared_itself(
    data: ImageData, evaluator: Evaluator
) -> None:
    sent = Evaluator(FD, data, TRAIN, CPU, prepare(FD, data, CPU))
    images = torch.from_numpy(draw_shapes(TRAIN, seed=2)[0])

    assert sent(Replay(images)) == evaluator(Replay(images))


def test_the_same_model_is_scored_the_same_twice(data: ImageData, vae: VaeLearner) -> None:
    evaluator = Evaluator((*FD, "elbo"), data, 300, CPU)

    assert evaluator(vae) == evaluator(vae)


def test_bits_per_dim_is_the_elbo_in_bits_per_channel_of_a_pixel(
    data: ImageData, vae: VaeLearner
) -> None:
    scores = Evaluator(("bits_per_dim", "elbo"), data, 300, CPU)(vae)

    bits = -scores["elbo"].value / (3072 * math.log(2))
    assert scores["bits_per_dim"].value == pytest.approx(bits, rel=1e-12)


def test_a_model_without_any_knowledge_needs_eight_bits_per_dim() -> None:
    assert bits_per_dim(3072 * math.log(1 / 256), 3072) == pytest.approx(8.0)


def test_the_elbo_is_the_mean_over_the_first_test_images(data: ImageData, vae: VaeLearner) -> None:
    scores = Evaluator(("elbo",), data, 300, CPU)(vae)

    # Other noise, so equal only up to the spread of one posterior sample.
    other = vae.elbo(data.test.images, torch.Generator().manual_seed(99)).mean()
    assert scores["elbo"].value == pytest.approx(float(other), rel=0.01)
    assert scores["elbo"].protocol["reference"] == "first 300 of test"


def test_an_elbo_alone_trains_no_classifier(data: ImageData) -> None:
    assert prepare(("elbo", "bits_per_dim"), data, CPU) == {}


def test_fewer_samples_and_another_seed_can_be_asked_for(
    data: ImageData, evaluator: Evaluator, vae: VaeLearner
) -> None:
    few = evaluator(vae, samples=400)["fd_classifier"]
    other = evaluator(vae, seed=7)["fd_classifier"]

    assert few == Evaluator(FD, data, 400, CPU)(vae)["fd_classifier"]
    assert few.protocol["samples"] == 400
    assert other.protocol["sample_seed"] == 7
    assert other.value != evaluator(vae)["fd_classifier"].value
    assert comparable(other.protocol) == comparable(evaluator(vae)["fd_classifier"].protocol)


def test_a_distance_to_test_images_is_that_of_another_training_set(
    data: ImageData, evaluator: Evaluator
) -> None:
    fresh = torch.from_numpy(draw_shapes(TRAIN, seed=2)[0])
    names = ("fd_classifier", "fd_classifier_test", "precision_classifier")

    scores = Evaluator(names, data, TRAIN, CPU)(Replay(data.test.images.repeat(2, 1, 1, 1)))

    assert scores["fd_classifier_test"].value < 0.01 * scores["fd_classifier"].value
    assert scores["fd_classifier_test"].protocol["reference"] == "test, 300 images"
    assert (
        scores["precision_classifier"].protocol["reference"] == f"train, {TRAIN} of {TRAIN} images"
    )
    assert evaluator(Replay(fresh))["fd_classifier"].value > 0


def test_an_evaluation_leaves_no_autograd_graph(data: ImageData, evaluator: Evaluator) -> None:
    model = Replay(data.train.images)

    scores = evaluator(model)

    assert not model.graph
    assert torch.is_grad_enabled()
    assert all(type(score.value) is float for score in scores.values())


def test_an_evaluation_leaves_the_global_generator_as_it_was(
    data: ImageData, vae: VaeLearner
) -> None:
    evaluator = Evaluator((*FD, "elbo"), data, 300, CPU)
    before = torch.get_rng_state()

    evaluator(vae)

    assert torch.equal(before, torch.get_rng_state())


def _distance(evaluator: Evaluator, images: Tensor) -> float:
    return evaluator(Replay(images))["fd_classifier"].value
