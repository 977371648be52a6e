"""How a model that was chosen is measured: on samples, and against images, that did not choose it.

The value by which it was chosen is the luckiest of many. The same plan serves the end of a search
and `raygen evaluate STUDY`, so that both give the same number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raygen.data import ImageData
from raygen.metrics import METRICS, too_few
from raygen.metrics.evaluator import SAMPLE_SEED, Evaluator
from raygen.metrics.extractors import too_few_real

# Of samples, from which on their cost, which grows with the square, is that of the training.
MOST_NEIGHBOURS = 10_000
NEIGHBOURS = ("recall", "coverage")  # what tells that a model draws some kinds of images only


class Plan(NamedTuple):
    """What is measured, from how many samples, of which seeds."""

    metrics: tuple[str, ...]
    samples: int
    seeds: tuple[int, ...]
    selected_by: int  # the first test images chose the model: a bound is of others, if there are
    left_out: dict[str, str]  # metric -> why it is not measured


def plan_afresh(info: Mapping[str, Any], data: ImageData) -> Plan:
    """Read from what a study records of itself how its models are measured afresh.

    What nobody asked for is left out where there are too few images for it.
    """
    finalists = info["finalists"]
    selected_by = int(info["evaluation"]["samples"])
    samples = int(finalists.get("samples") or selected_by)
    objectives = [objective["metric"] for objective in info["objectives"]]
    seeds = range(SAMPLE_SEED + 1, SAMPLE_SEED + 1 + int(finalists.get("sample_seeds") or 3))
    added = [name for name in _added(objectives, samples) if name in METRICS]
    reasons = {name: too_few(name, samples) or too_few_real(name, data) for name in added}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    fitting = [name for name in added if name not in left_out]
    metrics = tuple(dict.fromkeys((*objectives, *fitting, *(finalists.get("metrics") or ()))))
    return Plan(metrics, samples, tuple(seeds), selected_by, left_out)


def _added(objectives: Sequence[str], samples: int) -> list[str]:
    """What nobody asked for: the objectives against test images, recall and coverage if cheap."""
    added = [f"{name}_test" for name in objectives]
    features = METRICS[objectives[0]].extractor
    if features is not None and samples <= MOST_NEIGHBOURS:
        ending = "" if features == "inception" else f"_{features}"
        added += [f"{name}{ending}" for name in NEIGHBOURS]
    return added


def evaluator(plan: Plan, data: ImageData, device: Any, assets: dict[str, Any] | None) -> Evaluator:
    """Return what measures by a plan."""
    return Evaluator(plan.metrics, data, plan.samples, device, assets, plan.selected_by)
