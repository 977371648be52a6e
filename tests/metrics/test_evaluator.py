"""An evaluation by the real classifier: what is near, what is far, and what it says of itself."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.errors import InputError
from raygen.metrics import comparable, protocol_hash
from raygen.metrics.afresh import plan_afresh
from raygen.metrics.bounds import bits_per_dim
from raygen.metrics.evaluator import Evaluator, prepare, too_few_real
from raygen.metrics.model import draw_latents, labels_in_shares
from raygen.models.conv_vae import ConvVae
from raygen.training.vae import VaeLearner
from raygen.trial import VaeTrial

CPU = torch.device("cpu")
TRAIN = TEST = 600
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
        Split(*map(torch.from_numpy, draw_shapes(n, seed))) for n, seed in ((TRAIN, 0), (TEST, 1))
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
    other = vae.elbo(data.test.images[:300], torch.Generator().manual_seed(99)).mean()
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

    scores = Evaluator(names, data, TRAIN, CPU)(Replay(data.test.images))

    assert scores["fd_classifier_test"].value < 0.01 * scores["fd_classifier"].value
    assert scores["fd_classifier_test"].protocol["reference"] == f"test, {TEST} images"
    assert (
        scores["precision_classifier"].protocol["reference"] == f"train, {TRAIN} of {TRAIN} images"
    )
    assert evaluator(Replay(fresh))["fd_classifier"].value > 0


@pytest.mark.parametrize(
    ("metric", "train", "test", "said"),
    [
        ("fd_classifier_test", 600, 12, "needs 353 or more real images, bits has 12 test images; "
         "give more, or use fd_classifier or kd_classifier"),
        ("fd_classifier_test", 600, 352, "needs 353"),
        ("fd_classifier_test", 600, 1, "bits has 1 test image; give more"),
        ("fd_classifier", 352, 600, "needs 353 or more real images, bits has 352 training images; "
         "give more, or use fd_classifier_test or kd_classifier"),
        ("fd_classifier_infinity", 1, 1, "bits has 1 training image; give more"),
        ("kd_classifier", 99, 600, "needs 100 or more real images"),
        ("coverage_classifier", 99, 600, "needs 100 or more real images"),
        ("fid_test", 3000, 2048, "needs 2049 or more real images, bits has 2048 test images; "
         "give more, or use fd_classifier or fd_classifier_test or kd_classifier or fid or kid"),
        ("fd_dinov2", 1024, 9, "needs 1025 or more real images, bits has 1024 training images"),
    ],
)  # fmt: skip
def test_too_few_real_images_are_refused_before_anything_is_trained(
    metric: str, train: int, test: int, said: str
) -> None:
    data = blank(train, test)

    with pytest.raises(InputError) as caught:
        prepare((metric,), data, CPU)

    assert str(caught.value).startswith(f"{metric} needs ")
    assert said in str(caught.value)
    assert str(caught.value) == too_few_real(metric, data)


@pytest.mark.parametrize("test", [352, 353])
def test_a_model_is_measured_against_test_images_or_it_is_said_why_not(test: int) -> None:
    data = blank(600, test)
    facts = {"finalists": {}, "evaluation": {"samples": 600},
             "objectives": [{"metric": "fd_classifier"}]}  # fmt: skip

    plan = plan_afresh(facts, data)

    reason = too_few_real("fd_classifier_test", data)
    assert ("fd_classifier_test" in plan.metrics) == (reason is None) == (test == 353)
    assert plan.left_out.get("fd_classifier_test") == reason


def test_just_enough_real_images_are_enough() -> None:
    enough = {"fd_classifier": (353, 0), "fd_classifier_test": (1, 353), "fid": (2049, 0),
              "inception_score": (1, 0), "kd_classifier": (100, 0), "elbo": (1, 1)}  # fmt: skip

    assert [too_few_real(name, blank(*counts)) for name, counts in enough.items()] == [None] * 6


class Painter:
    """A conditional model that paints an image of the class that it is asked for."""

    device, latent_dim, parameters, conditional = CPU, 4, 0, True

    def __init__(self, split: Split) -> None:
        self.classes = 2
        self.rows = [(split.labels == label).nonzero().squeeze(1) for label in range(2)]
        self.images, self.drawn = split.images, torch.zeros(2, dtype=torch.int64)

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        painted = []
        for label in labels.tolist():
            rows = self.rows[label]
            painted.append(self.images[rows[self.drawn[label] % len(rows)]])
            self.drawn[label] += 1
        return torch.stack(painted)


@pytest.fixture(scope="module")
def uneven() -> ImageData:
    """Two classes, 9 to 1: dark shapes and bright ones."""

    def split(seed: int) -> Split:
        images = torch.from_numpy(draw_shapes(1000, seed)[0])
        rare = torch.arange(1000) % 10 == 9
        images[rare], images[~rare] = images[rare] // 4 + 190, images[~rare] // 4
        return Split(images, rare.long())

    train, test = split(0), split(1)
    return ImageData("uneven", ("dark", "bright"), train, test, fingerprint(train, test))


def test_a_conditional_model_as_good_as_real_images_scores_as_they_do_in_uneven_classes(
    uneven: ImageData,
) -> None:
    evaluator = Evaluator(FD, uneven, 1000, CPU)
    real = _distance(evaluator, uneven.test.images)
    painter = Painter(uneven.test)

    score = evaluator(painter)["fd_classifier"]

    assert painter.drawn.tolist() == [900, 100]
    assert score.value == pytest.approx(real, rel=1e-4)
    assert score.protocol["labels"] == "in the training data's class shares"


def test_classes_in_turn_would_have_scored_far_worse(uneven: ImageData) -> None:
    evaluator = Evaluator(FD, uneven, 1000, CPU)
    painter = Painter(uneven.test)
    painter.conditional = False  # so that its labels take turns

    score = evaluator(painter)["fd_classifier"]

    assert painter.drawn.tolist() == [500, 500]
    assert score.value > 10 * _distance(evaluator, uneven.test.images)
    assert "labels" not in score.protocol


def test_a_class_without_training_images_is_never_asked_for(uneven: ImageData) -> None:
    data = uneven._replace(classes=("dark", "bright", "nobody's"))
    asked: list[int] = []

    class Listener(Painter):
        def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
            asked.extend(labels.tolist())
            return super().sample(latents, labels)

    listener = Listener(uneven.test)
    listener.classes = 3
    Evaluator(FD, data, 400, CPU)(listener)

    assert (asked.count(0), asked.count(1), len(asked)) == (360, 40, 400)


def test_who_was_asked_for_classes_still_compares_with_who_was_not(uneven: ImageData) -> None:
    evaluator = Evaluator(FD, uneven, 1000, CPU)
    conditional = evaluator(Painter(uneven.test))["fd_classifier"].protocol
    unconditional = evaluator(Replay(uneven.test.images))["fd_classifier"].protocol

    assert comparable(conditional) == comparable(unconditional)


def test_even_classes_take_turns_and_the_protocol_stays_as_it_was(
    data: ImageData, evaluator: Evaluator
) -> None:
    class Recorder(Replay):
        conditional = True
        asked: ClassVar[list[int]] = []

        def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
            self.asked.extend(labels.tolist())
            return super().sample(latents, labels)

    recorder = Recorder(data.train.images[:10])
    score = evaluator(recorder)["fd_classifier"]

    assert recorder.asked == [k % 10 for k in range(TRAIN)]
    assert score.protocol == evaluator(Replay(data.train.images))["fd_classifier"].protocol


@pytest.mark.parametrize(
    "counts", [[1800, 200], [1, 0, 2, 0], [7], [0, 7], [5000, 1, 1], [3, 1, 4, 1, 5, 9, 2, 6]]
)
def test_in_no_prefix_of_the_labels_is_a_class_a_whole_image_off_its_share(
    counts: list[int],
) -> None:
    labels = labels_in_shares(torch.tensor(counts), 3000)

    seen = F.one_hot(labels, len(counts)).cumsum(dim=0).double()
    share = torch.tensor(counts).double() / sum(counts)
    wanted = torch.arange(1, 3001)[:, None] * share
    assert len(labels) == 3000
    assert (seen - wanted).abs().max() < 1


@pytest.mark.parametrize("classes", [1, 2, 10, 100])
def test_equal_shares_make_the_classes_take_turns(classes: int) -> None:
    labels = labels_in_shares(torch.full((classes,), 7), 3 * classes)

    assert labels.tolist() == [*range(classes)] * 3


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


def blank(train: int, test: int) -> ImageData:
    splits = [
        Split(torch.zeros(n, 3, 32, 32, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64))
        for n in (train, test)
    ]
    return ImageData("bits", ("zero",), *splits, "0" * 16)


def _distance(evaluator: Evaluator, images: Tensor) -> float:
    return evaluator(Replay(images))["fd_classifier"].value


class Copies(TorchDispatchMode):
    """Notes of every copy to a GPU whether the host waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.wait: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.device.type == "cuda":
            self.wait.append(not (kwargs or {}).get("non_blocking", False))
        return result


def test_latents_go_to_a_gpu_from_pinned_memory_so_that_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pinned = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    model = Replay(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    model.device = torch.device("cuda:0")
    with FakeTensorMode(), Copies() as copies:
        latents, labels = draw_latents(model, 0, 0, 8)

    assert {latents.device, labels.device} == {model.device}
    assert copies.wait == [False, False]
    assert len(pinned) == 2
