"""What a search finds for its compute: raygen, Ray Tune with Optuna, Syne Tune, and their parts.

    uv run --group benchmark python benchmarks/search_quality.py            # two hours on two cores
    uv run python benchmarks/search_quality.py --only headline --tables gan --repeats 16

Every method searches the tables of search_tables.py with simulated workers until it has spent as
many images as a number of full trainings. raygen is its own controller, samplers and schedulers;
Ray's are its own AsyncHyperBandScheduler and OptunaSearch, called as Ray Tune calls them; Syne
Tune's (where it is installed) ASHA, BOHB and ASHA with CQR. A method's value is the noise-free
objective of the configuration that it recommends: raygen the best of the fully trained by their
best milestone, Ray and Syne Tune the best last value of all trials, the default of
get_best_result. Repetition n has the same seed, and so the same luck of training, with every
method. Ratios are of geometric means over pairs of repetitions, with a bootstrap interval of 95%.

`--out` receives one JSON object by experiment, table and method; `--page` an HTML page of it.
"""

import argparse
import hashlib
import json
import logging
import math
import multiprocessing
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes share two cores

import numpy as np
import optuna
import pandas as pd
import torch

from other_searchers import PlainRay, SyneTune
from raygen.replay import SAMPLERS, SCHEDULERS, WORKERS, Raygen, Run, paired, simulate, variant
from raygen.search.curve import coding, observation, sampler
from raygen.search.scheduler import Halving
from search_tables import (
    CURVES,
    HARTMANN,
    RECORDED,
    RecordedTable,
    Table,
    names,
    read_curves,
    table,
)

COMPUTE = 40  # full trainings
PARTS = (0.1, 0.25, 0.5, 1.0)
DEFAULT = "raygen"
STOCK = "ray asha + optuna"
TARGET = "ray random"


class Method(NamedTuple):
    """What searches: of raygen a scheduler and sampler, of others the name of theirs."""

    name: str
    package: str = "raygen"
    scheduler: dict[str, Any] = {}
    sampler: dict[str, Any] = {}
    other: str = ""  # the sampler of Ray, the scheduler of Syne Tune
    grace: int = 9  # the first rung is at this part of the budget
    without: str = ""  # a part of the curve sampler, see `without`
    start: bool = False  # from the starting point of START


class Experiment(NamedTuple):
    """Methods to compare on some tables."""

    name: str
    tables: tuple[str, ...]
    methods: tuple[Method, ...]
    repeats: int
    compute: int = COMPUTE
    workers: int = WORKERS


class Job(NamedTuple):
    """One search."""

    experiment: str
    table: str
    method: Method
    compute: int
    workers: int
    seed: int


def raygens(sampler: str, scheduler: str) -> Method:
    """A sampler of raygen with one of its schedulers."""
    return Method(f"{sampler}, {scheduler}", "raygen", SCHEDULERS[scheduler], {"name": sampler})


def headline() -> tuple[Method, ...]:
    """The default, its alternatives, and what others offer."""
    return (
        Method(DEFAULT),
        raygens("curve", "promotion"),
        raygens("tpe", "asha"),
        raygens("random", "asha"),
        raygens("quasi_random", "asha"),
        Method(STOCK, "ray", other="tpe"),
        Method("ray asha + random", "ray", other="random"),
        Method("ray optuna", "ray", SCHEDULERS["none"], other="tpe"),
        Method(TARGET, "ray", SCHEDULERS["none"], other="random"),
    )


def syne_tune() -> tuple[Method, ...]:
    """What Syne Tune offers, where it is installed."""
    kinds = ("asha", "bohb", "cqr") if find_spec("syne_tune") else ()
    return (Method(DEFAULT), *(Method(f"syne {kind}", "syne", other=kind) for kind in kinds))


def grid() -> tuple[Method, ...]:
    """Every sampler with every scheduler; and eta and the first rung of the default."""
    pairs = [raygens(name, scheduler) for name in SAMPLERS for scheduler in SCHEDULERS]
    more = [
        Method("eta 2", scheduler={"reduction_factor": 2.0}),
        Method("eta 4", scheduler={"reduction_factor": 4.0}),
        Method("grace 1/27", grace=27),
        Method("grace 1/3", grace=3),
    ]
    return (Method(DEFAULT), *pairs, *more)


