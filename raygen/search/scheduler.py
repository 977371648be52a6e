"""Who is stopped early. A scheduler judges by what the journal says, and keeps no other state."""

import math
from bisect import bisect, insort
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple, Protocol

from raygen.config import StudySpec
from raygen.journal.records import Decide
from raygen.journal.trials import TrialState
from raygen.metrics import METRICS
from raygen.search.pareto import nondominated_order
from raygen.words import kimg_text

PEERS = 3  # a median of fewer trials says little


class RungValue(NamedTuple):
    """What a trial is judged by at a rung."""

    values: tuple[float, ...]  # the objectives at its best milestone so far
    sd: float | None = None  # standard error of the first of them
    mean: float = math.nan  # of the first objective over its milestones so far
    trial: int = -1
    design: bool = False  # a design point of the sampler, see Halving


def rung_value(trial: TrialState) -> RungValue | None:
    """What a trial is judged by at a rung; None before its first finite value."""
    if trial.values is None:
        return None
    history = trial.best.history
    mean = sum(history) / len(history)
    return RungValue(tuple(trial.values), trial.sd, mean, trial.number, trial.by == "design")


class Decision(NamedTuple):
    """What becomes of a trial (stop, continue, pause or promote), and what that was based on."""

    verdict: str
    cutoff: float | None  # the value it had to reach; None while there was nothing to compare
    peers: int  # trials that had reached the rung, this one included
    band: float = 0.0  # how far beyond the cut-off still counts as noise
    rank: int | None = None  # of several objectives: its place from 1, and how many go on
    kept: int | None = None

    def as_record(self, trial: int, kimg: float, values: Sequence[float]) -> Decide:
        """Return it as the journal holds it; `values` are the objectives that it was made by."""
        return Decide(
            trial=trial, kimg=kimg, decision=self.verdict,
            cutoff=self.cutoff, peers=self.peers, band=self.band,
            value=values[0] if self.rank is None else list(values), rank=self.rank, kept=self.kept,
        )  # fmt: skip


def why_stopped(decided: Decide, minimise: bool) -> str:
    """Say in words why a trial was stopped by a decision."""
    if isinstance(decided.value, list):
        at = kimg_text(decided.kimg)
        return f"rank {decided.rank} at {at} kimg, where {decided.kept} continue"
    at = f"{decided.value:.4g} at {kimg_text(decided.kimg)} kimg"
    if decided.cutoff is None:
        return f"{at}, where too few came to promote one"
    relation = "above" if minimise else "below"
    noise = f" by more than {decided.band:.2g}" if decided.band else ""
    return f"{at} is {relation} the cut-off {decided.cutoff:.4g}{noise}"


class Scheduler(Protocol):
    """Judging changes nothing; what was judged is then recorded, live or from the journal."""

    def judge(self, kimg: float, trial: RungValue) -> Decision | None:
        """Decide; None where nothing is decided."""
        ...

    def record(self, kimg: float, trial: RungValue) -> None:
        """Remember a trial that reached a milestone."""
        ...

    def promotion(self, paused: Mapping[int, float], last: bool) -> tuple[int, Decision] | None:
        """Return which of the trials that wait, each at its rung, goes on; None if none does.

        With `last`, when nobody else will come, the best of them does.
        """
        ...


class Never:
    """Every trial trains to its end."""

    def judge(self, kimg: float, trial: RungValue) -> None:
        return None

    def record(self, kimg: float, trial: RungValue) -> None:
        return None

    def promotion(self, paused: Mapping[int, float], last: bool) -> None:
        return None


class Waits:
    """The scheduler of a population: every trial waits at every interval."""

    def __init__(self, rungs: Sequence[float]) -> None:
        self.rungs = rungs[:-1]

    def judge(self, kimg: float, trial: RungValue) -> Decision | None:
        return Decision("pause", None, 1) if kimg in self.rungs else None

    def record(self, kimg: float, trial: RungValue) -> None:
        return None

    def promotion(self, paused: Mapping[int, float], last: bool) -> None:
        return None


class Pool:
    """Trials that have come to a rung, and the order of their first values, kept sorted."""

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.peers: list[RungValue] = []
        self.order: list[tuple[float, int]] = []  # minimised value, place among the peers

    def add(self, trial: RungValue) -> None:
        insort(self.order, self._key(trial))
        self.peers.append(trial)

    def at(self, rank: int, newcomer: RungValue) -> RungValue:
        """The trial at a rank, counted from 1, if one more had come."""
        place = bisect(self.order, self._key(newcomer)) + 1
        if rank == place:
            return newcomer
        return self.peers[self.order[rank - 1 - (rank > place)][1]]

    def _key(self, trial: RungValue) -> tuple[float, int]:
        return self.sign * trial.values[0], len(self.peers)


