"""Study folders written as the tuner writes them: a journal, and small PNG grids."""

import fcntl
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raygen.results import load_results
from raygen.study_folder import StudyFolder

Record = dict[str, Any]
START = 1_795_370_000.0
RUNGS = [2.0, 6.0, 16.0]

PARAMETERS = [
    {"name": "optimizer.generator_lr", "kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
    {"name": "optimizer.discriminator_lr", "kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
    {"name": "optimizer.beta1", "kind": "float", "low": 0.0, "high": 0.9, "log": False},
    {"name": "model.width", "kind": "int", "low": 16, "high": 64, "log": False},
    {"name": "model.latent_dim", "kind": "choice", "choices": [32, 64, 128]},
    {"name": "loss.name", "kind": "choice", "choices": ["hinge", "nonsaturating", "wasserstein"]},
    {"name": "loss.penalty_weight", "kind": "float", "low": 0.1, "high": 100.0, "log": True,
     "condition": {"loss.name": "wasserstein"}},
    {"name": "batch_size", "kind": "choice", "choices": [32, 64, 128]},
]  # fmt: skip
EMPTY = {"low": None, "high": None, "log": False, "choices": None, "condition": {}}


def searched(name: str, *choices: Any, low: float | None = None, high: float = 0.0) -> Record:
    """A searched setting as a study records it: choices, or a range of whole numbers."""
    if low is None:
        return {**EMPTY, "name": name, "kind": "choice", "choices": list(choices)}
    return {**EMPTY, "name": name, "kind": "int", "low": low, "high": high}


def make_info(**changes: Any) -> Record:
    """study.json of a small GAN study, with changes at the top level."""
    info = {
        "schema": 1, "name": "shapes-gan", "raygen": "0.1.0",
        "command": "raygen tune --space search_spaces/quickstart.yaml",
        "state": "running", "started": START, "finished": None, "family": "gan",
        "objective": {"metric": "fd_classifier", "direction": "minimize"},
        "directions": {"fd_classifier": "minimize", "recall": "maximize"},
        "budget": {"trials": 30, "kimg": 16.0},
        "scheduler": {"name": "asha", "grace_kimg": 2.0, "reduction_factor": 3},
        "rungs": RUNGS, "sampler": {"name": "tpe"}, "seed": 0,
        "resources": {"workers": 1, "cpus": 1, "gpus": 0},
        "data": {"name": "shapes", "fingerprint": "9f3c11", "train": 4096, "test": 1024,
                 "classes": ["circle", "square", "triangle"]},
        "space_file": "search_spaces/quickstart.yaml", "space_hash": "77aa01",
        "parameters": [{**EMPTY, **parameter} for parameter in PARAMETERS],
        "start_trials": 1,
        "environment": {"python": "3.11.7", "torch": "2.15.0", "ray": "2.60.0",
                        "optuna": "5.0.0", "device": "cpu", "platform": "Linux x86_64"},
        "protocols": {}, "protocol_of": {},
    }  # fmt: skip
    return {**info, **changes}


def suggest(trial: int, config: Record, **more: Any) -> list[Record]:
    """A trial is drawn and starts; more: by=, of=, seed=."""
    drawn = {"kind": "suggest", "trial": trial, "config": config, "seed": 100 + trial}
    return [{**drawn, "params": {}, "time": START, **more}, start(trial)]


def start(trial: int, attempt: int = 1, kimg: float = 0.0, node: str = "host") -> Record:
    """A trial starts, or goes on from `kimg`."""
    return {"kind": "start", "trial": trial, "node": node, "device": "cpu", "pid": 1,
            "attempt": attempt, "kimg": kimg, "time": START}  # fmt: skip


def report(trial: int, kimg: float, value: float | None, **more: Any) -> Record:
    """One evaluation; more: metric=, seconds=, other metrics."""
    metric = more.pop("metric", "fd_classifier")
    seconds = more.pop("seconds", kimg * 1.5)
    return {
        "kind": "report", "trial": trial, "kimg": kimg, "seconds": seconds, "time": START,
        "images_per_second": 660.0, "metrics": {metric: value, **more},
        "protocols": {metric: "ab12cd34"},
    }  # fmt: skip


def decide(trial: int, kimg: float, value: Any, cutoff: float | None, **more: Any) -> Record:
    """A rung's decision; more: decision=, peers=, band=, rank= and kept= of several objectives."""
    record = {"kind": "decide", "trial": trial, "kimg": kimg, "value": value, "cutoff": cutoff}
    return {**record, "decision": "continue", "peers": 1, "band": 0.0, "time": START, **more}


def checkpoint(trial: int, kimg: float, role: str = "best") -> Record:
    """A checkpoint was written."""
    return {"kind": "checkpoint", "trial": trial, "kimg": kimg, "role": role, "time": START}


def collect(trial: int, role: str = "last", size: int = 2_000_000) -> Record:
    """A checkpoint was deleted."""
    return {"kind": "collect", "trial": trial, "role": role, "bytes": size, "time": START}


def retry(trial: int, attempt: int, kimg: float) -> Record:
    """A lost trial is to be tried again."""
    return {"kind": "retry", "trial": trial, "attempt": attempt, "reason": "the node died",
            "kimg": kimg, "wait": 30.0, "time": START}  # fmt: skip


def warm(study: str, source: int, params: Record, values: list[float] | None) -> Record:
    """A trial of an earlier study is told to the sampler, or (no values) is a point to try."""
    return {"kind": "warm", "study": study, "source": source, "params": params, "values": values,
            "time": START}  # fmt: skip


def finals(*trials: int) -> Record:
    """The search is over, these go on."""
    return {"kind": "finals", "trials": list(trials), "time": START}


def race(means: dict[int, float], best: dict[int, float], **more: Any) -> Record:
    """A round of the race; more: seeds=, dropped=, settled=."""
    facts = {"means": _keys(means), "best": _keys(best), "dropped": [], "settled": False}
    return {"kind": "race", "seeds": 1, **facts, "time": START, **more}


def reopen(info: Record, **changed: list[Any]) -> Record:
    """The study goes on; changed: setting with __ for a dot = [old, new]."""
    dotted = {key.replace("__", "."): pair for key, pair in changed.items()}
    return {"kind": "reopen", "study": info, "changed": dotted, "time": START}


def replicate(trial: int, of: int, value: float | None, state: str = "completed") -> list[Record]:
    """A finalist's run with another seed, of one report at the full budget."""
    drawn = suggest(trial, {"width": 16}, by="finalist", of=of)
    return [*drawn, report(trial, 16, value), end(trial, state)]


def at(seconds: float, *records: Record) -> list[Record]:
    """The same records, so many seconds after the study was opened."""
    return [{**record, "time": START + seconds} for record in records]


def _keys(table: dict[int, float]) -> dict[str, float]:
    return {str(key): value for key, value in table.items()}


def end(trial: int, state: str = "completed", reason: str = "") -> Record:
    """A trial ends."""
    return {"kind": "end", "trial": trial, "state": state, "reason": reason, "time": START}


def close(state: str = "finished", seconds: float = 163.2) -> Record:
    """The study ends."""
    return {"kind": "close", "state": state, "seconds": seconds, "time": START + seconds}


def write_study(root: Path, info: Record, records: list[Record]) -> Path:
    """Write a study folder with this journal and return it."""
    root.mkdir(parents=True, exist_ok=True)
    opened = {"kind": "open", "study": info, "time": START}
    text = "".join(json.dumps(record) + "\n" for record in [opened, *records])
    StudyFolder(root).journal.write_text(text, encoding="utf-8")
    return root


def append_to_study(folder: Path, records: list[Record]) -> None:
    """Append to a journal, as a search does: whoever reads meanwhile never meets half of it."""
    with StudyFolder(folder).journal.open("a", encoding="utf-8") as journal:
        journal.write("".join(json.dumps(record) + "\n" for record in records))


@contextmanager
def written_by_a_search(folder: Path) -> Iterator[None]:
    """Hold the lock that a search holds on its journal."""
    with StudyFolder(folder).journal.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        yield


def draw_config(rng: np.random.Generator) -> Record:
    """One random configuration of PARAMETERS."""
    loss: Record = {"name": str(rng.choice(["hinge", "nonsaturating", "wasserstein"]))}
    if loss["name"] == "wasserstein":
        loss["penalty_weight"] = float(10 ** rng.uniform(-1, 2))
    return {
        "model": {"name": "dcgan", "width": int(rng.integers(16, 65)),
                  "latent_dim": int(rng.choice([32, 64, 128]))},
        "loss": loss,
        "optimizer": {"name": "adam", "generator_lr": float(10 ** rng.uniform(-4, -2)),
                      "discriminator_lr": float(10 ** rng.uniform(-4, -2)),
                      "beta1": float(rng.uniform(0, 0.9)), "beta2": 0.99},
        "batch_size": int(rng.choice([32, 64, 128])),
    }  # fmt: skip


def final_value(config: Record, rng: np.random.Generator) -> float:
    """Where a configuration's curve tends to: the generator's rate matters most."""
    off = math.log10(config["optimizer"]["generator_lr"]) + 2.6
    loss = {"hinge": 0.0, "nonsaturating": 0.35, "wasserstein": 0.15}[config["loss"]["name"]]
    width = 0.4 * (64 - config["model"]["width"]) / 48
    beta = 0.3 * config["optimizer"]["beta1"]
    return 6.0 * math.exp(1.1 * off**2 + loss + width + beta + 0.08 * rng.normal())


def simulate(trials: int, reports: int = 6, seed: int = 0) -> list[Record]:
    """Journal of a search with early stopping, some divergence and some failures."""
    rng = np.random.default_rng(seed)
    steps = sorted({*RUNGS, *np.linspace(2, 16, reports).round(2).tolist()})
    records: list[Record] = [
        {"kind": "protocol", "hash": "ab12cd34", "time": START,
         "record": {"metric": "fd_classifier", "encoder": "classifier-7f", "samples": 2000,
                    "reference": "test", "classifier_accuracy": 0.97}}
    ]  # fmt: skip
    seen: dict[float, list[float]] = {rung: [] for rung in RUNGS}
    free = [0.0] * 4  # when each of four workers is free again
    for trial in range(trials):
        config = draw_config(rng)
        run = [*suggest(trial, config), *_run(trial, config, steps, seen, rng)]
        lane = free.index(min(free))
        run = [{**record, "time": START + free[lane] + _since(record)} for record in run]
        run[-1]["time"] = max(record["time"] for record in run)  # it ends with its last report
        run[-1]["time"] += 0.25
        free[lane] = run[-1]["time"] - START
        records += run
    return sorted(records, key=lambda record: record["time"])


def _since(record: Record) -> float:
    return float(record.get("seconds") or (record.get("kimg") or 0.0) * 1.5)


def _run(
    trial: int,
    config: Record,
    steps: list[float],
    seen: dict[float, list[float]],
    rng: np.random.Generator,
) -> list[Record]:
    limit, fate = final_value(config, rng), rng.random()
    records: list[Record] = []
    if trial and fate < 0.04:
        return [end(trial, "out_of_memory", "CUDA out of memory: tried to allocate 2.1 GiB")]
    for kimg in steps:
        value = limit * (1 + 6 * math.exp(-kimg / 3)) * math.exp(0.05 * rng.normal())
        if config["optimizer"]["generator_lr"] > 6e-3 and kimg > 1:
            records.append(report(trial, kimg, None, recall=0.0))
            return [*records, end(trial, "diverged", "the generator's loss became NaN")]
        recall = round(0.9 / (1 + value / 10), 4)
        records.append(report(trial, kimg, round(value, 5), recall=recall))
        if kimg in seen and kimg < RUNGS[-1]:
            peers = sorted([*seen[kimg], value])
            cutoff = peers[max(0, math.ceil(len(peers) / 3) - 1)]
            seen[kimg].append(value)
            keep = trial == 0 or value <= cutoff or len(peers) < 3
            records.append(
                {"kind": "decide", "trial": trial, "kimg": kimg, "value": value, "time": START,
                 "cutoff": cutoff, "peers": len(peers), "decision": "continue" if keep else "stop"}
            )  # fmt: skip
            if not keep:
                reason = f"below the best third at {kimg:g} kimg ({value:.3g} > {cutoff:.3g})"
                return [*records, end(trial, "stopped", reason)]
    return [*records, end(trial)]


def paint(path: Path, seed: int, noise: float, tiles: int = 8, side: int = 16) -> None:
    """A grid of coloured discs, blurred by noise: looks like samples of a toy GAN."""
    rng = np.random.default_rng(seed)
    size = tiles * side
    y, x = np.mgrid[0:size, 0:size]
    image = np.full((size, size, 3), 24.0)
    for row in range(tiles):
        for col in range(tiles):
            cy, cx = row * side + side / 2 + rng.normal(), col * side + side / 2 + rng.normal()
            disc = np.hypot(y - cy, x - cx) < side * rng.uniform(0.25, 0.42)
            image[disc] = rng.integers(80, 255, 3)
    image += rng.normal(0, 1 + noise, image.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)


def race_of(records: list[Record], count: int = 3, seeds: int = 3) -> list[Record]:
    """The best completed trials of a journal again with other seeds; the last diverges once."""
    rng = np.random.default_rng(9)
    done = {r["trial"] for r in records if r["kind"] == "end" and r["state"] == "completed"}
    values: dict[int, float] = {}
    for record in records:
        value = record["metrics"]["fd_classifier"] if record["kind"] == "report" else None
        if value is not None and record["trial"] in done:
            values[record["trial"]] = min(value, values.get(record["trial"], value))
    chosen = sorted(values, key=values.__getitem__)[:count]
    number = max(r["trial"] for r in records if "trial" in r)
    made, means = [finals(*chosen)], dict.fromkeys(chosen, 0.0)
    for seed in range(1, seeds + 1):
        for place, trial in enumerate(chosen):
            number += 1
            lost = place == count - 1 and seed == seeds
            value = round(values[trial] * (1.12 + 0.06 * rng.normal()), 4)
            made += replicate(number, trial, value, "diverged" if lost else "completed")
            means[trial] += (value - means[trial]) / seed
        made.append(race(means, {}, seeds=seed, settled=seed == seeds))
    return made


def write_demo(
    root: Path, trials: int = 30, reports: int = 6, pictures: bool = True, **changes: Any
) -> Path:
    """A realistic finished study with three finalists; changes: to its facts."""
    info = make_info(budget={"trials": trials, "kimg": 16.0}, **changes)
    records = simulate(trials, reports)
    last = records[-1]["time"] - START
    again = at(last, *race_of(records))
    path = write_study(root, info, [*records, *again, close(seconds=last)])
    folder = StudyFolder(path)
    folder.space.write_text("family: gan\ndata:\n  name: shapes\nobjective: fd_classifier\n")
    if pictures:
        paint(folder.real, 1, 0)
        study = load_results(path)
        for row in study.trials[study.trials["value"].notna()].to_dict("records"):
            where = folder.trial(int(row["trial"])).samples(float(row["best_kimg"]))
            paint(where, 2, float(row["value"]))
    return path
