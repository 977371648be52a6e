"""uv run python benchmarks/resume.py [--trials 10000] [--at-once 500]: searches of many trials.

It is simulated without training and without Ray: the controller, the journal on the disk and the
sampler are real, `--at-once` trials report in turn, values fall with training, rungs are those of
search_spaces/gan.yaml. `simulated` and `computed` are its seconds by the clock and of the CPU, the
suggestions those of its last tenth, in milliseconds of the CPU. Then its journal is read and
replayed as a driver does when it goes on, folded into tables, asked for its status, and made a page
of. The last line is one JSON object; seconds are of one thread.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from raygen.config_file import load_space
from raygen.journal import read_records
from raygen.journal.local import Journal
from raygen.journal.records import Close, Open
from raygen.report.page import write_page
from raygen.results import load_results
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.status import status

SPACE = Path(__file__).parents[1] / "search_spaces" / "gan.yaml"
SETTINGS = ("finalists.count=0", "objective=fd_classifier", "evaluation.metrics=[]")
PROTOCOL = {"metric": "fd_classifier", "samples": 500}


def report(kimg: float, value: float, last: bool) -> dict[str, Any]:
    """What a trial says at a milestone."""
    return {
        "kimg": kimg, "seconds": kimg, "evaluation_seconds": 0.1, "images_per_second": 1000.0,
        "metrics": {"fd_classifier": value}, "losses": {"generator": 1.0}, "sd": {},
        "protocols": {"fd_classifier": PROTOCOL}, "variation": 0.9, "diverged": None,
        "best": True, "last": last, "path": "graph", "checkpoints": {"last": 1, "best": 1},
    }  # fmt: skip


def simulate(folder: Path, trials: int, at_once: int, sampler: str) -> dict[str, Any]:
    """Write the journal of a search; return what it cost.

    `at_once` trials run at any time and report in turn, as trials of one speed would.
    """
    study = load_space(SPACE, [*SETTINGS, f"budget.trials={trials}", f"sampler.name={sampler}"])
    suggestions: list[float] = []
    reports, began, computed = 0, time.perf_counter(), time.process_time()
    with Journal(folder / "journal.jsonl") as journal:
        journal.append(Open(study=facts(study, trials)))
        controller = Controller(study, journal, Sampler(study, "x", None), lambda record: None)
        running: deque[tuple[int, float, Iterator[float]]] = deque()
        while not controller.done:
            while len(running) < at_once:
                asked = time.process_time()
                job = controller.suggest()
                if job is None:
                    break
                suggestions.append(1e3 * (time.process_time() - asked))
                controller.started(job.number, node="n", pid=1, device="cpu", kimg=0.0)
                level = 20 + 30 * abs(job.config["optimizer"]["generator_lr"] * 1e3 - 0.3)
                running.append((job.number, level, iter(study.spec.milestones)))
            number, level, milestones = running.popleft()
            kimg = next(milestones)
            last = kimg == study.spec.milestones[-1]
            reports += 1
            event = report(kimg, level * (1 + 5 / kimg), last)
            if not controller.reported(number, event):
                running.append((number, level, milestones))
        journal.append(Close(state="finished", seconds=1.0))
    latest = sorted(suggestions[-len(suggestions) // 10 :])
    return {
        "simulated": round(time.perf_counter() - began, 1),
        "computed": round(time.process_time() - computed, 1),
        "reports": reports,
        "suggestion_median_ms": round(latest[len(latest) // 2], 1),
        "suggestion_worst_ms": round(latest[-1], 1),
    }


def facts(study: Any, trials: int) -> dict[str, Any]:
    """The least that a study records of itself."""
    objective = {"metric": "fd_classifier", "direction": "minimize"}
    return {
        "name": "many", "family": "gan", "objective": objective, "objectives": [objective],
        "budget": {"trials": trials, "kimg": study.spec.budget.kimg}, "parameters": [],
        "rungs": list(study.spec.rungs), "milestones": list(study.spec.milestones),
        "scheduler": {"name": "asha"}, "sampler": {"name": "curve"}, "resources": {"workers": 1},
        "evaluation": {"samples": 500}, "finalists": {"count": 0}, "recovery": {"retries": 3},
        "data": {"name": "shapes", "classes": ["a"]}, "started": time.time(),
    }  # fmt: skip


def timed(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return round(time.perf_counter() - began, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--sampler", default="curve")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "many"
        root.mkdir()
        cost = simulate(root, options.trials, options.at_once, options.sampler)
        more = [f"budget.trials={options.trials + 1}", f"sampler.name={options.sampler}"]
        study = load_space(SPACE, [*SETTINGS, *more])
        controller = Controller(study, [], Sampler(study, "x", None), lambda record: None)  # pyright: ignore[reportArgumentType]
        path = root / "journal.jsonl"
        results = {
            "trials": options.trials,
            "at_once": options.at_once,
            "sampler": options.sampler,
            **cost,
            "records": sum(1 for _ in path.open("rb")),
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "read": timed(lambda: read_records(path)),
            "replayed": timed(lambda: controller.replay(read_records(path))),
            "suggestion": timed(lambda: controller.sampler.draw(options.trials)),
            "next_suggestion": timed(lambda: controller.sampler.draw(options.trials + 1)),
            "tables": timed(lambda: load_results(root)),
            "status": timed(lambda: status(root)),
            "page": timed(lambda: write_page(load_results(root), root / "page.html")),
            "page_megabytes": round((root / "page.html").stat().st_size / 1e6, 1),
            "memory_megabytes": round(getrusage(RUSAGE_SELF).ru_maxrss / 1024),
            "cpu": platform.processor() or platform.machine(),
        }
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
