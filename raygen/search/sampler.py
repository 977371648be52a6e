"""Optuna by ask and tell: it suggests, the journal remembers.

The random numbers of a suggestion follow from the study's seed and the trial's number: a sampler of
Optuna's is made afresh for each, and `curve` is told both. So a suggestion is a function of the
journal so far, and the same after any crash.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from raygen.config import Study
from raygen.document import brief
from raygen.errors import InputError, RaygenError
from raygen.metrics import METRICS, Direction
from raygen.plugins import place_of
from raygen.search.curve import CurveSampler, from_unit, sobol_point
from raygen.search.curve.sampler import BY, EARLIER, ERROR, IGNORED, KERNEL, REPORTS
from raygen.search.mirror import Mirror
from raygen.search.own_sampler import make_own, takes_seed
from raygen.search_settings import SamplerSpec as SamplerSpec
from raygen.seeds import derive
from raygen.space import Draw, Group, Parameter, conditions, parameters, sample

optuna.logging.set_verbosity(optuna.logging.WARNING)

# What Optuna hears of a trial that was stopped early, by the replay of benchmarks/search_quality.
STOPPED = TrialState.COMPLETE
GENETIC = ("nsga2", "nsga3")
REDRAWS, OWN_REDRAWS = 100, 5


class Suggestion(NamedTuple):
    """A configuration; `by` is start, warm, startup, design, or the name of the sampler.

    `kernel`: the hyperparameters that were fitted for it, if some were.
    """

    draw: Draw
    by: str
    kernel: list[float] | None = None


class Sampler:
    """An Optuna study in memory, and a copy on disk that optuna-dashboard can open live."""

    def __init__(
        self,
        study: Study,
        name: str,
        mirror: Path | None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`mirror` is where the copy goes; `tell` hears that it could not be written."""
        self.space, self.spec, self.seed = study.space, study.spec.sampler, study.spec.seed
        self.start = study.start
        self.directions: list[Direction] = [METRICS[m].direction for m in study.spec.objectives]
        self.storage = InMemoryStorage()
        self.study = optuna.create_study(storage=self.storage, directions=self.directions)
        self.study_id = self.storage.get_study_id_from_name(self.study.study_name)
        if (
            study.spec.sampler.others
        ):  # of which some end a study that is searched: here they may not
            self.study._thread_local.in_optimize_loop = True
        self.trials: dict[int, optuna.Trial] = {}  # those that run
        self.drawn: set[tuple[Any, ...]] = set()
        self.worst: list[float] | None = None
        ours = not self.spec.others
        self.curve = make_curve_sampler(study) if ours and self.spec.name == "curve" else None
        # Whether a suggestion follows from the seed, the number of the trial and those before it.
        self.reproducible = ours or takes_seed(self.spec)
        if not self.reproducible:
            tell(f"sampler {self.spec.called} takes no seed: its suggestions cannot be repeated")
        self._mirror = Mirror(mirror, name, self.directions, tell) if mirror else None

    def draw(self, number: int, point: dict[str, Any] | None = None) -> Suggestion:
        """Draw the configuration of a trial.

        `point` sets some parameters; what it leaves out is sampled. Nothing is remembered before
        `add`. A configuration that was drawn before is drawn again, unless a point sets it or the
        space has no other.
        """
        fixed = point
        if fixed is None and number < len(self.start):
            fixed = self.start[number]
        suggestion = self._ask(number, 0, fixed)
        for attempt in range(1, REDRAWS):
            if fixed or _key(suggestion.draw.parameters) not in self.drawn:
                break
            suggestion = self._ask(number, attempt, None)
        if fixed is not None:
            suggestion = suggestion._replace(by="warm" if point else "start")
        return suggestion

    def add(
        self,
        number: int,
        params: dict[str, Any],
        by: str | None = None,
        kernel: list[float] | None = None,
    ) -> None:
        """Remember that a trial runs with these parameters, and how they were suggested."""
        attributes = {BY: by, KERNEL: kernel}
        attributes = {name: value for name, value in attributes.items() if value is not None}
        template = _frozen(self.space, params, TrialState.RUNNING, None, attributes)
        identity = self.storage.create_new_trial(self.study_id, template)
        trial = optuna.Trial(self.study, identity)
        if self.spec.others or self.spec.name in GENETIC:
            # Some keep notes with a trial as they sample it: of its generation, of its parents.
            sampler = make_sampler(self.spec, self.space, self.seed, number, 0)
            frozen = self.storage.get_trial(identity)
            relative = sampler.infer_relative_search_space(self.study, frozen)
            sampler.sample_relative(self.study, frozen, relative)
        self.trials[number] = trial
        self.drawn.add(_key(params))
        if self._mirror:
            self._mirror.start(number, trial)

    def learn(self, params: dict[str, Any], values: Sequence[float]) -> None:
        """Add a finished trial of an earlier study."""
        earlier = {EARLIER: True}
        self.study.add_trial(_frozen(self.space, params, TrialState.COMPLETE, values, earlier))

    def report(
        self,
        number: int,
        kimg: float,
        values: Sequence[float],
        best: Sequence[float] | None = None,
        sd: float | None = None,
    ) -> None:
        """Add the objectives of a milestone; `best`: those of the best so far, and the error of it.

        The sampler learns from the best so far, which begins anew where evaluations change.
        """
        if not all(math.isfinite(value) for value in values):
            return
        step, best = round(kimg * 1000), values if best is None else best
        trial = self.trials[number]
        if len(values) == 1:  # Optuna keeps intermediate values of one objective only
            trial.report(best[0], step)
            if self._mirror:
                self._mirror.report(number, kimg, values[0])
        if self.curve:
            notes = {REPORTS: list(best)} if len(values) > 1 else {}
            notes |= {ERROR: sd} if sd is not None else {}
            for name, note in notes.items():
                kept = {**self.storage.get_trial(trial._trial_id).system_attrs.get(name, {})}
                self.storage.set_trial_system_attr(trial._trial_id, name, {**kept, str(step): note})
        worst = self.worst or values
        pick = {"minimize": max, "maximize": min}
        self.worst = [
            pick[way](pair) for way, *pair in zip(self.directions, worst, values, strict=True)
        ]

    def finish(self, number: int, state: str, values: Sequence[float] | None) -> None:
        """Tell how a trial ended; `values` are the best it had, if any.

        A trial that diverged, ran out of memory or failed counts as a violated constraint, so that
        the sampler avoids its region; a lost one teaches nothing.
        """
        trial = self.trials.pop(number)
        if self.spec.others:  # which may keep more as it is told
            self.study.sampler = make_sampler(self.spec, self.space, self.seed, number, 0)
        if state in ("diverged", "out_of_memory", "failed"):
            # Optuna's Gaussian process wants a constraint of all trials or none: a second model of
            # its own. To it they are as good as the worst.
            if self.spec.name != "gp":
                trial.set_constraint("trainable", 1.0)
            values = values if values is not None else self.worst
        if values is None or state == "lost":
            self.storage.set_trial_system_attr(trial._trial_id, IGNORED, True)
            self.study.tell(trial, state=TrialState.FAIL)
        elif state == "stopped" and (self.curve or STOPPED == TrialState.PRUNED or len(values) > 1):
            # A front is of full trainings only: values of a low rung may not enter it.
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, list(values))
        if self._mirror:
            self._mirror.finish(number, state, values)

    def _ask(self, number: int, attempt: int, fixed: dict[str, Any] | None) -> Suggestion:
        """Ask a throwaway trial, so that what is drawn but not used leaves no trace."""
        uniform = attempt > OWN_REDRAWS
        spec = SamplerSpec(name="random") if uniform else self.spec
        if self.curve and not uniform:
            self.curve.turn = number, attempt
            self.study.sampler = self.curve
        else:
            self.study.sampler = make_sampler(spec, self.space, self.seed, number, attempt)
        if fixed is not None:
            self.study.enqueue_trial(fixed)
        try:
            trial = self.study.ask()
            draw = sample(self.space, trial)
            attributes = self.storage.get_trial(trial._trial_id).system_attrs
            self.storage.set_trial_system_attr(trial._trial_id, IGNORED, True)
            self.study.tell(trial, state=TrialState.FAIL)
        except Exception as error:
            if not spec.others:
                raise
            # Whatever its author raises, now or only once there are trials to learn from.
            raise RaygenError(f"sampler {spec.called}: {place_of(error)}") from error
        by = attributes.get(BY) or self._author()
        return Suggestion(draw, by, attributes.get(KERNEL))

    def _author(self) -> str:
        if self.curve:  # a redraw
            return "design"
        random = self.spec.name in ("tpe", "gp")
        completed = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        early = random and len(completed) < self.spec.startup_trials
        return "startup" if early else self.spec.called