class Halving:
    """Asynchronous successive halving over kimg: Li et al. 2020, in its stopping form.

    A trial continues if it is among the best floor(n / eta) of the n that have reached the rung so
    far. It is judged by the best value it has had: a GAN that got worse is kept by its best
    weights. Three differences to the paper: within `noise` standard errors of the cut-off a trial
    is not cut, several objectives are ranked by fronts (Schmucker et al. 2021, MO-ASHA), and a
    design point is compared with design points only, so that some of them are trained to the end
    however much better the model's own trials are.
    """

    def __init__(
        self, milestones: Sequence[float], eta: float, directions: Sequence[str], noise: float
    ) -> None:
        self.eta, self.noise = eta, noise
        self.signs = [1.0 if way == "minimize" else -1.0 for way in directions]
        self.rungs = {  # all that came, and the design points among them
            kimg: {design: Pool(self.signs[0]) for design in (False, True)}
            for kimg in milestones[:-1]
        }

    def judge(self, kimg: float, trial: RungValue) -> Decision | None:
        if kimg not in self.rungs:
            return None
        return self._compare(self._pool(kimg, trial.design), trial)

    def record(self, kimg: float, trial: RungValue) -> None:
        if kimg in self.rungs:
            for design in {False, trial.design}:
                self.rungs[kimg][design].add(trial)

    def promotion(self, paused: Mapping[int, float], last: bool) -> tuple[int, Decision] | None:
        return None

    def _pool(self, kimg: float, design: bool) -> Pool:
        """Those that came to a rung, or the design points among them."""
        return self.rungs[kimg][design]

    def _compare(self, pool: Pool, trial: RungValue) -> Decision:
        """Whether a trial that comes to those of a pool continues."""
        count = len(pool.peers) + 1
        kept = math.floor(count / self.eta)
        if kept == 0:  # too few to spare one: stopping now would stop the first trial too
            return Decision("continue", None, count)
        if len(self.signs) > 1:
            rank = self._order([*pool.peers, trial]).index(count - 1) + 1
            verdict = "stop" if rank > kept else "continue"
            return Decision(verdict, None, count, 0.0, rank, kept)
        last_kept = pool.at(kept, trial)
        band = self.noise * math.hypot(trial.sd or 0.0, last_kept.sd or 0.0)
        worse = self._minimised(trial)[0] > self._minimised(last_kept)[0] + band
        return Decision("stop" if worse else "continue", last_kept.values[0], count, band)

    def _order(self, peers: Sequence[RungValue]) -> list[int]:
        """Their indices, the best first."""
        points = [self._minimised(peer) for peer in peers]
        if len(self.signs) > 1:
            return nondominated_order(points)
        return sorted(range(len(points)), key=lambda index: points[index])

    def _minimised(self, trial: RungValue) -> tuple[float, ...]:
        return tuple(s * value for s, value in zip(self.signs, trial.values, strict=True))


class Promotion(Halving):
    """Asynchronous successive halving as its paper has it: nobody is stopped, trials wait.

    At its rung a trial is paused, until it is among the best floor(n / eta) of the n that have come
    by then, or of the design points if it is one. It goes on from its checkpoint.
    """

    def judge(self, kimg: float, trial: RungValue) -> Decision | None:
        if kimg not in self.rungs:
            return None
        pools = [self._pool(kimg, design) for design in {False, trial.design}]
        large = [pool for pool in pools if len(pool.peers) + 1 >= self.eta]
        verdicts = [self._compare(pool, trial) for pool in large]
        if not verdicts:
            return Decision("pause", None, len(pools[0].peers) + 1)
        best = next((each for each in verdicts if each.verdict == "continue"), verdicts[0])
        return best if best.verdict == "continue" else best._replace(verdict="pause")

    def promotion(self, paused: Mapping[int, float], last: bool) -> tuple[int, Decision] | None:
        for kimg in reversed(self.rungs):
            for design in (False, True):
                peers = self._pool(kimg, design).peers
                order = self._order(peers)
                places = [
                    rank
                    for rank, index in enumerate(order, start=1)
                    if paused.get(peers[index].trial) == kimg
                ]
                kept = math.floor(len(peers) / self.eta)
                if last and places:  # nobody else comes: the best of those that wait
                    kept = places[0]
                if places and places[0] <= kept:
                    return peers[order[places[0] - 1]].trial, self._promoted(
                        peers, order, places[0], kept
                    )
        return None

    def _promoted(
        self, peers: Sequence[RungValue], order: Sequence[int], rank: int, kept: int
    ) -> Decision:
        if len(self.signs) > 1:
            return Decision("promote", None, len(peers), 0.0, rank, kept)
        return Decision("promote", peers[order[kept - 1]].values[0], len(peers))


class Median:
    """Stop a trial whose best is worse than the median of what others averaged up to there.

    Golovin et al. 2017 (Vizier), section 3.2.2. Judged from the grace period on.
    """

    def __init__(self, grace: float, end: float, minimise: bool, noise: float) -> None:
        self.grace, self.end, self.noise = grace, end, noise
        self.sign = 1.0 if minimise else -1.0
        self.means: dict[float, list[float]] = {}

    def judge(self, kimg: float, trial: RungValue) -> Decision | None:
        if not self.grace <= kimg < self.end:
            return None
        others = self.means.get(kimg, [])
        if len(others) < PEERS:
            return Decision("continue", None, len(others) + 1)
        cutoff = median(others)
        band = self.noise * (trial.sd or 0.0)
        stop = self.sign * trial.values[0] > self.sign * cutoff + band
        return Decision("stop" if stop else "continue", cutoff, len(others) + 1, band)

    def record(self, kimg: float, trial: RungValue) -> None:
        self.means.setdefault(kimg, []).append(trial.mean)

    def promotion(self, paused: Mapping[int, float], last: bool) -> None:
        return None


def make_scheduler(spec: StudySpec) -> Scheduler:
    """Return the scheduler of a study, knowing nothing yet."""
    directions = [METRICS[metric].direction for metric in spec.objectives]
    chosen = spec.scheduler
    match chosen.name:
        case "pbt":
            return Waits(spec.rungs)
        case "asha":
            kind = Promotion if chosen.promote else Halving
            return kind(spec.rungs, chosen.reduction_factor, directions, chosen.noise)
        case "median":
            minimise = directions[0] == "minimize"
            return Median(spec.rungs[0], spec.budget.kimg, minimise, chosen.noise)
        case "none":
            return Never()
