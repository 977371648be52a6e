"""A sampler that reads learning curves: a suggestion follows from all the curves so far."""

import math
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import optuna
import torch
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from raygen.search.curve.coding import BELOW_ONE, Coding, from_unit, inferred_conditions
from raygen.search.curve.gaussian_process import (
    GaussianProcess,
    Kernel,
    fitted,
    log_expected_improvement,
)
from raygen.search.curve.observation import (
    EARLIER_STUDY,
    ENDED,
    INFEASIBLE,
    RUNNING,
    Observed,
    Rows,
    advantage,
    observe,
)

Array = np.ndarray
Study = optuna.study.Study

# Attributes of a trial, kept by Optuna's storage. One that is IGNORED was never there.
BY, KERNEL, ERROR, EARLIER, REPORTS, IGNORED = (
    f"curve:{name}" for name in ("by", "kernel", "error", "earlier", "reports", "ignored")
)
DESIGN, MODEL = "design", "curve"

LEAST_TRIALS = 4  # with a value, before anything is modelled
# At most: they bound the cost of a suggestion.
FIT_POINTS, MODEL_POINTS, PENDING_POINTS = 150, 220, 100
REFIT_GROWTH = 12  # the kernel is fitted again once the data grew by a twelfth
UNIFORM, MUTATIONS, REFINED = 600, 400, 200  # candidates
PENDING_VARIANCE = 1e-3
PRIOR_SPREAD = 0.2  # of a starting point's neighbourhood, in units of a range