REHEARSED = 4  # trials: some samplers import what they need only once there are some


def check_sampler(study: Study) -> None:
    """Let a sampler of others suggest a few trials of the space, which end with the same values.

    Raises:
        InputError: it cannot be made, or does not take the space.
    """
    if not study.spec.sampler.others:
        return
    sampler = Sampler(study, "", None)
    values = [1.0] * len(study.spec.objectives)
    try:
        for number in range(REHEARSED):
            sampler.add(number, sampler.draw(number).draw.parameters)
            sampler.finish(number, "completed", values)
    except InputError:
        raise
    except RaygenError as error:
        raise InputError(str(error)) from error


def make_curve_sampler(study: Study) -> CurveSampler:
    """Return the sampler that reads the curves of a study."""
    spec = study.spec
    return CurveSampler(
        seed=spec.seed,
        levels=[round(kimg * 1000) for kimg in spec.rungs],
        space={parameter.name: _distribution(parameter) for parameter in parameters(study.space)},
        conditions=conditions(study.space),
        priors=study.start,
        confidence=spec.sampler.prior,
        startup_trials=spec.sampler.startup_trials,
        design_share=spec.sampler.design_share,
        best_so_far=False,
    )


def _distribution(parameter: Parameter) -> BaseDistribution:
    """What a parameter is to Optuna."""
    first = parameter.ends()[0]
    recall = _Recall({parameter.name: first})
    parameter.suggest(recall)
    return recall.distributions[parameter.name]


