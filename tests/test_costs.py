"""What workers cost, against sums by hand."""

import pytest
from pydantic import ValidationError

from raygen.config import StudySpec, worker_counts
from raygen.costs import dollars
from raygen.gpu_kinds import GPU_KINDS, check_kind
from raygen.resources import Resources
from raygen.trial import GanTrial


@pytest.mark.parametrize(
    ("worked", "gpus", "expected"),
    [
        ({"A10G": 3600}, 1.0, 1.2),
        ({"A10G": 3600}, 0.25, 0.3),  # four trials share it
        ({"A10G": 1800, "H100": 7200}, 1.0, 0.6 + 12.0),
        ({"": 7200}, 0.0, 0.1),  # workers without a GPU are of the kind CPU
        ({}, 1.0, 0.0),
        ({"T4": 3600}, 1.0, None),
        ({"": 3600}, 1.0, None),  # nobody said what kind it was
    ],
)
def test_dollars_are_hours_times_prices(
    worked: dict[str, float], gpus: float, expected: float | None
) -> None:
    paid = dollars(worked, {"A10G": 1.2, "H100": 6.0, "CPU": 0.05}, gpus)

    assert paid == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("gpus", "prices", "rule"),
    [
        (0, {}, "needs resources.prices"),
        (0, {"A10G": 1.2}, "without gpus needs a price of CPU"),
        (1, {}, "needs resources.prices"),
    ],
)
def test_a_budget_of_dollars_that_nobody_could_count_is_refused(
    gpus: int, prices: dict[str, float], rule: str
) -> None:
    study = {"family": "gan", "resources": {"gpus": gpus, "prices": prices}}
    with pytest.raises(ValidationError, match=rule):
        StudySpec.model_validate({**study, "budget": {"kimg": 1, "dollars": 5}})

    StudySpec.model_validate({**study, "budget": {"kimg": 1}})


def test_the_kinds_of_gpu_are_those_of_ray() -> None:
    from ray.util import accelerators

    names = {value for name, value in vars(accelerators).items() if name.isupper()}

    assert set(GPU_KINDS) == names
    assert [check_kind(name) for name in GPU_KINDS] == list(GPU_KINDS)


@pytest.mark.parametrize("kind", ["GeForce-RTX-4090", "H200", "B200", "our-gpus"])
def test_a_kind_that_ray_does_not_know_may_be_the_label_of_a_cluster(kind: str) -> None:
    resources = Resources.model_validate({"gpus": 1, "accelerator": kind, "prices": {kind: 1.2}})

    assert resources.accelerator == (kind,)


@pytest.mark.parametrize(
    ("kind", "meant"), [("A10g", "A10G"), ("NVIDIA-A10G", "A10G"), ("Tesla V100", "V100"),
                        ("m1_max", "M1-Max"), ("cpu", "CPU")],
)  # fmt: skip
def test_another_spelling_of_a_kind_of_rays_is_refused(kind: str, meant: str) -> None:
    for setting in ({"accelerator": [kind]}, {"prices": {kind: 1.2}}):
        with pytest.raises(ValueError, match=f"must be spelt as Ray does: '{meant}'"):
            Resources.model_validate({"gpus": 1, **setting})


def test_without_prices_nothing_is_said_of_dollars() -> None:
    assert dollars({"A10G": 1.0}, {}, 1.0) is None


def test_an_elastic_trial_has_as_many_workers_as_divide_its_batches() -> None:
    elastic = Resources.model_validate({"workers": {"min": 2, "max": 9}})

    assert worker_counts(GanTrial(batch_size=48), elastic) == [2, 3, 4, 6, 8]
    assert worker_counts(GanTrial(batch_size=48, accumulate=4), elastic) == [2, 3, 4, 6]
    assert worker_counts(GanTrial(batch_size=48), Resources(workers=3)) == [3]