def ablation() -> tuple[Method, ...]:
    """The default without each of its parts."""
    return (
        Method(DEFAULT),
        *(Method(f"without {part}", without=part) for part in WITHOUT),
        Method("without the design's share", sampler={"design_share": 0.0}),
        Method("with a starting point", start=True),
        Method("with a starting point, no prior", start=True, sampler={"prior": 0.0}),
    )


def experiments(there: Sequence[str]) -> Iterator[Experiment]:
    """All of them, on the tables that are there."""
    few = (Method(DEFAULT), *(m for m in headline() if m.package == "ray"))
    public = [name for name in there if name not in RECORDED]
    yield Experiment("headline", RECORDED, headline(), 50)
    yield Experiment("public", tuple(public), headline(), 32)
    yield Experiment("syne tune", RECORDED, syne_tune(), 16)
    for compute in (10, 100):
        yield Experiment(f"budget {compute}", RECORDED, few, 16, compute=compute)
    for workers in (1, 16):
        yield Experiment(f"workers {workers}", RECORDED, few, 16, workers=workers)
    yield Experiment(
        "ablation",
        (*RECORDED, *(t for t in public if t in ("hartmann6 good", "hartmann6 bad"))),
        ablation(),
        20,
    )
    yield Experiment("grid", RECORDED, grid(), 10)


# A published recipe on the table of GANs: DCGAN's rates and loss (Radford et al. 2016).
START = {
    "gan": {
        "model.discriminator_norm": "none",
        "loss.name": "nonsaturating",
        "optimizer.generator_lr": 2e-4,
        "optimizer.discriminator_lr": 2e-4,
    }
}


