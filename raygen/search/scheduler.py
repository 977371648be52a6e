"""Who is stopped early. A scheduler judges by what the journal says, and keeps no other state."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple, Protocol

from raygen.config import StudySpec
from raygen.journal.records import Decide
from raygen.metrics import METRICS
from raygen.search.pareto import nondominated_order

PEERS = 3  # a median of fewer trials says little


class RungValue(NamedTuple):
    """What a trial is judged by at a rung."""

    values: tuple[float, ...]  # the objectives at its best milestone so far
    sd: float | None = None  # standard error of the first of them
    mean: float = math.nan  # of the first objective over its milestones so far
    trial: int = -1
    design: bool = False  # a design point of the sampler, see Halving


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


class Scheduler(Protocol):
    """Judging changes nothing; what was judged is then recorded, live or from the journal."""

    def judge(self, kimg: float, trial: RungValue) -> Decision | None:
        """Decide; None where nothing is decided."""
        ...

    def record(self, kimg: float, trial: RungValue) -> None:
        """Remember a trial that reached a milestone."""
        ...

    def promotion(self, paused: Mapping[int, float]) -> tuple[int, Decision] | None:
        """Return which of the trials that wait, each at its rung, goes on; None if none does."""
        ...


class Never:
    """Every trial trains to its end."""

    def judge(self, kimg: float, trial: RungValue) -> None:
        return None

    def record(self, kimg: float, trial: RungValue) -> None:
        return None

    def promotion(self, paused: Mapping[int, float]) -> None:
        return None


class Halving:
    """Asynchronous successive halving over kimg: Li et al. 2020, by stopping or by promotion.

    A trial continues if it is among the best floor(n / eta) of the n that have reached the rung so
    far. It is judged by the best value it has had: a GAN that got worse is kept by its best
    weights. Three differences to the paper: within `noise` standard errors of the cut-off a trial
    is not cut, several objectives are ranked by fronts (Schmucker et al. 2021, MO-ASHA), and a
    design point is compared with design points only, so that some of them are trained to the end
    however much better the model's own trials are. With `promote` a trial that does not continue
    is paused, until it is among the best floor(n / eta) of the n that have come by then.
    """

    def __init__(
        self,
        milestones: Sequence[float],
        eta: float,
        directions: Sequence[str],
        noise: float,
        promote: bool = False,
    ) -> None:
        self.eta, self.noise, self.promote = eta, noise, promote
        self.signs = [1.0 if way == "minimize" else -1.0 for way in directions]
        self.rungs: dict[float, list[RungValue]] = {kimg: [] for kimg in milestones[:-1]}

    def judge(self, kimg: float, trial: RungValue) -> Decision | None:
        if kimg not in self.rungs:
            return None
        peers = [*self._peers(kimg, trial), trial]
        kept = math.floor(len(peers) / self.eta)
        worse = "pause" if self.promote else "stop"
        if kept == 0:  # too few to spare one: stopping now would stop the first trial too
            return Decision("pause" if self.promote else "continue", None, len(peers))
        points = [self._minimised(peer) for peer in peers]
        if len(self.signs) > 1:
            rank = nondominated_order(points).index(len(peers) - 1) + 1
            verdict = worse if rank > kept else "continue"
            return Decision(verdict, None, len(peers), 0.0, rank, kept)
        last_kept = sorted(range(len(peers)), key=lambda i: points[i])[kept - 1]
        band = self.noise * math.hypot(trial.sd or 0.0, peers[last_kept].sd or 0.0)
        verdict = worse if points[-1][0] > points[last_kept][0] + band else "continue"
        return Decision(verdict, peers[last_kept].values[0], len(peers), band)

    def promotion(self, paused: Mapping[int, float]) -> tuple[int, Decision] | None:
        if not paused:
            return None
        for kimg in reversed(self.rungs):
            # As in `judge`, a design point by the order of design points, others by that of all.
            everyone = self.rungs[kimg]
            for design in (False, True):
                pool = [peer for peer in everyone if peer.design] if design else everyone
                kept = math.floor(len(pool) / self.eta)
                points = [self._minimised(peer) for peer in pool]
                for rank, index in enumerate(self._order(points)[:kept], start=1):
                    peer = pool[index]
                    if peer.design == design and paused.get(peer.trial) == kimg:
                        return peer.trial, self._promoted(pool, points, kept, rank)
        return None

    def _promoted(
        self,
        pool: Sequence[RungValue],
        points: Sequence[tuple[float, ...]],
        kept: int,
        rank: int,
    ) -> Decision:
        if len(self.signs) > 1:
            return Decision("promote", None, len(pool), 0.0, rank, kept)
        cutoff = pool[self._order(points)[kept - 1]].values[0]
        return Decision("promote", cutoff, len(pool))

    def _order(self, points: Sequence[tuple[float, ...]]) -> list[int]:
        if len(self.signs) > 1:
            return nondominated_order(points)
        return sorted(range(len(points)), key=lambda index: points[index])

    def _peers(self, kimg: float, trial: RungValue) -> list[RungValue]:
        return [peer for peer in self.rungs[kimg] if peer.design or not trial.design]

    def record(self, kimg: float, trial: RungValue) -> None:
        if kimg in self.rungs:
            self.rungs[kimg].append(trial)

    def _minimised(self, trial: RungValue) -> tuple[float, ...]:
        return tuple(s * value for s, value in zip(self.signs, trial.values, strict=True))


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

    def promotion(self, paused: Mapping[int, float]) -> None:
        return None


def make_scheduler(spec: StudySpec) -> Scheduler:
    """Return the scheduler of a study, knowing nothing yet."""
    directions = [METRICS[metric].direction for metric in spec.objectives]
    chosen = spec.scheduler
    match chosen.name:
        case "asha":
            return Halving(
                spec.rungs, chosen.reduction_factor, directions, chosen.noise, chosen.promote
            )
        case "median":
            minimise = directions[0] == "minimize"
            return Median(spec.rungs[0], spec.budget.kimg, minimise, chosen.noise)
        case "none":
            return Never()
