"""A study read back: its facts and tables, without Ray, Optuna or torch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from raygen.costs import dollars
from raygen.study_folder import StudyFolder

TRIAL_COLUMNS = [
    "trial", "state", "reason", "value", "best_kimg", "kimg", "seconds", "seed", "node",
    "variation", "from_kimg", "dollars",
]  # fmt: skip
HISTORY_COLUMNS = ["trial", "kimg", "seconds", "images_per_second"]
ERROR = ".sd"  # ends the column of a metric's standard error in the history
RUNG_COLUMNS = ["trial", "kimg", "value", "cutoff", "band", "peers", "decision"]
REPLICATE_COLUMNS = [
    "trial", "of", "seed", "state", "reason", "value", "best_kimg", "kimg", "seconds", "variation",
]  # fmt: skip
RUN_COLUMNS = [
    "trial", "attempt", "of", "state", "node", "device", "workers", "accelerator", "start", "stop",
]  # fmt: skip
CHECKPOINT_COLUMNS = ["trial", "role", "kimg", "collected", "bytes"]


class Results(NamedTuple):
    """A study read back: what was asked, and one table per question.

    `replicates` are the finalists trained again with other seeds: they are in no other table.
    `values` has every objective of a trial at the milestone at which the first was best.
    """

    folder: StudyFolder
    info: dict[str, Any]
    trials: pd.DataFrame
    history: pd.DataFrame
    rungs: pd.DataFrame
    configs: dict[int, dict[str, Any]]  # by trial, nested as they were sampled
    replicates: pd.DataFrame
    values: pd.DataFrame
    checkpoints: pd.DataFrame  # of all trials; `collected`: deleted to save `bytes`
    runs: pd.DataFrame  # every attempt of trials and replicates, from `start` to `stop` (time)

    @property
    def metric(self) -> str:
        return self.info["objective"]["metric"]

    @property
    def minimise(self) -> bool:
        return self.info["objective"]["direction"] == "minimize"

    @property
    def objectives(self) -> list[dict[str, str]]:
        """Metric and direction of each objective; the first is the one that ranks."""
        return objectives_of(self.info)

    def spent(self, column: str) -> float:
        """What all trainings took, replicates included: of `seconds` or of `kimg`."""
        inherited = self.trials["from_kimg"].sum() if column == "kimg" else 0.0
        spent = float(self.trials[column].sum() + self.replicates[column].sum() - inherited)
        return round(spent, 6)  # as exact as milestones: 3 x 0.1 is 0.3

    @property
    def copies(self) -> int:
        """Trials of a population that began as copies of others."""
        return int((self.trials["from_kimg"] > 0).sum())

    @property
    def begun(self) -> int:
        """Trials without those copies: what the budget of trials is of."""
        return len(self.trials) - self.copies

    @property
    def evaluating(self) -> float | None:
        """The share of the trainings' time that evaluations took; None if nothing tells."""
        seconds, spent = self.info.get("evaluation_seconds"), self.spent("seconds")
        return None if seconds is None or spent <= 0 else min(1.0, seconds / spent)

    @property
    def grows(self) -> bool:
        """Whether trials are measured with more samples from rung to rung."""
        return bool(self.info["evaluation"].get("first_samples"))

    @property
    def metrics(self) -> list[str]:
        """The columns of `history` that are metrics."""
        columns = (c for c in self.history.columns if c not in HISTORY_COLUMNS)
        return [column for column in columns if not column.endswith(ERROR)]

    @property
    def settings(self) -> list[str]:
        """The columns of `trials` that are settings of the trial."""
        return [column for column in self.trials.columns if column not in TRIAL_COLUMNS]


def most_workers(info: Mapping[str, Any]) -> int:
    """The most workers of a trial of a study with these facts."""
    workers = info["resources"].get("workers") or 1
    return int(workers["max"] if isinstance(workers, Mapping) else workers)


def gpus_of(info: Mapping[str, Any]) -> float:
    """The GPUs of a worker, or its share of one, of a study with these facts."""
    gpus = info["resources"].get("gpus")
    return float(gpus) if isinstance(gpus, int | float) else 0.0


def dollars_of(info: Mapping[str, Any], worked: Mapping[str, float]) -> float | None:
    """What seconds of workers, by the kind of their GPU, cost; None without its price."""
    return dollars(worked, info["resources"].get("prices") or {}, gpus_of(info))


def objectives_of(info: Mapping[str, Any]) -> list[dict[str, str]]:
    """Metric and direction of each objective of a study with these facts."""
    return info["objectives"]
