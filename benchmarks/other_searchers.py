"""Searchers of others behind the interface of a simulated search: Ray Tune's and Syne Tune's."""

import datetime
import importlib
import logging
import math
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from raygen.config import Study
from raygen.metrics import METRICS
from raygen.replay import Params, Step, merged
from raygen.space import sample

ASHA: Any = AsyncHyperBandScheduler  # its types say whole numbers; it takes kimg as well
ETA = 3


class PlainRay:
    """Ray Tune's scheduler and Optuna search, called as tune_controller.py calls them.

    Ray 2.60: a trial that ASHA stops is told as complete with its last value (lines 1427 and 1589),
    one whose value is nan is never stopped, and telling it raises inside of OptunaSearch, so that
    it stays running for ever.
    """

    def __init__(
        self,
        study: Study,
        sampler: str,
        full: bool,
        grace: float,
        milestones: tuple[float, ...],
        seed: int,
    ) -> None:
        """`sampler`: tpe or random; `full`: no trial is stopped; `grace`: the first rung."""
        self.study, budget = study, study.spec.budget.kimg
        self.mode = METRICS[study.spec.objective].direction[:3]
        self.scheduler: Any = None
        self.milestones = milestones
        if not full:
            self.scheduler = ASHA("kimg", "value", self.mode, budget, grace, reduction_factor=ETA)
            # As raygen does, it hears of a trial at its rungs and at the milestones of the table.
            steps = [grace * ETA**k for k in range(4)]
            rungs = [kimg for kimg in steps if kimg < budget * (1 - 1e-9)]
            self.milestones = merged((*rungs, budget), milestones)
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        self.search = OptunaSearch(
            self._space, "value", self.mode, sampler=kinds[sampler](seed=seed)
        )
        self.drawn: dict[str, Any] = {}
        self.trials: dict[int, _RayTrial] = {}
        self.values: dict[int, float] = {}

    def suggest(self) -> tuple[int, Params]:
        trial = _RayTrial(str(len(self.trials)))
        self.trials[len(self.trials)] = trial
        self.search.suggest(trial.trial_id)
        if self.scheduler:
            self.scheduler.on_trial_add(None, trial)
        return len(self.trials) - 1, self.drawn

    def reported(self, number: int, step: Step) -> bool:
        if step.broke:
            return False  # nobody looks before the next report
        trial = self.trials[number]
        trial.reports += 1
        result = {"kimg": step.kimg, "value": step.value, "training_iteration": trial.reports}
        self.values[number] = step.value
        stop = step.last
        if self.scheduler:
            stop = self.scheduler.on_trial_result(None, trial, result) == "STOP" or stop
        if stop:
            if self.scheduler:
                self.scheduler.on_trial_complete(None, trial, result)
            self.search.on_trial_complete(trial.trial_id, result)
        else:
            self.search.on_trial_result(trial.trial_id, result)
        return stop

    def chosen(self) -> int | None:
        """As ResultGrid.get_best_result: the best last value, nan and infinity left out."""
        finite = {n: value for n, value in self.values.items() if math.isfinite(value)}
        pick = min if self.mode == "min" else max
        return pick(finite, key=lambda number: finite[number]) if finite else None

    def _space(self, trial: Any) -> dict[str, Any]:
        draw = sample(self.study.space, trial)
        self.drawn = draw.parameters
        return draw.config


class _RayTrial:
    """What Ray's scheduler needs to know of a trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id, self.reports = trial_id, 0


class SyneTune:
    """Syne Tune's ASHA, BOHB and ASHA with CQR, over all parameters of all branches at once.

    Its resource is the number of a milestone. It knows no branches: a parameter of one that is not
    taken makes no difference.
    """

    def __init__(self, study: Study, kind: str, milestones: tuple[float, ...], seed: int) -> None:
        space_of = importlib.import_module("syne_tune.config_space")
        baselines = importlib.import_module("syne_tune.optimizer.baselines")
        self.new_trial = importlib.import_module("syne_tune.backend.trial_status").Trial
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed(seed)
        self.study, self.milestones = study, milestones
        space = {}
        for p in study.parameters:
            if p.choices is not None:
                space[p.name] = space_of.choice(list(p.choices))
            elif p.kind == "int":
                between = space_of.lograndint if p.log else space_of.randint
                space[p.name] = between(int(p.low or 0), int(p.high or 0))
            else:
                space[p.name] = (space_of.loguniform if p.log else space_of.uniform)(p.low, p.high)
        make = {"asha": "ASHA", "bohb": "BOHB", "cqr": "ASHACQR"}[kind]
        self.scheduler = getattr(baselines, make)(
            space, metric="value", time_attr="step", max_t=len(milestones),
            do_minimize=METRICS[study.spec.objective].direction == "minimize", random_seed=seed,
        )  # fmt: skip
        self.trials: list[Any] = []
        self.values: dict[int, float] = {}

    def suggest(self) -> tuple[int, Params]:
        config = self.scheduler.suggest().config
        number = len(self.trials)
        now = datetime.datetime.now()
        trial = self.new_trial(trial_id=number, config=config, creation_time=now)
        self.trials.append(trial)
        self.scheduler.on_trial_add(trial)
        return number, sample(self.study.space, _Given(config)).parameters

    def reported(self, number: int, step: Step) -> bool:
        trial = self.trials[number]
        if not math.isfinite(step.value):
            self.scheduler.on_trial_error(trial)
            return True
        self.values[number] = step.value
        index = int(np.argmin(np.abs(np.array(self.milestones) - step.kimg))) + 1
        result = {"value": float(step.value), "step": index}
        decision = self.scheduler.on_trial_result(trial, result)
        if step.last:
            self.scheduler.on_trial_complete(trial, result)
        return step.last or decision != "CONTINUE"

    def chosen(self) -> int | None:
        return min(self.values, key=lambda n: self.values[n]) if self.values else None


class _Given:
    """Answers a space with the values of a configuration."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
        return float(self.config[name])

    def suggest_int(self, name: str, low: int, high: int, **how: Any) -> int:
        return int(self.config[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.config[name]
