"""FID's Inception: what a user is told without it, and the same numbers as torch-fidelity."""

import hashlib
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.errors import InputError
from raygen.metrics import extractors, inception
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.extractors import real_order
from raygen.metrics.inception import inception_features, inception_weights, load_inception
from raygen.metrics.inception_score import inception_score
from raygen.metrics.kernel import kernel_distance

CPU = torch.device("cpu")


class Replay:
    """A model that "generates" given images one after another."""

    device, latent_dim = CPU, 4

    def __init__(self, images: Tensor) -> None:
        self.images, self.classes = images, len(images)  # so labels are positions

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.images[labels]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file in torch-fidelity's format, of an untrained network."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any) -> None:
            """Keep the random weights, scaled so that features stay of the order of one."""
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                for layer in self.modules():
                    if isinstance(layer, nn.Conv2d):
                        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                # Logits some units apart: of equal ones every inception score is 1.
                nn.init.normal_(self.fc.weight, std=2.0)

    folder = tmp_path_factory.mktemp("weights")
    torch.save({}, folder / "none.pth")
    network = Untrained("untrained", ["2048"], str(folder / "none.pth"))
    torch.save(network.state_dict(), folder / "random.pth")
    return folder / "random.pth"


@pytest.fixture
def installed(random_weights: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The random weights lie where ours are looked for, and their hash is the one expected."""
    digest = hashlib.sha256(random_weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "HASH", digest[:8])
    own_cache.mkdir()
    (own_cache / inception.FILE).symlink_to(random_weights)
    return own_cache / inception.FILE


def test_without_torch_fidelity_a_user_learns_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)

    with pytest.raises(InputError, match=r"uv sync --extra fid, or use fd_classifier"):
        inception_weights()


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), RuntimeError("invalid hash value"), TimeoutError()]
)
def test_weights_that_cannot_be_downloaded_are_named_with_their_place_and_source(
    error: Exception, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)

    with pytest.raises(InputError) as raised:
        inception_weights()

    message = str(raised.value)
    assert str(own_cache / inception.FILE) in message
    assert "https://" in message
    assert "or use fd_classifier" in message
    assert "\n" not in message


def test_weights_with_another_checksum_are_refused(own_cache: Path) -> None:
    pytest.importorskip("torch_fidelity")
    own_cache.mkdir()
    (own_cache / inception.FILE).write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()[:8]

    with pytest.raises(InputError, match=f"starts with {found}, not 6726825d: delete it"):
        inception_weights()


def test_weights_that_are_there_are_not_downloaded_again(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.hub, "download_url_to_file")

    assert inception_weights() == installed


def test_the_features_are_those_of_torch_fidelity(installed: Path, random_weights: Path) -> None:
    from torch_fidelity.utils import create_feature_extractor

    images = torch.from_numpy(draw_shapes(4, seed=0)[0])
    theirs = create_feature_extractor(
        "inception-v3-compat",
        ["2048"],
        feature_extractor_weights_path=str(random_weights),
        cuda=False,
        verbose=False,
    )

    features, known = inception_features(load_inception(CPU), images), theirs(images)[0]

    assert features.shape == (4, 2048)
    assert features.std() > 0.01
    # The same arithmetic in another order of the memory.
    assert (features - known).abs().max() <= 1e-6 * known.abs().max()


class Recorder:
    """Features (n, 4) of images; notes what cuDNN may do while it makes them, and of how many."""

    def __init__(self, room: int = 10_000) -> None:
        self.room, self.asked = room, list[int]()

    def __call__(self, images: Tensor) -> Tensor:
        cudnn: Any = torch.backends.cudnn
        self.flags = cudnn.enabled, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        self.asked.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("no room")
        return images.flatten(1).float()[:, :4]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """In the place of Inception."""
    recorder = Recorder()
    network = extractors.Network(recorder, 4, "recorded", {"encoder": "recorded"})
    kind = extractors.Kind(4, lambda *_: {}, lambda *_: network)
    monkeypatch.setitem(extractors.EXTRACTORS, "inception", kind)
    return recorder


def test_features_are_made_by_cudnn_and_without_tf32(recorder: Recorder) -> None:
    cudnn: Any = torch.backends.cudnn
    before = cudnn.enabled, cudnn.allow_tf32
    images = torch.from_numpy(draw_shapes(8, seed=0)[0])

    assets = extractors.prepare(("fid",), image_data(images, images), CPU)
    of_real = recorder.flags
    extractor = extractors.load_extractor("inception", assets["inception"], CPU)
    extractor.features(images)

    assert of_real == recorder.flags == (True, False, False)
    assert (cudnn.enabled, cudnn.allow_tf32) == before == (True, True)


def test_tf32_is_a_choice_that_the_protocol_and_the_cache_name_where_it_is_real(
    recorder: Recorder,
) -> None:
    exact, cpu, cuda = (
        extractors._network("inception", {}, torch.device(device), precision)
        for device, precision in (("cuda", "float32"), ("cpu", "tf32"), ("cuda", "tf32"))
    )
    flags = []
    for network in (exact, cpu, cuda):
        network.features(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
        flags.append(recorder.flags)

    assert flags == [(True, False, False), (True, False, False), (True, True, True)]
    assert exact.protocol == cpu.protocol == {"encoder": "recorded"}
    assert cuda.protocol == {"encoder": "recorded", "precision": "tf32"}
    assert (exact.key, cpu.key, cuda.key) == ("recorded", "recorded", "recorded-tf32")


def test_where_memory_is_short_features_are_made_of_fewer_images_at_once(
    recorder: Recorder,
) -> None:
    recorder.room = 30
    images = torch.arange(250 * 4, dtype=torch.int32).remainder(251).to(torch.uint8)
    images = images.reshape(250, 4, 1, 1)
    features = extractors._network("inception", {}, CPU, "float32").features
    first = features(images)
    tried = list(recorder.asked)
    second = features(images)

    assert tried[:4] == [250, 125, 63, 32]  # halved until it fits
    assert max(recorder.asked[len(tried) :]) == 16  # and remembered
    assert torch.equal(first, images.flatten(1).float())
    assert torch.equal(second, first)


def test_without_room_for_one_image_it_is_out_of_memory(recorder: Recorder) -> None:
    recorder.room = 0
    features = extractors._network("inception", {}, CPU, "float32").features

    with pytest.raises(torch.OutOfMemoryError):
        features(torch.zeros(4, 3, 4, 4, dtype=torch.uint8))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest images that pass through the network: 16 times faster.

    So there can be more of them than features. With fewer, a thousand eigenvalues are zero but for
    rounding.
    """
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setattr(module.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    """Real images, and duller and darker ones of other shapes."""
    real, fake = (torch.from_numpy(draw_shapes(2100, seed)[0]) for seed in (0, 1))
    return real, fake // 4 * 3 + 20


def image_data(train: Tensor, test: Tensor) -> ImageData:
    splits = [Split(x, torch.zeros(len(x), dtype=torch.int64)) for x in (train, test)]
    return ImageData("shapes", tuple(SHAPES), *splits, fingerprint(*splits))


@pytest.mark.slow
def test_every_inception_metric_is_that_of_torch_fidelity(
    installed: Path,
    random_weights: Path,
    small: None,
    pictures: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own pipeline from images to numbers; both draw the same subsets and splits.

    Its kernel is given float64: in float32, as it stands, it loses 2e-6 of a KID of 6e-4, and more
    of a smaller one.
    """
    from torch_fidelity import calculate_metrics, metric_kid

    kid = metric_kid.kid_features_to_metric
    monkeypatch.setattr(
        metric_kid,
        "kid_features_to_metric",
        lambda one, other, **settings: kid(one.double(), other.double(), **settings),
    )
    real, fake = pictures
    data = image_data(real, real[:400])
    names = ("fid", "kid", "inception_score", "precision", "recall")

    scores = Evaluator(names, data, len(fake), CPU)(Replay(fake))

    theirs = calculate_metrics(
        input1=Subset(fake, range(len(fake))),
        input2=Subset(real, real_order(len(real)).tolist()),  # the order of our references
        feature_extractor_weights_path=str(random_weights),
        feature_extractor="inception-v3-compat",  # its precision and recall default to VGG16
        fid=True, kid=True, isc=True, prc=True, cuda=False, cache=False, batch_size=50,
        verbose=False,
    )  # fmt: skip
    keys = {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "inception_score": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
    }
    for name, key in keys.items():
        print(f"\n{name}: {scores[name].value}, theirs {theirs[key]}")
        assert scores[name].value == pytest.approx(theirs[key], rel=1e-6), name
    assert scores["inception_score"].value > 1.1
    assert 0.01 < scores["precision"].value < 1
    spreads = ("kid", "kernel_inception_distance_std"), ("inception_score", "inception_score_std")
    for name, key in spreads:
        assert scores[name].spread == pytest.approx(theirs[key], rel=1e-3)
    assert scores["fid"].protocol["encoder_hash"] == inception.HASH


@pytest.mark.slow
def test_kid_and_inception_score_are_those_of_torchmetrics(
    installed: Path, random_weights: Path, small: None, pictures: tuple[Tensor, Tensor]
) -> None:
    """Without its antialiased resize, and with all images in one subset and one split.

    It draws subsets from torch's global generator. Its FID is that of torch-fidelity above.
    """
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import NoTrainInceptionV3
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    few = 400
    real, fake = (images[:few] for images in pictures)
    ours = load_inception(CPU)
    with torch.no_grad():
        features = [
            torch.cat([inception_features(ours, part) for part in images.split(100)])
            for images in (fake, real)
        ]
    networks = [
        NoTrainInceptionV3("inception-v3-compat", [layer], str(random_weights), antialias=False)
        for layer in ("2048", "logits_unbiased")
    ]
    kid = KernelInceptionDistance(feature=networks[0], subsets=1, subset_size=few)
    score = InceptionScore(feature=networks[1], splits=1)
    for start in range(0, len(real), 100):
        for images, is_real in ((real, True), (fake, False)):
            kid.update(images[start : start + 100], real=is_real)
        score.update(fake[start : start + 100])

    # Its own features in its own formula; but in float32, as it stands, that loses four digits.
    kid.real_features = [part.double() for part in kid.real_features]
    kid.fake_features = [part.double() for part in kid.fake_features]
    logits = features[0] @ ours.fc.weight.mT
    found = {
        "kid": (
            kernel_distance(features[0], features[1], 1, few).mean,
            float(kid.compute()[0]),
        ),
        "inception_score": (inception_score(logits, 1).mean, float(score.compute()[0])),
    }
    for name, (mine, theirs) in found.items():
        print(f"\n{name}: {mine}, theirs {theirs}")
        assert mine == pytest.approx(theirs, rel=1e-6), name
