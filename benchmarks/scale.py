"""uv run python benchmarks/scale.py [--quick] [--out FILE]: what one driver can hold.

The search itself with trials that only sleep and report, on fake resources: 10, 100 and 1,000
trials (--quick: 10 and 100), up to 100 at once, each of which reports once a second; a milestone is
reached at 1, 3, 9 and 27 seconds. Everything but the training is real: Ray Tune, TPE, ASHA, the
journal on the disk, the lines of the terminal and the tables. The processes begin together, once
all have started. What says whether the driver keeps up is how long a trial waits for it:
`wait_*` after a report, `change_*` between two trials of a process. Each size runs in a process of
its own, so that memory is its own. `controller_per_second`: the same decisions without Ray.
The last line is one JSON object; all values by number of trials.
"""

import argparse
import datetime
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raygen.search.assignment import Assignment

SIZES, QUICK_SIZES = (10, 100, 1000), (10, 100)
AT_ONCE = 100
SPACE = """
family: gan
data: {{source: shapes}}
objective: fd_classifier
evaluation: {{samples: 500}}
budget: {{trials: {trials}, kimg: 27}}
scheduler: {{name: asha, grace_kimg: 1, reduction_factor: 3}}
finalists: {{count: 0}}
resources: {{concurrent: {at_once}}}
space:
  loss:
    one_of:
      hinge: {{}}
      wasserstein: {{penalty: gradient_penalty, penalty_weight: {{float: [1, 30], log: true}}}}
  model: {{width: {{int: [32, 128], step: 32}}}}
  optimizer:
    generator_lr: {{float: [1.0e-4, 1.0e-2], log: true}}
    discriminator_lr: {{float: [1.0e-4, 1.0e-2], log: true}}
  batch_size: {{choice: [32, 64]}}
"""


class Sleeper(tune.Trainable):
    """A trial without training: 1 kimg is a second, and every second it reports."""

    def setup(
        self,
        config: dict[str, Any],
        milestones: tuple[float, ...] = (),
        meet: str = "",
        others: int = 0,
    ) -> None:
        """With `meet`, a folder, wait there until as many processes as `others` have started."""
        self.milestones, self.left = milestones, 0.0
        self.reset_config(config)
        if meet:
            Path(meet, str(os.getpid())).touch()
            while len(os.listdir(meet)) < others:
                time.sleep(0.5)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.job, self.second, self.told = new_config["job"], -1, 0
        self.waits: list[float] = []  # of this trial since its last milestone
        return True

    def step(self) -> dict[str, str]:
        """Sleep a second, and say what a trial would: what it waited for before, too."""
        waited = time.perf_counter() - self.left if self.left else 0.0
        self.second += 1
        if self.second == 0:
            self.changed = waited
            gpus = ray.get_gpu_ids()
            place = {"node": "here", "node_id": ray.get_runtime_context().get_node_id()}
            facts = {**place, "pid": os.getpid(), "device": f"gpus {gpus}", "kimg": 0.0}
            event = {"event": "started", **facts}
        else:
            self.waits.append(waited)
            time.sleep(1)
            event = {"event": "alive", "images": 1000 * self.second}
            if self.second >= self.milestones[self.told]:
                facts = progress(self.job, self.milestones, self.told)
                self.told += 1
                event = {"event": "progress", **facts, "waits": self.waits, "changed": self.changed}
                self.waits, self.changed = [], 0.0
        self.left = time.perf_counter()
        return {"message": json.dumps(event)}


