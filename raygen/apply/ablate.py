"""Train the way from the best starting point to the best trial, one change at a time.

Fawcett and Hoos, "Analysing differences between algorithm configurations through ablation", Journal
of Heuristics 2016, along one given order: as many trainings as there are changes, and one.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from raygen.config_file import load_train_job
from raygen.document import dump
from raygen.errors import InputError
from raygen.files import write_text
from raygen.results import Results, train_config
from raygen.results.changes import Ablation, AblationStep, Change, changed, read_ablation
from raygen.seeds import derive
from raygen.study_folder import TrialFolder
from raygen.training import single


def ablate(
    study: Results,
    pair: tuple[int, int],
    order: Sequence[Change],
    seeds: int,
    device: torch.device,
    tell: Callable[[str], None],
) -> Ablation:
    """Train every step with the same seeds and write ablation.json into the study's folder.

    What was trained before with the same order is kept, so that it can be interrupted and go on.

    Raises:
        InputError: the study does not record what a training needs.
        ClusterError: the folder cannot be written.
    """
    start, best = pair
    base = train_config(study, best)
    wanted = [derive(int(base["seed"]), "ablation", number) for number in range(seeds)]
    before, kimg = read_ablation(study), float(base["kimg"])
    made = [step.change for step in before.steps] if before else []
    trained: dict[tuple[int, int], float | None] = {}
    if before and (before.start, before.best) == pair and made[1:] == list(order)[: len(made) - 1]:
        for place, step in enumerate(before.steps):
            pairs = zip(before.seeds, step.values, strict=True)
            trained |= {(place, seed): value for seed, value in pairs}
    steps: list[AblationStep] = []
    for place in range(len(order) + 1):
        change = order[place - 1] if place else None
        tell(f"step {place} of {len(order)}: {_words(change)}")
        config = {**base, "trial": changed(study, start, list(order[:place]))}
        values = []
        for seed in wanted:
            if (place, seed) not in trained:
                trained[place, seed] = _value(study, {**config, "seed": seed}, place, device)
            values.append(trained[place, seed])
            tell(f"  seed {seed}: {'no value' if values[-1] is None else f'{values[-1]:.5g}'}")
        steps.append(AblationStep(change, values))
        _write(study, Ablation(start, best, kimg, wanted, steps))
    return Ablation(start, best, kimg, wanted, steps)


def _value(
    study: Results, config: dict[str, object], place: int, device: torch.device
) -> float | None:
    """Train one configuration and return the best value of the objective, as a trial's is."""
    seed = config["seed"]
    folder = TrialFolder(study.folder.root / "ablation" / f"{place:02d}-{seed}")
    file = folder.root / "config.yaml"
    write_text(file, dump(config))
    job = load_train_job(file)
    best = None
    pick = min if study.minimise else max
    for progress in single.train(job, folder, device, folder.last.exists()):
        score = progress.scores.get(study.metric)
        if score is not None and math.isfinite(score.value):
            best = score.value if best is None else pick(best, score.value)
        if progress.diverged is not None:
            break
    return best


def _write(study: Results, ablation: Ablation) -> None:
    steps = [
        {"change": None if step.change is None else list(step.change), "values": step.values}
        for step in ablation.steps
    ]
    content = {**ablation._asdict(), "steps": steps}
    write_text(study.folder.ablation, json.dumps(content, indent=1) + "\n")


def _words(change: Change | None) -> str:
    if change is None:
        return "the starting point"
    pairs = zip(change.names, change.before, change.after, strict=True)
    return ", ".join(f"{name} {before} -> {after}" for name, before, after in pairs)


def ablation_text(ablation: Ablation) -> str:
    """Lay the steps out as text: what changed, and the mean over seeds that have a value."""
    lines = []
    for step in ablation.steps:
        values = [value for value in step.values if value is not None]
        mean = f"{sum(values) / len(values):.5g}" if values else "no value"
        lines.append(f"{mean:>10}  {_words(step.change)}")
    return "\n".join(lines)


def check_way(study: Path, pair: tuple[int, int] | None) -> tuple[int, int]:
    """Return the way to go.

    Raises:
        InputError: there is no starting point, or it is the best.
    """
    if pair is None:
        raise InputError(
            f"{study}: no way from a starting point to the best trial: there is no start: in the "
            "search space, or one of its points won"
        )
    return pair