def make_sampler(
    spec: SamplerSpec, space: Group, seed: int, number: int, attempt: int
) -> optuna.samplers.BaseSampler:
    """Return the Optuna sampler that draws one trial; of curve see `make_curve_sampler`."""
    derived = derive(seed, "sampler", number, attempt)
    with warnings.catch_warnings():
        # `group` is what makes a multivariate TPE sample conditional branches jointly.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match "" if spec.others else spec.name:
            case "random":
                return optuna.samplers.RandomSampler(seed=derived)
            case "quasi_random":
                return QuasiRandom(parameters(space), seed, number)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(population_size=spec.population, seed=derived)
            case "nsga3":
                return optuna.samplers.NSGAIIISampler(population_size=spec.population, seed=derived)
            case "gp":
                return optuna.samplers.GPSampler(seed=derived, n_startup_trials=spec.startup_trials)
            case "tpe":
                return optuna.samplers.TPESampler(
                    seed=derived,
                    n_startup_trials=spec.startup_trials,
                    multivariate=True,
                    group=True,
                )
            case "curve":
                raise AssertionError("one sampler draws all trials of a study")
            case _:
                return make_own(spec, derived)


class QuasiRandom(optuna.samplers.BaseSampler):
    """Trial n takes the n-th point of a scrambled Sobol sequence (Owen 1995).

    One dimension per parameter, those of branches that are not taken included: so the points of a
    conditional space cover every branch evenly, whatever the order in which trials finish.
    """

    def __init__(self, searched: list[Parameter], seed: int, number: int) -> None:
        self.names = [parameter.name for parameter in searched]
        if not self.names:
            return  # nothing is ever asked
        self.point = sobol_point(len(self.names), seed, number).tolist()

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: Any,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return from_unit(param_distribution, self.point[self.names.index(param_name)])


class _Recall:
    """Answers with what was drawn before, and notes the distribution: a Suggest for rebuilding."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._recall(name, FloatDistribution(low, high, log=log, step=step))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._recall(name, IntDistribution(low, high, log=log, step=step))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._recall(name, CategoricalDistribution(choices))

    def _recall(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        return self.params[name]


def _frozen(
    space: Group,
    params: dict[str, Any],
    state: TrialState,
    values: Sequence[float] | None,
    attributes: dict[str, Any] | None = None,
) -> FrozenTrial:
    """A trial as Optuna keeps it.

    Raises:
        InputError: the parameters are not of this space.
    """
    recall = _Recall(params)
    try:
        sample(space, recall)
        return create_trial(
            state=state,
            params=params,
            distributions=recall.distributions,
            values=list(values) if values is not None else None,
            system_attrs=attributes,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"params: not of this search space: {brief(str(error))}") from error


def _key(params: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted((name, repr(value)) for name, value in params.items()))
