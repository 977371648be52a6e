"""What a search needs before anything is started: room for a trial, data, weights of metrics."""

import json
import shlex

from raygen.cluster.capacity import no_place
from raygen.config import StudySpec
from raygen.data import ImageData, load_data
from raygen.errors import InputError
from raygen.metrics import METRICS
from raygen.metrics.evaluator import require, too_few_real
from raygen.notices import Notify, Phase

DOWNLOADED = ("inception", "dinov2")  # extractors whose weights come from elsewhere
OWN = {  # what is measured by them: the same by raygen's own classifier
    "fid": "fd_classifier",
    "fid_test": "fd_classifier_test",
    "fid_infinity": "fd_classifier_infinity",
    "kid": "kd_classifier",
    "mind": "mind_classifier",
    "precision": "precision_classifier",
    "recall": "recall_classifier",
    "density": "density_classifier",
    "coverage": "coverage_classifier",
}


def load_checked(spec: StudySpec, address: str | None, space: str, notify: Notify) -> ImageData:
    """Return the data, once it is clear that trials fit and every metric can be measured on it.

    Raises:
        InputError: all that is missing, a line each, and a command that does without.
    """
    missing, instead = [], [f"raygen tune {shlex.quote(space)}"]
    if shortage := no_place(spec, address):
        missing.append(shortage)
        instead.append("--cpu")
    metrics = tuple(dict.fromkeys((*spec.metrics, *spec.finalists.metrics)))
    try:
        require(metrics)
    except InputError as error:
        missing.append(str(error))
        instead += [f"--set {setting}" for setting in _without_weights(spec)]
    try:
        data = load_data(spec.data)
    except InputError as error:
        missing.append(str(error))
        if spec.data.path is None:
            instead.append("--set data.path=FOLDER_OF_IMAGES")
        raise InputError("\n".join(_with_way_out(missing, instead))) from error
    for metric in metrics:
        problem = too_few_real(metric, data)
        if problem is not None:
            missing.append(problem)
    if missing:
        raise InputError("\n".join(_with_way_out(missing, instead)))
    for note in data.notes:
        notify(Phase(note))
    return data


def _with_way_out(missing: list[str], instead: list[str]) -> list[str]:
    """What is missing, and the command that does without, if there is one."""
    return [*missing, f"to search without: {' '.join(instead)}"] if instead[1:] else missing


def _without_weights(spec: StudySpec) -> list[str]:
    """Settings that measure by raygen's own classifier what needs the weights of others."""

    def ours(name: str) -> str:
        return name if METRICS[name].extractor not in DOWNLOADED else OWN.get(name, "fd_classifier")

    settings = (
        [f"objective={ours(spec.objective)}"] if ours(spec.objective) != spec.objective else []
    )
    lists = {
        "evaluation.metrics": spec.evaluation.metrics,
        "finalists.metrics": spec.finalists.metrics,
        "trade_off": spec.trade_off,
    }
    for setting, names in lists.items():
        if (changed := [ours(name) for name in names]) != list(names):
            settings.append(f"{setting}={json.dumps(changed)}")
    return [shlex.quote(setting) for setting in settings]
