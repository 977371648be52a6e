"""A generator that copies its training set is caught by every test, an independent one by none."""

from typing import Any

import pytest
import torch
from torch import Tensor

from apply.models import Fixed, shapes
from raygen.apply.audit import PAIRS, Membership, measure_copying
from raygen.apply.nearest import nearest, pixel_space
from raygen.data import ImageData, Split
from raygen.data.shapes import draw_shapes
from raygen.errors import InputError
from raygen.metrics.classifier import Classifier

SPACES = ("pixels", "features")


@pytest.fixture(scope="module")
def data() -> ImageData:
    return shapes(train=400, test=250)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(10).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def copied(data: ImageData, classifier: Classifier) -> Any:
    train = data.train.images

    def memory(images: Tensor, labels: Tensor) -> Tensor:
        return -nearest(pixel_space(torch.device("cpu"), flip=False), images, train).distance

    copier = Fixed(train, noise=3)
    return measure_copying(copier, data, classifier.features, True, 200, Membership("elbo", memory))


@pytest.fixture(scope="module")
def independent(data: ImageData, classifier: Classifier) -> Any:
    others = torch.from_numpy(draw_shapes(200, seed=2)[0])

    def brightness(images: Tensor, labels: Tensor) -> Tensor:
        return images.float().mean(dim=(1, 2, 3))

    model = Fixed(others)
    return measure_copying(
        model, data, classifier.features, True, 200, Membership("elbo", brightness)
    )


@pytest.mark.parametrize("space", SPACES)
def test_a_copier_is_caught_by_every_test(copied: Any, space: str) -> None:
    tests = copied.numbers["tests"][space]

    assert tests["near_duplicates"]["low"] > 0.9
    assert tests["near_duplicates"]["p"] < 1e-6
    assert tests["authentic"]["p"] < 1e-6
    assert tests["nearer_to_train"]["p"] < 1e-6
    assert tests["authentic"]["high"] < 0.2 < tests["authentic"]["held_out"]
    assert tests["copying"]["p"] < 1e-6
    assert tests["copying"]["c_t"] < -3
    assert tests["copying"]["c_t_p"] < 1e-6


@pytest.mark.parametrize("space", SPACES)
def test_an_independent_generator_is_caught_by_none(independent: Any, space: str) -> None:
    tests = independent.numbers["tests"][space]

    assert tests["near_duplicates"]["p"] > 0.01
    assert tests["exact_copies"] == 0
    assert tests["nearer_to_train"]["p"] > 0.01
    assert tests["authentic"]["p"] > 0.01
    assert tests["copying"]["p"] > 0.01
    assert tests["copying"]["c_t_p"] > 0.01


def test_membership_is_seen_in_a_score_that_remembers_and_not_in_one_that_does_not(
    copied: Any, independent: Any
) -> None:
    remembers, not_so = (found.numbers["membership"] for found in (copied, independent))

    assert remembers["auc"] == 1.0
    assert not_so["low"] < 0.5 < not_so["high"]


def test_the_pairs_of_a_copier_look_the_same(copied: Any) -> None:
    assert copied.pairs.shape == (4 * PAIRS, 3, 32, 32)
    generated, real = copied.pairs[: 2 * PAIRS : 2].int(), copied.pairs[1 : 2 * PAIRS : 2].int()

    assert int((generated - real).abs().max()) <= 3


def test_mirrored_copies_are_found_only_if_mirror_images_count(
    data: ImageData, classifier: Classifier
) -> None:
    train = data.train.images
    rates = [
        measure_copying(Fixed(train.flip(-1)), data, classifier.features, flip, 100, None).numbers[
            "tests"
        ]["pixels"]["exact_copies"]
        for flip in (False, True)
    ]

    assert rates[0] < 50
    assert rates[1] == 100


def test_too_few_held_out_images_are_refused(data: ImageData, classifier: Classifier) -> None:
    few = data._replace(test=Split(data.test.images[:20], data.test.labels[:20]))

    with pytest.raises(InputError, match="20 held-out images"):
        measure_copying(Fixed(data.train.images), few, classifier.features, False, 100, None)
