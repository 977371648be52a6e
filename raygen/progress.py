"""What the terminal shows: one calm line per event, on stderr."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from raygen.config import Study
from raygen.metrics import METRICS


class StudyProgress:
    """Prints the journal as it is written: phases, milestones, ends, and the best so far."""

    def __init__(self, study: Study, quiet: bool) -> None:
        self.study = study
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.metric = study.spec.objective
        self.minimise = METRICS[self.metric].direction == "minimize"
        self.began = time.monotonic()
        self.values: dict[int, float] = {}  # the best of each trial
        self.completed: set[int] = set()
        self.ended = 0

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one journal record, or a phase before there is a journal."""
        match record["kind"]:
            case "phase":
                self._say(record["text"], "dim")
            case "open":
                spec = self.study.spec
                rungs = ", ".join(f"{kimg:g}" for kimg in spec.rungs)
                self._say(f"{spec.budget.trials} trials, rungs at {rungs} kimg", "dim")
            case "report":
                self._report(record)
            case "end":
                self._end(record)
            case "close" if self.values:
                trial = self._best(self.completed or set(self.values))
                value = self.values[trial]
                self._say(f"best {self.metric} {value:.5g} by trial {trial}", "bold")
            case _:
                pass  # the other records follow from these, or are for the report

    def _report(self, record: dict[str, Any]) -> None:
        number, value = record["trial"], record["metrics"][self.metric]
        line = milestone_line(
            record["kimg"], record["metrics"], record["images_per_second"], record["seconds"]
        )
        news = value is not None and (not self.values or self._better(value))
        if value is not None:
            known = self.values.get(number, value)
            self.values[number] = min(known, value) if self.minimise else max(known, value)
        self._say(f"trial {number:>3}  {line}{'  * best so far' if news else ''}", "green" * news)

    def _end(self, record: dict[str, Any]) -> None:
        self.ended += 1
        if record["state"] == "completed":
            self.completed.add(record["trial"])
        done = f"{self.ended}/{self.study.spec.budget.trials}"
        reason = f": {record['reason']}" if record["reason"] else ""
        style = "red" if record["state"] in ("failed", "lost", "out_of_memory") else "dim"
        self._say(f"trial {record['trial']:>3}  {record['state']} [{done}]{reason}", style)

    def _better(self, value: float) -> bool:
        best = self.values[self._best(set(self.values))]
        return value < best if self.minimise else value > best

    def _best(self, trials: set[int]) -> int:
        """The best of some trials; as in the report, the completed ones where there are any."""
        pick = min if self.minimise else max
        return pick(trials & set(self.values), key=self.values.__getitem__)

    def _say(self, text: str, style: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        self.console.print(f"{minutes:>3}:{seconds:02d}  {text}", style=style, markup=False)


def milestone_line(
    kimg: float, metrics: dict[str, float | None], speed: float, seconds: float
) -> str:
    """Return one milestone in words."""
    values = [
        f"{name} {'not finite' if value is None else f'{value:.5g}'}"
        for name, value in metrics.items()
    ]
    return f"{kimg:>6g} kimg  {'  '.join(values)}  {speed:.0f} img/s  {seconds:.0f} s"


def plan(study: Study, folder: Path) -> str:
    """Return what a search would do, for --dry-run."""
    spec = study.spec
    rungs = ", ".join(f"{kimg:g}" for kimg in spec.rungs)
    searched = "\n".join(f"  {p.name}: {p.rule()}" for p in study.parameters)
    most = spec.budget.trials * spec.budget.kimg
    return (
        f"study      {folder}\n"
        f"family     {spec.family}\n"
        f"objective  {spec.objective}, {METRICS[spec.objective].direction}d\n"
        f"trials     {spec.budget.trials}, the first {len(study.start)} from known settings\n"
        f"rungs      {rungs} kimg ({spec.scheduler.name})\n"
        f"at most    {most:g} kimg, if nothing is stopped\n"
        f"each trial {spec.resources.workers} worker(s) x {spec.resources.cpus:g} CPU, "
        f"{spec.resources.gpus:g} GPU\n"
        f"searched\n{searched}"
    )