class CurveSampler(optuna.samplers.BaseSampler):
    """Bayesian optimisation on learning curves that were cut short at different lengths.

    Report intermediate values, stop trials by any pruner, and this sampler learns from each what it
    would have reached: a chain of regressions from level to level carries it on to the full budget,
    with the variance that this adds. The value that a complete trial returns is its value there. A
    Gaussian process over these chooses by augmented expected improvement (Huang et al. 2006) over
    the lowest mean. What a design of Sobol points takes of the compute is never modelled away, so
    it is at worst a quasi-random search with the rest.

    What it suggests for a trial depends on the trials of the study, `seed` and the trial's number
    alone. Several objectives are scalarised anew for each trial (ParEGO, Knowles 2006). Trials with
    a violated constraint (`Trial.set_constraint`), a last value that is not finite, or an exception
    before the first report count as bad.

        sampler = CurveSampler(seed=0, levels=[1, 3, 9, 27])
        study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.HyperbandPruner())

    In the trial's system attributes stand who suggested it (`curve:by`: design or curve) and the
    fitted hyperparameters, from which the next fit starts.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        levels: Sequence[int] = (),
        space: Mapping[str, BaseDistribution] | None = None,
        conditions: Mapping[str, Mapping[str, Any]] | None = None,
        priors: Sequence[Mapping[str, Any]] = (),
        confidence: float = 1.0,
        startup_trials: int = 12,
        design_share: float = 1 / 3,
        best_so_far: bool = True,
    ) -> None:
        """`levels` are the steps at which curves are compared, ascending; the last is the budget.

        By default they are a factor of three apart, down from the highest step reported. `space`
        holds every parameter of every branch, and `conditions` which values others must have for
        one to exist; by default the space is what trials have asked for, without conditions.
        `priors` are settings known to be good, complete or not: their neighbourhood is preferred
        with a `confidence` (0: not at all) that fades as trials end, and at once where others do
        better.
        `best_so_far`: a trial is worth the best it has reported, and not the last.

        Raises:
            ValueError: an argument is out of its range, or a prior is not of `space`.
        """
        _check_arguments(seed, levels, confidence, startup_trials, design_share)
        self.seed, self.levels, self.priors = seed, tuple(levels), list(priors)
        self.confidence, self.best_so_far = confidence, best_so_far
        self.startup_trials, self.design_share = startup_trials, design_share
        self.space = dict(space) if space is not None else None
        self.conditions = conditions
        self.coding = Coding(self.space, conditions) if self.space else None
        self.turn: tuple[int, int] | None = None  # number and attempt, where they are not Optuna's
        for prior in self.priors:
            for name, value in prior.items():
                if space is not None and not _possible(space, name, value):
                    raise ValueError(f"priors: {name}={value!r} is not of the space")
        self._study: tuple[Any, ...] | None = None
        self._lock = threading.RLock()  # Optuna asks from several threads where n_jobs says so
        # Of trials that ended, which never change: read once.
        self._ended: Rows | None = None
        self._read_before: set[int] = set()
        # So many trials of the storage, from its first, need not be looked at again; and the last
        # of them with a kernel: its number and that.
        self._settled = 0
        self._settled_kernel: tuple[int, list[float]] | None = None
        self._drawn: set[bytes] = set()
        # Of trials that have been given parameters, but may not have asked for them yet.
        self._given: dict[int, dict[str, Any]] = {}
        self._cached_levels: tuple[int, ...] = ()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        if self.space is not None:
            return self.space
        space: dict[str, BaseDistribution] = {}
        for other in _all_trials(study):
            space |= other.distributions  # of a range that was widened, the widest comes last
        return space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        storage, identity = study._storage, trial._trial_id
        with self._lock:
            coding = self._coding_of(study, search_space)
            point, by, kernel = self._choose(study, trial, coding)
            self._given[identity] = params = coding.params(point)
            storage.set_trial_system_attr(identity, BY, by)
            if kernel is not None:
                storage.set_trial_system_attr(identity, KERNEL, kernel)
        return params

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        place = zlib.crc32(param_name.encode())  # of a parameter that nobody has asked for before
        u = np.random.default_rng([self.seed, trial.number, place]).random()
        return from_unit(param_distribution, float(u))

    # Choosing

    def _choose(
        self, study: Study, trial: FrozenTrial, coding: Coding
    ) -> tuple[Array, str, list[float] | None]:
        """The point of a trial, who chose it, and the kernel if it was fitted for it."""
        number, attempt = self.turn or (trial.number, 0)
        random = np.random.default_rng([self.seed, number, attempt])
        everything = _all_trials(study)
        unsettled = everything[self._settled :]
        running = {other._trial_id for other in unsettled if not other.state.is_finished()}
        self._given = {key: params for key, params in self._given.items() if key in running}
        trials = [
            other
            for other in unsettled
            if other._trial_id != trial._trial_id
            and IGNORED not in other.system_attrs
            and (other.state.is_finished() or other.params or other._trial_id in self._given)
        ]
        signs = np.array(
            [
                1.0 if way == optuna.study.StudyDirection.MINIMIZE else -1.0
                for way in study.directions
            ]
        )
        rows = self._read(trials, signs, coding)
        before = self._kernel_before(trials)
        if self.levels:  # or those that follow from all trials may change
            self._settle(unsettled)
        observed = None
        if rows is not None and number >= self.startup_trials and not self._owes_design(rows):
            observed = observe(rows, random)
        if rows is None or observed is None:
            return self._design_point(rows, attempt, random, coding), DESIGN, None
        kernel, changed = self._kernel(before, rows, observed, coding)
        kept = _thinned(observed.y, MODEL_POINTS, random)
        observed = Observed(*(each[kept] for each in observed))
        point = self._best_candidate(rows, observed, kernel, random, coding)
        fit = [*kernel.vector().tolist(), float(changed)] if changed else None
        return point, MODEL, fit

    def _owes_design(self, rows: Rows | None) -> bool:
        """Whether the design has had less than its share of the compute."""
        if rows is None or rows.valued.sum() < LEAST_TRIALS:
            return True
        least = self._cached_levels[0] if self._cached_levels else 1
        spent = np.maximum(rows.spent, least)  # also where it broke before that
        ours = rows.suggested & (rows.states != EARLIER_STUDY)
        return spent[ours & rows.design].sum() < self.design_share * spent[ours].sum()

    def _design_point(
        self, rows: Rows | None, attempt: int, random: np.random.Generator, coding: Coding
    ) -> Array:
        """The next point of a scrambled Sobol sequence (Owen 1995)."""
        if attempt:
            return coding.snapped(random.random((1, len(coding))))[0]
        index = 0 if rows is None else int(rows.design.sum())
        return coding.snapped(sobol_point(len(coding), self.seed, index)[None])[0]

    def _kernel_before(self, trials: Sequence[FrozenTrial]) -> tuple[int, list[float]] | None:
        """The number of the last trial for which a kernel was fitted, and that."""
        kernels = [(other.number, other.system_attrs.get(KERNEL)) for other in trials]
        given = [(number, kernel) for number, kernel in kernels if kernel is not None]
        if self._settled_kernel is not None:
            given.append(self._settled_kernel)
        return max(given, default=None)

    def _settle(self, unsettled: Sequence[FrozenTrial]) -> None:
        """Pass over the first of them that have ended: what they say has been read."""
        passed = list(takewhile(lambda trial: trial.state.is_finished(), unsettled))
        self._settled += len(passed)
        heard = [trial for trial in passed if IGNORED not in trial.system_attrs]
        self._settled_kernel = self._kernel_before(heard)

    def _kernel(
        self,
        before: tuple[int, list[float]] | None,
        rows: Rows,
        observed: Observed,
        coding: Coding,
    ) -> tuple[Kernel, int]:
        """The kernel to use, and the number of values it was fitted to, if it is new."""
        size = len(observed.y)
        kernel, old_size = Kernel.prior(len(coding)), 0
        if before is not None:
            *numbers, old_size = before[1]
            if len(numbers) == len(coding) + 2:
                kernel = Kernel.of(np.array(numbers))
            if old_size <= size < old_size + max(1, old_size / REFIT_GROWTH):
                return kernel, 0
        kept = _thinned(observed.y, FIT_POINTS)
        places, y, variances = (each[kept] for each in observed)
        return fitted(kernel, rows.features[places], y, variances, coding.nominal), size

    def _best_candidate(
        self,
        rows: Rows,
        observed: Observed,
        kernel: Kernel,
        random: np.random.Generator,
        coding: Coding,
    ) -> Array:
        """The point of the highest augmented expected improvement that was not suggested yet.

        Or that was, where the space has no other.
        """
        places, y, variances = observed
        x = rows.features[places]
        model = GaussianProcess(kernel, x, y, variances, coding.nominal)
        means = model.fit
        best = float(means.min())
        there = rows.features[(rows.states == RUNNING) & ~rows.valued]
        if len(there):  # believed at their mean (kriging believer, Ginsbourger et al. 2010)
            believed = model.predict(there)[0]
            promising = np.argsort(believed, kind="stable")[:PENDING_POINTS]
            there, believed = there[promising], believed[promising]
            model = GaussianProcess(
                kernel, np.vstack([x, there]), np.concatenate([y, believed]),
                np.concatenate([variances, np.full(len(there), PENDING_VARIANCE)]), coding.nominal,
            )  # fmt: skip
        preference = self._preference(rows, coding)

        def merit(points: Array) -> Array:
            features = coding.features(points)
            mean, sd = model.predict(features)
            merit = log_expected_improvement(mean, sd, best)
            merit += _augmentation(sd, model.noise)
            return merit + preference(features)

        top = rows.points[places[np.argsort(means, kind="stable")[:10]]]
        starts = [coding.point(prior) for prior in self._priors_of(coding)]
        top = np.vstack([top, *starts]) if starts else top
        spread = np.repeat(top, max(1, MUTATIONS // len(top)), axis=0)
        points = coding.snapped(
            np.vstack(
                [random.random((UNIFORM, len(coding))), _mutated(spread, 0.2, random, coding)]
            )
        )
        merits = merit(points)
        for scale in (0.08, 0.02):
            top = points[np.argsort(-merits, kind="stable")[:5]]
            near = _mutated(np.repeat(top, REFINED // 5, axis=0), scale, random, coding)
            near = coding.snapped(near)
            points, merits = np.vstack([points, near]), np.concatenate([merits, merit(near)])
        running = {_key(features) for features in rows.features[rows.states == RUNNING]}
        order = np.argsort(-merits, kind="stable")
        for index in order:
            key = _key(coding.features(points[index][None])[0])
            if key not in running and key not in self._drawn:
                return points[index]
        return points[order[0]]

    def _preference(self, rows: Rows, coding: Coding) -> Callable[[Array], Array | float]:
        """The log density of the priors, weighted by what is still believed of them.

        As the expected improvement is multiplied by a prior to the power of confidence / trials in
        Hvarfner et al. 2022 (piBO). Overruled by the data as in Mallik et al. 2023 (PriorBand): by
        the share of the other trials that the best prior beats, where half of them is no advantage.
        """
        priors = self._priors_of(coding)
        if not priors or not self.confidence:
            return lambda features: 0.0
        valued = np.flatnonzero(rows.valued & (rows.states != EARLIER_STUDY))
        places = np.array([coding.features(coding.point(p)[None])[0] for p in priors])
        # What a prior leaves out is as good anywhere.
        given = np.array([[name in prior for name in coding.names] for prior in priors], bool)
        full = max(self.startup_trials, 1)  # trials before the confidence fades
        weight = self.confidence * full / max(len(valued), full)
        weight *= advantage(rows.features[valued], rows.levels[valued, 0], places, given)

        def preference(features: Array) -> Array:
            apart = features[:, None, :] - places
            apart = np.where(coding.nominal, 0.5 * (apart != 0), apart) * given
            near = -0.5 * np.square(apart / PRIOR_SPREAD).sum(axis=2) / given.sum(axis=1)
            return weight * len(coding) / 2 * near.max(axis=1)

        return preference if weight else lambda features: 0.0

    def _priors_of(self, coding: Coding) -> list[Mapping[str, Any]]:
        """Those that say something of the space."""
        return [prior for prior in self.priors if any(name in prior for name in coding.names)]

    # Reading

    def _coding_of(self, study: Study, space: dict[str, BaseDistribution]) -> Coding:
        """The coding of the space, made again where it or the study is another one."""
        conditions = self.conditions
        if self.space is None and conditions is None:
            conditions = inferred_conditions(_all_trials(study), space)
        identity = id(study._storage), study._study_id, study.study_name
        coding = self.coding
        if coding is None or (coding.space, coding.given_conditions) != (space, conditions):
            coding = Coding(space, conditions)
        if coding is not self.coding or identity != self._study:
            if identity != self._study:
                self._given.clear()
            self.coding, self._study = coding, identity
            self._forget()
        return coding

    def _forget(self) -> None:
        self._ended = None
        self._read_before.clear()
        self._drawn.clear()
        self._settled, self._settled_kernel = 0, None

    def _read(self, trials: Sequence[FrozenTrial], signs: Array, coding: Coding) -> Rows | None:
        levels = self.levels or _geometric(trials)
        if levels != self._cached_levels:
            self._forget()
            self._cached_levels = tuple(levels)
        fresh = [trial for trial in trials if trial._trial_id not in self._read_before]
        ended = [trial for trial in fresh if trial.state.is_finished()]
        if ended:
            rows = self._rows_of(ended, signs, coding)
            self._read_before.update(trial._trial_id for trial in ended)
            self._drawn.update(map(_key, rows.features))
            self._ended = _stacked(self._ended, rows)
        running = [trial for trial in fresh if not trial.state.is_finished()]
        rows = self._ended
        if running:
            rows = _stacked(rows, self._rows_of(running, signs, coding))
        # However they were read: what is drawn from them must not depend on it.
        if rows is None or (np.diff(rows.numbers) > 0).all():
            return rows
        order = np.argsort(rows.numbers, kind="stable")
        return Rows(*(array[order] for array in rows))

    def _rows_of(self, trials: Sequence[FrozenTrial], signs: Array, coding: Coding) -> Rows:
        """Trials as rows, in their order."""
        # What a running trial has been given counts before it has asked for it.
        points = np.array(
            [coding.point(self._given.get(trial._trial_id, {}) | trial.params) for trial in trials]
        )
        read = zip(*(self._row(trial, signs) for trial in trials), strict=True)
        numbers, *facts = (np.array(column) for column in read)
        return Rows(numbers, points, coding.features(points), *facts)

    def _row(self, trial: FrozenTrial, signs: Array) -> tuple[Any, ...]:
        """One of Rows, without its point and the features of that."""
        attributes = trial.system_attrs
        levels = np.full((len(signs), len(self._cached_levels)), math.nan)
        errors = np.zeros(len(self._cached_levels))
        reports: dict[int, Sequence[float]] = {s: [v] for s, v in trial.intermediate_values.items()}
        reports |= {int(step): v for step, v in attributes.get(REPORTS, {}).items()}
        spent, finite = 0.0, True
        best = np.full(len(signs), math.inf)
        for step in sorted(reports):
            values = signs * np.array(reports[step], float)
            spent, finite = float(step), bool(np.isfinite(values).all())
            if not finite:
                continue
            best = np.minimum(best, values) if self.best_so_far else values
            if step in self._cached_levels:
                place = self._cached_levels.index(step)
                levels[:, place] = best
                errors[place] = attributes.get(ERROR, {}).get(str(step), 0.0)
        returned = None
        if trial.state == TrialState.COMPLETE:
            returned = signs * np.array(trial.values, float)
            finite = finite and bool(np.isfinite(returned).all())
        state = ENDED if trial.state.is_finished() else RUNNING
        failed = trial.state == TrialState.FAIL and not np.isfinite(levels).any()
        if attributes.get(EARLIER):
            state = EARLIER_STUDY
        elif not finite or failed or any(value > 0 for value in trial.constraints.values()):
            state = INFEASIBLE
        if returned is not None and state != INFEASIBLE:
            levels[:, -1] = returned
            spent = max(spent, float(self._cached_levels[-1]))
        enqueued = "fixed_params" in attributes
        suggested, design = enqueued or BY in attributes, attributes.get(BY) == DESIGN
        design = design and not enqueued
        return trial.number, levels, errors, spent, state, suggested, design


def _check_arguments(
    seed: int, levels: Sequence[int], confidence: float, startup_trials: int, design_share: float
) -> None:
    if seed < 0:
        raise ValueError(f"seed: {seed}, must be 0 or above")
    if any(type(level) is not int for level in levels) or list(levels) != sorted({*levels}):
        raise ValueError(f"levels: {list(levels)}, must be whole numbers in ascending order")
    if not confidence >= 0:
        raise ValueError(f"confidence: {confidence}, must be 0 or above")
    if startup_trials < 0:
        raise ValueError(f"startup_trials: {startup_trials}, must be 0 or above")
    if not 0 <= design_share <= 1:
        raise ValueError(f"design_share: {design_share}, must be from 0 to 1")


def _possible(space: Mapping[str, BaseDistribution], name: str, value: Any) -> bool:
    """Whether a parameter of the space can have a value."""
    if name not in space:
        return False
    try:
        return bool(space[name]._contains(space[name].to_internal_repr(value)))
    except (ValueError, TypeError):
        return False


def _all_trials(study: Study) -> list[FrozenTrial]:
    """Those of the study itself: a pruner may hand over a view of some of them (Hyperband)."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def _stacked(before: Rows | None, fresh: Rows) -> Rows:
    if before is None:
        return fresh
    return Rows(*(np.concatenate(pair) for pair in zip(before, fresh, strict=True)))


