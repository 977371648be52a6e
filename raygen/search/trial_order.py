"""In which order the trials of a search stand while it runs."""

from collections.abc import Sequence

from raygen.config import StudySpec
from raygen.failure import why_useless
from raygen.image_shape import ImageShape
from raygen.journal.trials import TrialState
from raygen.metrics import METRICS
from raygen.search.pareto import nondominated_order


def in_order(spec: StudySpec, image: ImageShape, runs: Sequence[TrialState]) -> list[int]:
    """Return the numbers of those that have values, best first; see results.ranked.

    Several objectives are ordered by fronts. What drew nothing usable comes last.
    """
    directions = [METRICS[metric].direction for metric in spec.objectives]
    guess, minimise = METRICS[spec.objective].value_of_guess(image), directions[0] == "minimize"
    signs = [1.0 if way == "minimize" else -1.0 for way in directions]
    order: list[int] = []
    parts: tuple[list[TrialState], list[TrialState]] = [], []
    for run in runs:
        if run.values is not None:
            value = run.values[0]
            useless = why_useless(spec.family, run.variation, value, guess, minimise)
            parts[bool(useless)].append(run)
    for part in parts:
        points = [[s * v for s, v in zip(signs, run.values or [], strict=True)] for run in part]
        by_value = sorted(range(len(part)), key=points.__getitem__)
        places = nondominated_order(points) if len(signs) > 1 else by_value
        order += [part[place].number for place in places]
    return order
