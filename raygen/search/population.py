"""Population based training: who is copied by whom, and what becomes of the settings.

Jaderberg et al. 2017, section 3, in turns: at every interval a trial waits until all of them have
come, so that any number of machines trains any population, and the same journal follows. A copy is
a trial of its own. Its configuration is the whole schedule of its settings, from the first image
on, so that it can be trained again without those that it came from.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from raygen.config import SchedulerSpec, Study
from raygen.journal.trials import TrialState
from raygen.seeds import derive
from raygen.space import RandomSuggester

FACTORS = (0.8, 1.2)  # Jaderberg et al. 2017, section 4


class Copy(NamedTuple):
    """A trial that begins as a copy."""

    parent: int
    replaces: int | None
    config: dict[str, Any]
    params: dict[str, Any]


def copies(
    study: Study, spec: SchedulerSpec, waiting: Sequence[TrialState], number: int, minimise: bool
) -> list[Copy]:
    """Who begins at this interval, of those who wait there; the first will be trial `number`.

    The worst share of them is replaced, and those that have broken since the last interval, too.
    """
    sign = 1.0 if minimise else -1.0
    order = sorted(
        waiting, key=lambda t: (math.inf if t.now is None else sign * t.now[0], t.number)
    )
    count = math.floor(spec.quantile * len(order))
    best = order[: max(count, 1)]
    gone: list[int | None] = [trial.number for trial in order[len(order) - count :]]
    gone += [None] * (study.spec.budget.trials - len(order))
    made = []
    for place, replaces in enumerate(gone):
        random = Random(derive(study.spec.seed, "population", number + place))
        parent = random.choice(best)
        share = round(parent.kimg / study.spec.budget.kimg, 9)
        config, params = changed(study, parent, share, spec.resample, random)
        made.append(Copy(parent.number, replaces, config, params))
    return made


def changed(
    study: Study, parent: TrialState, share: float, resample: float, random: Random
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parent's configuration and parameters, changed from a share of the budget on."""
    config, params = copy.deepcopy(parent.config), dict(parent.params)
    for parameter in study.parameters:
        if not study.may_change(parameter, config):
            continue
        old = params[parameter.name]
        if random.random() < resample:
            new = parameter.suggest(RandomSuggester(random.randrange(2**31)))
        else:
            new = parameter.nearest(old * random.choice(FACTORS))
        params[parameter.name] = new
        *path, key = parameter.setting.split(".")
        group = config
        for part in path:
            group = group[part]
        before = group[key]
        if not isinstance(before, Mapping):
            before = {"schedule": "steps", "values": [before], "at": []}
        group[key] = {
            **before, "values": [*before["values"], new], "at": [*before["at"], share],
        }  # fmt: skip
    return config, params