class Timed:
    """Counts the calls of a function and the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls, self.seconds = function, 0, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.calls, self.seconds = self.calls + 1, self.seconds + time.perf_counter() - started


def simulate(trials: int, root: Path) -> float:
    """Let the controller decide for trials that report at once, without Ray: reports a second."""
    from raygen.config_file import load_space
    from raygen.journal.local import Journal
    from raygen.search.controller import Controller
    from raygen.search.sampler import Sampler

    (root / "space.yaml").write_text(SPACE.format(trials=trials, at_once=AT_ONCE))
    study, reports = load_space(root / "space.yaml"), 0
    with Journal(root / "simulated.jsonl") as journal:
        controller = Controller(study, journal, Sampler(study, "s", None), lambda record: None)
        running: list[tuple[Assignment, int]] = []
        began = time.perf_counter()
        while not controller.done:
            while len(running) < AT_ONCE and (job := controller.suggest()) is not None:
                facts = {"node": "n", "pid": 1, "device": "cpu", "kimg": 0.0}
                controller.started(job.number, **facts)
                running.append((job, 0))
            if not running:
                break
            job, told = running.pop(0)
            reports += 1
            if not controller.reported(job.number, progress(job, study.spec.milestones, told)):
                running.append((job, told + 1))
        return reports / (time.perf_counter() - began)


def progress(job: Assignment, milestones: tuple[float, ...], index: int) -> dict[str, Any]:
    """What a trial says at a milestone: better the nearer its rate is to 1e-3."""
    kimg, rate = milestones[index], job.config["optimizer"]["generator_lr"]
    return {
        "kimg": kimg, "seconds": kimg, "evaluation_seconds": 0.1, "images_per_second": 1000.0,
        "metrics": {"fd_classifier": 100 / kimg + 100 * abs(rate - 1e-3)}, "sd": {},
        "protocols": {"fd_classifier": {"metric": "fd_classifier"}}, "losses": {},
        "diverged": None, "last": kimg == milestones[-1], "best": True,
        "checkpoints": {"last": 100, "best": 50},
    }  # fmt: skip


def measure(trials: int, at_once: int, root: Path) -> dict[str, float]:
    """Run one search and return its figures."""
    from raygen.config_file import load_space
    from raygen.journal import read_records
    from raygen.journal.local import Journal
    from raygen.journal.records import Close, End, Open
    from raygen.progress import StudyProgress
    from raygen.results import fold, write_tables
    from raygen.search.controller import Controller
    from raygen.search.sampler import Sampler
    from raygen.status import status
    from raygen.study_folder import StudyFolder
    from raygen.tuning.tuner import drive

    (root / "space.yaml").write_text(SPACE.format(trials=trials, at_once=at_once))
    study, folder = load_space(root / "space.yaml"), StudyFolder(root / "study")
    folder.root.mkdir()
    shown = Timed(StudyProgress(study, "quiet"))
    moments: dict[str, list[float]] = {"start": [], "report": [], "end": []}
    cpu: list[float] = []  # seconds that this process has computed, at each of these
    meet = root / "meet"
    meet.mkdir()

    def notify(record: Any) -> None:
        shown(record)
        kind = getattr(record, "kind", "")
        if kind in moments:
            moments[kind].append(time.perf_counter())
            cpu.append(time.process_time())

    with Journal(folder.journal) as journal:
        journal.append = written = Timed(journal.append)  # pyright: ignore[reportAttributeAccessIssue]
        sampler = Sampler(study, "scale", folder.optuna)
        controller = Controller(study, journal, sampler, notify)
        suggest = controller.suggest = Timed(controller.suggest)  # pyright: ignore[reportAttributeAccessIssue]
        reported, waits, changes = controller.reported, [], []

        def hear(number: int, event: dict[str, Any]) -> bool:
            waits.extend(event["waits"])
            changes.extend([event["changed"]] if event["changed"] else [])
            return reported(number, event)

        controller.reported = hear  # pyright: ignore[reportAttributeAccessIssue]
        info = {"name": "scale", "objective": {"metric": "fd_classifier", "direction": "minimize"}}
        journal.append(Open(study={**info, "settings": {}, "started": time.time()}))
        given = {"meet": str(meet), "others": min(at_once, trials)}
        sleeper = tune.with_parameters(Sleeper, milestones=study.spec.milestones, **given)
        began, opened = time.perf_counter(), time.time()
        drive(
            controller,
            sleeper,
            tune.PlacementGroupFactory([{"slot": 1}]),
            lambda: at_once,
            folder.root,
        )
        wall = time.perf_counter() - began
        journal.append(Close(state="finished", seconds=wall))
    records = read_records(folder.journal)
    tables, told = Timed(write_tables), Timed(status)
    tables(fold(folder, records))
    told(folder.root)
    reports = moments["report"]
    first_process = min(file.stat().st_mtime for file in meet.iterdir())
    ended = sum(isinstance(record, End) for record in records)
    assert ended == trials, f"{ended} of {trials} trials ended"
    span = reports[-1] - moments["start"][0]
    return {
        "at_once": min(at_once, trials),
        "reports": len(reports),
        "controller_per_second": simulate(trials, root),
        "decisions_per_second": len(reports) / span,
        "messages_per_second": len(waits) / span,
        **quantiles("wait", waits),
        **quantiles("change", changes),
        "driver_megabytes": megabytes(),
        "driver_cpu_share": (cpu[-1] - cpu[0]) / span,
        "seconds_to_first_trial": first_process - opened,
        "seconds_to_all_processes": moments["start"][0] - began,
        "milliseconds_suggest": 1e3 * suggest.seconds / suggest.calls,
        "milliseconds_journal_record": 1e3 * written.seconds / written.calls,
        "milliseconds_shown_record": 1e3 * shown.seconds / shown.calls,
        "seconds_tables": tables.seconds,
        "seconds_status": told.seconds,
        "journal_megabytes": folder.journal.stat().st_size / 1e6,
        "seconds": wall,
    }


def quantiles(name: str, seconds: list[float]) -> dict[str, float]:
    """Return the median and the 95th and 99th of 100 parts of some waits, in milliseconds."""
    if len(seconds) < 2:
        return {}
    parts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"{name}_milliseconds_{part}": 1e3 * parts[part - 1] for part in (50, 95, 99)}


def megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def alone(trials: int, at_once: int) -> None:
    """Measure one size on a Ray of its own; print the figures as JSON."""
    from raygen.cluster.connect import RAY_SETTINGS

    os.environ.update(RAY_SETTINGS)
    with tempfile.TemporaryDirectory(
        prefix="rg-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        ray.init(
            address="local", num_cpus=2, resources={"slot": at_once}, log_to_driver=False,
            logging_level=logging.ERROR, object_store_memory=200_000_000, _temp_dir=f"{folder}/ray",
            runtime_env={"env_vars": {**RAY_SETTINGS, "OMP_NUM_THREADS": "1"}},
        )  # fmt: skip
        print(json.dumps(measure(trials, at_once, Path(folder))))
        ray.shutdown()


def main() -> None:
    """Measure every size, print a line each and all figures last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        alone(chosen.one, AT_ONCE)
        return
    found: dict[str, dict[str, float]] = {}
    for size in QUICK_SIZES if chosen.quick else SIZES:
        words = [sys.executable, __file__, "--one", str(size)]
        env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        # Ray prints empty lines as it ends.
        last = next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{"))
        for key, value in json.loads(last).items():
            found.setdefault(key, {})[str(size)] = round(value, 4)
        print(f"{size} trials: {found['messages_per_second'][str(size)]:.0f} messages a second")
    figures = {"benchmark": "scale", "quick": chosen.quick, **found}
    figures["machine"] = f"{platform.platform()}, {os.cpu_count()} CPUs"
    figures["date"] = datetime.date.today().isoformat()
    if chosen.out:
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
