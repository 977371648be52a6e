"""Generated images that are as good as real ones teach as much, and noise teaches nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from apply.models import Fixed, Labelled
from raygen.apply.augment import Settings, measure_gain
from raygen.data import ImageData, Split
from raygen.errors import InputError
from raygen.metrics.classifier import train_classifier

STEPS = 40
COLOURS = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [130, 130, 130]])


def coloured(count: int, seed: int) -> Split:
    """Noise around the colour of the class: four classes that are learnt in a second."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    noise = torch.randint(-55, 56, (count, 3, 32, 32), generator=random)
    return Split((COLOURS[labels][:, :, None, None] + noise).byte(), labels)


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raygen.metrics.classifier.BATCH", 16)
        yield


@pytest.fixture(scope="module")
def data() -> ImageData:
    return ImageData("colours", tuple("rgbk"), coloured(400, 0), coloured(120, 1), "0" * 16)


@pytest.fixture(scope="module")
def good(data: ImageData) -> Any:
    """A "generator" that draws real images which nobody else has, of the class asked for."""
    model = Labelled(coloured(400, 2), 4)
    settings = Settings(samples=200, steps=STEPS, seeds=2, fractions=(0.1, 1.0))
    return measure_gain(model, data, True, settings)


@pytest.fixture(scope="module")
def noise(data: ImageData) -> Any:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (199, 3, 32, 32), dtype=torch.uint8, generator=random)
    model = Fixed(images, classes=4)
    return measure_gain(model, data, True, Settings(199, STEPS, seeds=1, fractions=(1.0,)))


def arm(found: Any, name: str, fraction: float = 1.0) -> Any:
    return next(
        each for each in found["arms"] if (each["arm"], each["fraction"]) == (name, fraction)
    )


def test_good_images_teach_as_much_as_real_ones(good: Any) -> None:
    assert arm(good, "real")["mean"] > 0.8
    assert arm(good, "generated")["mean"] > 0.8
    assert good["gan_train"]["mean"] == arm(good, "generated")["mean"]
    assert good["gan_test"]["mean"] > 0.8
    assert good["labels"] == "conditional"


def test_noise_teaches_nothing(noise: Any) -> None:
    assert noise["gan_test"]["mean"] < 0.4
    assert arm(noise, "generated")["mean"] < 0.5
    assert arm(noise, "real")["mean"] > 0.8


def test_the_gain_is_the_difference_of_the_two_arms(good: Any) -> None:
    for fraction in (0.1, 1.0):
        both, real = arm(good, "both", fraction), arm(good, "real", fraction)
        gain = arm(good, "gain", fraction)
        difference = [b - r for b, r in zip(both["values"], real["values"], strict=True)]
        assert gain["values"] == pytest.approx(difference, abs=2e-6)


def test_per_class_accuracies_average_to_the_whole(good: Any, data: ImageData) -> None:
    counts = torch.bincount(data.test.labels, minlength=4)
    for name in ("real", "generated", "both"):
        accuracies = torch.tensor([each[name] for each in good["classes"]])
        mean = float((accuracies * counts).sum() / counts.sum())
        assert mean == pytest.approx(arm(good, name)["mean"], abs=1e-5)


def test_a_model_without_classes_gets_the_labels_of_a_classifier_and_no_gan_test(
    data: ImageData,
) -> None:
    model = Fixed(coloured(100, 3).images)

    found = measure_gain(model, data, False, Settings(200, 5, seeds=1, fractions=(1.0,)))

    assert found["labels"] == "pseudo"
    assert found["gan_test"] is None
    assert all(each["gan_test"] is None for each in found["classes"])


def test_the_same_settings_give_the_same_result(data: ImageData) -> None:
    settings = Settings(100, 3, seeds=1, fractions=(0.1,))
    again = [measure_gain(Labelled(data.train, 4), data, True, settings) for _ in range(2)]

    assert again[0] == again[1]


def test_without_arguments_the_classifier_is_the_one_that_it_always_was(data: ImageData) -> None:
    states = [train_classifier(data, torch.device("cpu"), *more) for more in ((), (125, 0))]
    one, other = (state.state_dict() for state in states)

    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_class_without_images_and_a_single_class_are_refused(data: ImageData) -> None:
    labels = data.train.labels.clone()
    labels[labels == 3] = 2
    model, settings = Labelled(data.train, 4), Settings(100, 3, 1)
    with pytest.raises(InputError, match=f"no training image of class {data.classes[3]}"):
        measure_gain(model, data._replace(train=Split(data.train.images, labels)), True, settings)
    with pytest.raises(InputError, match="only one class"):
        measure_gain(model, data._replace(classes=("x",)), True, settings)
