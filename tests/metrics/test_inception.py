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
from raygen.metrics import inception
from raygen.metrics.evaluate import Evaluator
from raygen.metrics.inception import find_weights, inception_features, load_inception

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

    with pytest.raises(InputError, match=r"pip install 'raygen\[fid\]', or use fd_classifier"):
        find_weights()


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
        find_weights()

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
        find_weights()


def test_weights_that_are_there_are_not_downloaded_again(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.hub, "download_url_to_file")

    assert find_weights() == installed


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

    features = inception_features(load_inception(CPU), images)

    assert features.shape == (4, 2048)
    assert features.std() > 0.01
    assert torch.equal(features, theirs(images)[0])


@pytest.mark.slow
def test_fid_is_that_of_torch_fidelity(
    installed: Path, random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_fidelity import calculate_metrics
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # The smallest images that pass through the network: 16 times faster, so that there can be
    # more of them than features. With fewer, a thousand eigenvalues are zero but for rounding.
    monkeypatch.setattr(FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)
    real, fake = (torch.from_numpy(draw_shapes(2300, seed)[0]) for seed in (0, 1))
    fake = 255 - fake // 2
    train, test = (Split(x, torch.zeros(len(x), dtype=torch.int64)) for x in (real, fake[:16]))
    data = ImageData("shapes", tuple(SHAPES), train, test, fingerprint(train, test))

    ours = Evaluator(("fid",), data, len(fake), CPU)(Replay(fake))["fid"]

    theirs = calculate_metrics(
        input1=Subset(real, range(len(real))),
        input2=Subset(fake, range(len(fake))),
        feature_extractor_weights_path=str(random_weights),
        fid=True,
        cuda=False,
        cache=False,
        batch_size=50,
        verbose=False,
    )
    assert ours.value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours.protocol["encoder_hash"] == inception.HASH
