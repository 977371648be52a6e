"""Population based training: who is copied by whom, and what becomes of the settings.

Jaderberg et al. 2017, section 3, in turns: at every interval a trial waits until all of them have
come, so that any number of machines trains any population, and the same journal follows. A copy is
a trial of its own. Its configuration is the whole schedule of its settings, from the first image
on, so that it can be trained again without those that it came from.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from raygen.config import Study
from raygen.document import holder
from raygen.journal.records import Decide, End, Suggest
from raygen.journal.trials import Trials, TrialState
from raygen.search.scheduler import Decision
from raygen.seeds import derive
from raygen.space import RandomSuggester
from raygen.words import kimg_text

FACTORS = (0.8, 1.2)  # Jaderberg et al. 2017, section 4


class Population:
    """What a journal says of a population, and what follows from it."""

    def __init__(self, study: Study, trials: Trials) -> None:
        """`trials` change with every record that is written."""
        self.study, self.spec, self.trials = study, study.spec.scheduler, trials
        self.size = study.spec.budget.trials

    def turn(self) -> Iterator[Suggest | End | Decide]:
        """What is to be written for a population to go on from an interval; nothing if it waits.

        Copies come first, then the ends of whom they replace, then all others go on: so what a
        crash cut short can be seen, and is finished. Each is written before the next is made.
        """
        paused = [trial for trial in self.trials if trial.state == "paused"]
        if not paused:
            return
        kimg = min(trial.kimg for trial in paused)
        here = [trial for trial in paused if trial.kimg == kimg]
        searched = self.trials.searched
        begun = [t for t in searched if t.parent is not None and t.from_kimg == kimg]
        replacing = {trial.replaces for trial in begun} - {None}
        if not self._left(kimg) and replacing <= {trial.number for trial in here}:
            others = [trial for trial in searched if trial not in begun]
            coming = any(trial.state in ("running", "waiting") for trial in others)
            if coming or len(others) < self.size:
                return
            for made in self.copies(here, begun[0].number if begun else len(self.trials)):
                if made.trial >= len(self.trials):
                    yield made
        replaced = {t.replaces: t for t in self.trials.searched if t.replaces is not None}
        for trial in here:
            by = replaced.get(trial.number)
            if by is None:
                yield self.released(trial)
            else:
                yield End(trial=trial.number, state="stopped", reason=_why_replaced(trial, by))

    def copies(self, here: Sequence[TrialState], first: int) -> list[Suggest]:
        """The trials from number `first` on: copies of some of those who wait at an interval.

        The worst share is replaced, and those that have broken since the last interval, too.
        """
        sign = 1.0 if self.trials.minimise else -1.0
        order = sorted(
            here, key=lambda t: (math.inf if t.now is None else sign * t.now[0], t.number)
        )
        count = math.floor(self.spec.quantile * len(order))
        best = order[: max(count, 1)]
        gone: list[int | None] = [trial.number for trial in order[len(order) - count :]]
        gone += [None] * (self.size - len(order))
        made = []
        for number, replaces in enumerate(gone, start=first):
            random = Random(derive(self.study.spec.seed, "population", number))
            parent = random.choice(best)
            config, params = self._explored(parent, random)
            made.append(Suggest(
                trial=number, by="pbt", config=config, params=params, seed=parent.seed,
                parent=parent.number, from_kimg=parent.kimg, replaces=replaces,
            ))  # fmt: skip
        return made

    def released(self, trial: TrialState) -> Decide:
        """A trial goes on from an interval."""
        decision = Decision("promote", None, self.size)
        return decision.as_record(trial.number, trial.kimg, trial.values or [])

    def copied(self, number: int) -> bool:
        """Whether a copy has not yet read the weights of a trial, which may not change them."""
        return any(
            trial.parent == number and trial.unfinished and not trial.attempt
            for trial in self.trials
        )

    def _left(self, kimg: float) -> bool:
        """Whether one has gone on from an interval."""
        for trial in self.trials.searched:
            rung = trial.decision
            if trial.kimg > kimg:
                return True
            if rung is not None and (rung.decision, rung.kimg) == ("promote", kimg):
                return True
        return False

    def _explored(
        self, parent: TrialState, random: Random
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A parent's configuration and parameters, other ones from where it stands."""
        config, params = copy.deepcopy(parent.config), dict(parent.params)
        share = round(parent.kimg / self.study.spec.budget.kimg, 9)
        for parameter in self.study.parameters:
            if not self.study.may_change(parameter, config):
                continue
            if random.random() < self.spec.resample:
                new = parameter.suggest(RandomSuggester(random.randrange(2**31)))
            else:
                new = parameter.nearest(params[parameter.name] * random.choice(FACTORS))
            params[parameter.name] = new
            group, key = holder(config, parameter.setting)
            before = group[key]
            if not isinstance(before, Mapping):
                before = {"schedule": "steps", "values": [before], "at": []}
            values, places = [*before["values"], new], [*before["at"], share]
            group[key] = {"schedule": "steps", "values": values, "at": places}
        return config, params


def _why_replaced(trial: TrialState, by: TrialState) -> str:
    value = "no value" if trial.now is None else f"{trial.now[0]:.4g}"
    at = f"{value} at {kimg_text(trial.kimg)} kimg"
    return f"{at} is among the worst: trial {by.number}, a copy of trial {by.parent}, goes on"
