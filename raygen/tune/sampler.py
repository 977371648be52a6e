"""Optuna, asked and told: it suggests, the journal remembers."""

import math
import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from raygen.config import Sampler as SamplerSpec
from raygen.config import Study
from raygen.metrics import METRICS
from raygen.space import Draw, sample

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Sampler:
    """An Optuna study in memory, and a copy on disk that optuna-dashboard can open live."""

    def __init__(self, study: Study, name: str, mirror: Path) -> None:
        self.space = study.space
        direction = METRICS[study.spec.objective].direction
        self.minimise = direction == "minimize"
        self.study = optuna.create_study(
            direction=direction, sampler=make_sampler(study.spec.sampler, study.spec.seed)
        )
        for point in study.start:
            self.study.enqueue_trial(point)
        self.trials: dict[int, optuna.Trial] = {}
        self.worst: float | None = None
        self._mirror = _Mirror(mirror, name, self.minimise)

    def suggest(self, number: int) -> Draw:
        """Draw the configuration of trial `number`."""
        trial = self.trials[number] = self.study.ask()
        draw = sample(self.space, trial)
        self._mirror.start(number, trial)
        return draw

    def report(self, number: int, kimg: float, value: float) -> None:
        """Tell of a value on the way."""
        if not math.isfinite(value):
            return
        self.trials[number].report(value, int(kimg * 1000))
        self._mirror.report(number, kimg, value)
        if self.worst is None or (value > self.worst) == self.minimise:
            self.worst = value

    def finish(self, number: int, state: str, value: float | None) -> None:
        """Tell how a trial ended; `value` is the best it had, if any.

        A stopped trial is told as complete with its value: on recorded GAN curves that was not
        worse than telling it as pruned. A diverged one, or one that did not fit into memory, is
        told as a violated constraint, so that its region is left; a lost one teaches nothing.
        """
        trial = self.trials.pop(number)
        lesson = state in ("diverged", "out_of_memory")
        if lesson:
            trial.set_constraint("trainable", 1.0)
            value = value if value is not None else self.worst
        if value is None or state in ("failed", "lost", "interrupted"):
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, value)
        self._mirror.finish(number, state, value)


def make_sampler(spec: SamplerSpec, seed: int) -> optuna.samplers.BaseSampler:
    """Return the Optuna sampler of a configuration."""
    if spec.name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # `group` is what makes a multivariate TPE sample conditional branches jointly.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=spec.startup_trials, multivariate=True, group=True
        )


class _Mirror:
    """A write-only copy of the study: nothing ever reads it back."""

    def __init__(self, path: Path, name: str, minimise: bool) -> None:
        self.storage = JournalStorage(JournalFileBackend(str(path)))
        direction = optuna.study.StudyDirection
        self.study = self.storage.create_new_study(
            [direction.MINIMIZE if minimise else direction.MAXIMIZE], name
        )
        self.ids: dict[int, int] = {}

    def start(self, number: int, trial: optuna.Trial) -> None:
        template = create_trial(
            state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions
        )
        self.ids[number] = self.storage.create_new_trial(self.study, template)

    def report(self, number: int, kimg: float, value: float) -> None:
        self.storage.set_trial_intermediate_value(self.ids[number], int(kimg * 1000), value)

    def finish(self, number: int, state: str, value: float | None) -> None:
        identity = self.ids.pop(number)
        self.storage.set_trial_user_attr(identity, "state", state)
        told = TrialState.FAIL
        if value is not None and state in ("completed", "stopped"):
            told = TrialState.COMPLETE if state == "completed" else TrialState.PRUNED
        values = [value] if told == TrialState.COMPLETE and value is not None else None
        self.storage.set_trial_state_values(identity, told, values)
