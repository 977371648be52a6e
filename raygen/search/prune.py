"""Which checkpoints a study can do without."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Owner(Protocol):
    """A trial and the bytes of its checkpoints, by role."""

    of: int | None
    files: dict[str, int]

    @property
    def unfinished(self) -> bool: ...


def collectable(
    trials: Mapping[int, Owner],
    ranked: Sequence[int],
    keep: int,
    gigabytes: float | None,
    model: int | None = None,
) -> list[tuple[int, str]]:
    """Return the (trial, role) of every checkpoint to delete, in the order of least regret.

    What an unfinished trial needs to go on stays, whatever it weighs, and so do the weights of the
    best trial and those of `model`, the run whose checkpoint is the one to use. Of the ended ones
    the first `keep` of `ranked` keep theirs; what still exceeds the budget goes from the worst
    trial on, states of training before weights.
    """
    ended = {number: trial for number, trial in trials.items() if not trial.unfinished}
    kept = set(ranked[:keep])
    gone: list[tuple[int, str]] = []
    for number, trial in ended.items():
        # Of a repetition only the weights matter: it is there for its number.
        roles = ("last",) if trial.of is not None else ("last", "best")
        if number not in kept:
            kept_role = "best" if number == model else ""
            gone += [(number, r) for r in roles if r in trial.files and r != kept_role]
    if gigabytes is None:
        return gone
    total = sum(sum(trial.files.values()) for trial in trials.values())
    total -= sum(ended[number].files[role] for number, role in gone)
    repeats = [number for number, trial in ended.items() if trial.of is not None]
    worst_first = [*repeats, *reversed(ranked[:keep])]
    rest = [(number, "last") for number in worst_first] + [(n, "best") for n in worst_first]
    for number, role in rest:
        if total <= gigabytes * 1e9:
            break
        protected = role == "best" and number in (*ranked[:1], model)
        if role in ended[number].files and (number, role) not in gone and not protected:
            gone.append((number, role))
            total -= ended[number].files[role]
    return gone