def _last_value(levels: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In place of at_full_budget: what a trial had when it ended, as if nothing followed."""
    last = pd.DataFrame(levels).ffill(axis=1).iloc[:, -1].to_numpy()
    return last, np.zeros(len(last))


# What replaces a part of the curve sampler that is left out: module or class, name, replacement.
WITHOUT: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "extrapolation": (observation, "at_full_budget", _last_value),
    "log distances": (observation, "log_distance", lambda values, best: values),
    "augmentation": (sampler, "_augmentation", lambda sd, noise: 0.0),
    "order of choices": (coding, "_order", lambda distribution: None),
    "the design's own rungs": (Halving, "_pool", lambda self, kimg, _: self.rungs[kimg][False]),
}


@contextmanager
def without(part: str) -> Iterator[None]:
    """Leave out a part of the curve sampler."""
    if not part:
        yield
        return
    place, name, replacement = WITHOUT[part]
    kept = getattr(place, name)
    setattr(place, name, replacement)
    try:
        yield
    finally:
        setattr(place, name, kept)


_tables: dict[str, Table] = {}  # of a worker process
_curves = CURVES


def start_worker(curves: Path) -> None:
    """Silence what others log."""
    global _curves
    _curves = curves
    torch.set_num_threads(1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")


def replay(job: Job) -> tuple[Job, Run, float]:
    """Run one method once; also return the CPU seconds that it took."""
    if job.table not in _tables:
        _tables[job.table] = table(job.table, _curves)
    there, way = _tables[job.table], job.method
    study, seed = there.study, job.seed
    budget = study.spec.budget.kimg
    stops = study.spec.scheduler.name != "none"
    began = time.process_time()
    with without(way.without):
        match way.package:
            case "ray":
                full = bool(way.scheduler) or not stops
                method = PlainRay(
                    study, way.other, full, budget / way.grace, there.milestones, seed
                )
            case "syne":
                method = SyneTune(study, way.other, there.milestones, seed)
            case _:
                if way.start:
                    study = study._replace(start=(START.get(job.table, {}),))
                grace = {"grace_kimg": round(budget / way.grace, 6)}
                scheduler = {**grace, **way.scheduler} if stops else {}
                study = variant(study, seed, scheduler, way.sampler)
                method = Raygen(study, there.milestones)
        run = simulate(method, there, job.compute * budget, seed, job.workers)
    return job, run, time.process_time() - began


def possible(name: str, way: Method) -> bool:
    """Whether a method can search a table: a Gaussian process of Optuna knows no branches."""
    if way.sampler.get("name") == "gp" and name == "gan":
        return False
    if name not in RECORDED and name not in HARTMANN:  # nothing can be stopped there
        return way.package != "syne" and "promotion" not in way.name
    return way.start is False or name in START


def figures(runs: dict[str, list[Run]], seconds: dict[str, list[float]], kimg: float) -> Any:
    """One table: a record per method; ratios are of the first method to each."""
    finals = {name: [run.at(math.inf) for run in each] for name, each in runs.items()}
    first = next(iter(runs))
    target = float(np.nanmedian(finals.get(STOCK, finals[first])))
    compute = max(run.spent[-1] for each in runs.values() for run in each) / kimg
    records = {}
    for name, each in runs.items():
        low, _, high = np.nanquantile(finals[name], [0.25, 0.5, 0.75])
        medians = {
            f"{part:g}": float(np.nanmedian([run.at(part * round(compute) * kimg) for run in each]))
            for part in PARTS
        }
        records[name] = {
            "median_at": medians,
            "quartiles": [low, high],
            f"{first}_against": paired(finals[first], finals[name])._asdict(),
            "to_target": to_target(each, target, kimg, round(compute)),
            "diverged_share": float(np.mean([run.diverged / run.spent[-1] for run in each])),
            "trials": float(np.median([run.trials for run in each])),
            "completed": float(np.median([run.completed for run in each])),
            "cpu_seconds": float(np.mean(seconds[name])),
            "repeats": len(each),
        }
    return {"target": target, "methods": records}


def to_target(runs: list[Run], target: float, kimg: float, compute: int) -> float | None:
    """Full trainings from which on the median of the runs stays at the target or better.

    Not the first time that a run touches it: what is recommended early on is often lucky, and
    then replaced by something worse that looks better.
    """
    grid = [part / 4 for part in range(1, 4 * compute)] + [math.inf]
    values = [[run.at(at * kimg) for run in runs] for at in grid]
    good = np.median(np.nan_to_num(values, nan=math.inf), axis=1) <= target
    if not good[-1]:
        return None
    late = np.flatnonzero(~good)
    return min(grid[late[-1] + 1 if len(late) else 0], float(compute))


def fidelity(recorded: RecordedTable, folds: int = 10) -> dict[str, float]:
    """How well the table foretells configurations that were left out of it, a tenth at a time.

    The rank correlation of the foretold and the recorded best value of those that do not diverge,
    and the share of all of which it knows whether they do.
    """
    recording = recorded.recording
    curves, predicted, best, right = recording.curves, [], [], 0
    for fold in range(folds):
        surrogate = RecordedTable(recorded.source.without(curves[fold::folds]))
        for left_out in curves[fold::folds]:
            forecast = surrogate.forecast(left_out.params, recording.milestones)
            right += bool(left_out.diverged) == (forecast.steps[-1].diverged is not None)
            if not left_out.diverged and math.isfinite(forecast.truth):
                predicted.append(forecast.truth)
                best.append(np.nanmin(left_out.values))
    return {
        "configurations": len(curves),
        "rank_correlation": pd.Series(predicted).rank().corr(pd.Series(best).rank()),
        "divergence_known": right / len(curves),
        "diverged": sum(bool(curve.diverged) for curve in curves) / len(curves),
    }


def show(experiment: str, name: str, result: dict[str, Any]) -> None:
    """Print one table of one experiment."""
    parts = "".join(f"{f'{part:.0%}':>9}" for part in PARTS)
    first = next(iter(result["methods"]))
    print(f"\n{experiment}: {name}; ratio of {first} to each, less 1, with 95%")
    print(f"{'':<32}{parts}{'ratio':>26}{'to target':>11}{'diverged':>10}{'trials':>8}{'full':>6}")
    for method, each in result["methods"].items():
        values = "".join(f"{value:>9.4g}" for value in each["median_at"].values())
        mean, low, high = (100 * x for x in each[f"{first}_against"].values())
        reach = "never" if each["to_target"] is None else f"{each['to_target']:.1f}"
        print(
            f"{method:<32}{values}{f'{mean:+.1f}% [{low:+.1f}, {high:+.1f}]':>26}{reach:>11}"
            f"{each['diverged_share']:>10.1%}{each['trials']:>8.0f}{each['completed']:>6.0f}",
            flush=True,
        )


def run_experiment(pool: Any, wanted: Experiment) -> dict[str, Any]:
    """Run an experiment and return its figures by table."""
    jobs = [
        Job(wanted.name, name, way, wanted.compute, wanted.workers, seed)
        for name in wanted.tables
        for seed in range(wanted.repeats)
        for way in wanted.methods
        if possible(name, way)
    ]
    began = time.monotonic()
    runs: dict[str, dict[str, dict[int, Run]]] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    for number, (job, run, cost) in enumerate(pool.imap_unordered(replay, jobs), 1):
        runs.setdefault(job.table, {}).setdefault(job.method.name, {})[job.seed] = run
        seconds.setdefault(job.table, {}).setdefault(job.method.name, []).append(cost)
        if number % 100 == 0:
            at = f"{number}/{len(jobs)} {time.monotonic() - began:.0f} s"
            print(f"{wanted.name}: {at}", file=sys.stderr, flush=True)
    results = {}
    for name in wanted.tables:
        ways = [way.name for way in wanted.methods if way.name in runs[name]]
        ordered = {way: [runs[name][way][s] for s in range(wanted.repeats)] for way in ways}
        kimg = table(name, _curves).study.spec.budget.kimg
        results[name] = figures(ordered, seconds[name], kimg)
        show(wanted.name, name, results[name])
    return results


def main() -> None:
    arguments = _parse()
    start_worker(arguments.curves)
    began = time.monotonic()
    report: dict[str, Any] = {"surrogates": {}, "experiments": {}}
    if arguments.out and arguments.out.exists() and arguments.only:
        report = json.loads(arguments.out.read_text(encoding="utf-8"))
    there = [name for name in names() if name in (arguments.tables or names())]
    for name in there:
        if name in RECORDED:
            report["surrogates"][name] = fidelity(
                RecordedTable(read_curves(name, arguments.curves))
            )
            print(name, report["surrogates"][name], flush=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, start_worker, (arguments.curves,)) as pool:
        for wanted in experiments(there):
            if arguments.only and wanted.name not in arguments.only:
                continue
            tables = tuple(name for name in wanted.tables if name in there)
            repeats = arguments.repeats or wanted.repeats
            result = run_experiment(pool, wanted._replace(tables=tables, repeats=repeats))
            report["experiments"].setdefault(wanted.name, {}).update(result)
            report["facts"] = facts(arguments.curves, began)
            if arguments.out:
                text = json.dumps(_rounded(report), indent=1) + "\n"
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(text, encoding="utf-8")
    if arguments.page:
        from search_page import write_page

        write_page(_rounded(report), arguments.page)


def facts(curves: Path, began: float) -> dict[str, Any]:
    """When, where and on what this was measured."""
    packages = ("raygen", "ray", "optuna", "numpy", "scipy", "syne-tune")
    return {
        "curves_sha256": hashlib.sha256(curves.read_bytes()).hexdigest(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, {platform.system()}",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in packages if find_spec(name.replace("-", "_"))},
        "seconds": round(time.monotonic() - began),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_rounded(inside) for inside in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", help="experiments: headline, public, ablation, …")
    parser.add_argument("--tables", nargs="+", help="tables; default: all that are installed")
    parser.add_argument("--repeats", type=int, help="in place of each experiment's own")
    parser.add_argument("--out", type=Path, help="write the figures to this file")
    parser.add_argument("--page", type=Path, help="write an HTML page of them")
    parser.add_argument("--curves", type=Path, default=CURVES, help="another recording")
    return parser.parse_args()


if __name__ == "__main__":
    main()