def sobol_point(dimensions: int, seed: int, index: int) -> Array:
    """Return one point (d,) of a scrambled Sobol sequence (Owen 1995)."""
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed)
    return engine.fast_forward(index).draw(1, dtype=torch.float64)[0].numpy()


def _augmentation(sd: Array, noise: float) -> Array:
    """Logarithm of the share of sd that one more trial removes (Huang et al. 2006, eq. 12)."""
    return np.log(1 - math.sqrt(noise) / np.sqrt(np.square(sd) + noise) + 1e-9)


def _thinned(y: Array, most: int, random: np.random.Generator | None = None) -> Array:
    """Indices of the best half of `most`, and as many of the rest: drawn, or evenly by rank."""
    if len(y) <= most:
        return np.arange(len(y))
    order = np.argsort(y, kind="stable")
    best, rest = order[: most // 2], order[most // 2 :]
    room = most - most // 2
    even = np.linspace(0, len(rest) - 1, room).astype(int)
    some = rest[even] if random is None else random.permutation(rest)[:room]
    return np.sort(np.concatenate([best, some]))


def _mutated(points: Array, scale: float, random: np.random.Generator, coding: Coding) -> Array:
    """Points with some coordinates moved, one at least; a choice is drawn anew."""
    size, dimensions = points.shape
    moved = random.random(points.shape) < max(1.5 / dimensions, 0.15)
    moved[np.arange(size), random.integers(dimensions, size=size)] = True
    shifted = np.clip(points + scale * random.standard_normal(points.shape), 0.0, BELOW_ONE)
    fresh = random.random(points.shape)
    return np.where(moved, np.where(coding.counts > 0, fresh, shifted), points)


def _key(features: Array) -> bytes:
    return np.round(features, 9).tobytes()


def _geometric(trials: Sequence[FrozenTrial]) -> tuple[int, ...]:
    """Steps a factor of three apart, from the highest that was reported to the lowest."""
    steps = sorted({step for trial in trials for step in trial.intermediate_values})
    if not steps:
        return (1,)
    levels = [steps[-1]]
    while levels[-1] / 3 >= steps[0]:
        target = levels[-1] / 3
        nearest = min(steps, key=lambda step: abs(step - target))
        if nearest >= levels[-1]:
            break
        levels.append(nearest)
    if steps[0] < levels[-1]:
        levels.append(steps[0])  # where trials may have been stopped, too
    return tuple(reversed(levels))
