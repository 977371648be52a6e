"""The classifier behind fd_classifier: learns, is the same every time, is trained once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from raygen.cache import cache_folder
from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.metrics import classifier
from raygen.metrics.classifier import FEATURES, Classifier, load_classifier, restore

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for what does not depend on how well it learns."""
    monkeypatch.setattr(classifier, "BATCH", 8)
    monkeypatch.setattr(classifier, "EPOCHS", 0)  # leaves the least number of steps


@pytest.fixture(scope="module")
def data() -> ImageData:
    train, test = (
        Split(*map(torch.from_numpy, draw_shapes(n, seed))) for n, seed in ((800, 0), (400, 1))
    )
    return ImageData("shapes", tuple(SHAPES), train, test, fingerprint(train, test))


def test_the_classifier_tells_ten_shapes_far_better_than_chance(
    data: ImageData,
) -> None:
    assert load_classifier(data, CPU)["accuracy"] >= 0.6


@pytest.mark.usefixtures("small_batches")
def test_training_twice_gives_equal_weights(data: ImageData) -> None:
    first = classifier.train_classifier(data, CPU).state_dict()
    torch.rand(5)
    second = classifier.train_classifier(data, CPU).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("small_batches")
def test_training_leaves_the_global_generator_as_it_was(data: ImageData) -> None:
    before = torch.get_rng_state()

    classifier.train_classifier(data, CPU)

    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.usefixtures("small_batches")
def test_a_second_call_takes_the_same_weights_from_the_cache(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_classifier(data, CPU)
    monkeypatch.setattr(classifier, "train_classifier", _must_not_train)

    second = load_classifier(data, CPU)

    assert first["accuracy"] == second["accuracy"]
    assert all(torch.equal(first["state"][k], second["state"][k]) for k in first["state"])


@pytest.mark.usefixtures("small_batches")
def test_other_data_has_another_classifier(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_classifier(data, CPU)
    monkeypatch.setattr(classifier, "train_classifier", _must_not_train)

    with pytest.raises(AssertionError, match="trained"):
        load_classifier(data._replace(fingerprint="of other pixels"), CPU)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("damage", [b"", b"hello"])
def test_a_damaged_cache_entry_is_made_again(data: ImageData, damage: bytes) -> None:
    first = load_classifier(data, CPU)
    (entry,) = cache_folder().iterdir()
    entry.write_bytes(damage)

    second = load_classifier(data, CPU)

    assert all(torch.equal(first["state"][k], second["state"][k]) for k in first["state"])


def test_a_restored_classifier_is_frozen_and_has_the_features_of_the_one_it_came_from() -> None:
    original = Classifier(7).eval()
    images = torch.rand(5, 3, 32, 32) * 2 - 1

    restored = restore(original.state_dict(), CPU)

    with torch.no_grad():
        assert torch.equal(restored.features(images), original.features(images))
    assert restored.features(images).shape == (5, FEATURES)
    assert restored(images).shape == (5, 7)
    assert not any(parameter.requires_grad for parameter in restored.parameters())


def test_features_of_an_image_do_not_depend_on_the_rest_of_its_batch() -> None:
    network = restore(Classifier(3).state_dict(), CPU)
    images = torch.rand(6, 3, 32, 32) * 2 - 1

    whole, alone = network.features(images), network.features(images[2:3])

    assert torch.allclose(whole[2:3], alone, atol=1e-6)


def _must_not_train(*_: object) -> None:
    raise AssertionError("trained")
