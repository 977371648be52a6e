"""What the terminal shows: one calm line per event, on stderr."""

import math
import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from raygen.config import Study, StudySpec
from raygen.errors import InputError
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
        self.taught = 0
        self.repeats: dict[int, int] = {}  # repetitions of finalists
        self.means: dict[int, float] = {}  # of the finalists over their new seeds

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one journal record, or a phase before there is a journal."""
        match record["kind"]:
            case "phase":
                self._say(record["text"], "dim")
            case "open":
                spec = self.study.spec
                rungs = ", ".join(f"{kimg:g}" for kimg in spec.rungs)
                self._say(f"{spec.budget.trials} trials, rungs at {rungs} kimg", "dim")
            case "earlier":
                self._recall(record["records"])
            case "warm" if record["values"] is not None:
                self.taught += 1
            case "suggest" if record.get("of") is not None:
                self.repeats[record["trial"]] = record["of"]
            case "finals":
                numbers = ", ".join(str(number) for number in record["trials"])
                self._say(f"finalists, again with other seeds: trials {numbers}", "bold")
            case "race":
                self._race(record)
            case "final":
                values = ", ".join(_measured(*each) for each in record["values"].items())
                self._say(f"trial {record['trial']:>3}  in full: {values}", "bold")
            case "report" if record["trial"] in self.repeats:
                pass
            case "report":
                self._report(record)
            case "retry":
                text = f"lost, tried again in {record['wait']:g} s: {record['reason']}"
                self._say(f"trial {record['trial']:>3}  {text}", "yellow")
            case "end":
                self._end(record)
            case "close" if self.means:
                pick = min if self.minimise else max
                trial = pick(self.means, key=self.means.__getitem__)
                seeds = f"{self.means[trial]:.5g} over its new seeds"
                self._say(f"best {self.metric} {seeds} by trial {trial}", "bold")
            case "close" if self.values:
                trial = self._best(self.completed or set(self.values))
                value = self.values[trial]
                self._say(f"best {self.metric} {value:.5g} by trial {trial}", "bold")
            case _:
                pass  # the other records follow from these, or are for the report

    def _recall(self, records: list[dict[str, Any]]) -> None:
        """Take in what an earlier session wrote, without showing it."""
        quiet, self.console.quiet = self.console.quiet, True
        for record in records:
            self(record)
        self.console.quiet = quiet
        trials = self.study.spec.budget.trials
        self._say(f"going on: {self.ended} of {trials} trials have ended", "dim")

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

    def _race(self, record: dict[str, Any]) -> None:
        self.means |= {int(number): mean for number, mean in record["means"].items()}
        shares = [
            f"trial {number} {mean:.5g} (best with {record['best'].get(number) or math.nan:.0%})"
            for number, mean in record["means"].items()
        ]
        self._say(f"after {record['seeds']} more seeds: {', '.join(shares)}", "bold")

    def _end(self, record: dict[str, Any]) -> None:
        if record["trial"] in self.repeats:
            of = self.repeats[record["trial"]]
            self._say(f"trial {record['trial']:>3}  {record['state']}, again trial {of}", "dim")
            return
        if record["state"] != "interrupted":
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


def _measured(metric: str, found: dict[str, Any]) -> str:
    value, sd = found["value"], found["sd"]
    if value is None:
        return f"{metric} not finite"
    return f"{metric} {value:.5g}" + (f" ± {sd:.2g}" if sd else "")


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Return the seconds in "90s", "45m", "1h30m", "8h" or "2d".

    Raises:
        InputError: it is none of these.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InputError(f"--time {text}: is not a time such as 90s, 45m, 1h30m, 8h or 2d")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


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
        f"measured   {_samples(spec)} samples: {', '.join(spec.metrics)}\n"
        f"at most    {most:g} kimg, if nothing is stopped{_limits(spec)}\n"
        f"finalists  {_finalists(spec)}\n"
        f"each trial {spec.resources.workers} worker(s) x {spec.resources.cpus:g} CPU, "
        f"{spec.resources.gpus:g} GPU\n"
        f"searched\n{searched}"
    )


def _samples(spec: StudySpec) -> str:
    counts = [spec.evaluation.samples_at(kimg, spec.rungs) for kimg in spec.rungs]
    return ", ".join(str(count) for count in dict.fromkeys(counts))


def _finalists(spec: StudySpec) -> str:
    chosen = spec.finalists
    if spec.trade_off or not chosen.count:
        return "none"
    most = chosen.count * chosen.seeds * spec.budget.kimg
    full = (
        f"; then {', '.join(spec.final_metrics)} of {chosen.samples} samples from "
        f"{chosen.sample_seeds} seeds"
    )
    again = f"the best {chosen.count} again with up to {chosen.seeds} seeds, at most {most:g} kimg"
    return again + full * bool(chosen.samples)


def _limits(spec: StudySpec) -> str:
    """The budgets beside that of trials, in words."""
    limits = {k: v for k, v in spec.budget.model_dump().items() if k not in ("trials", "kimg")}
    return "".join(f", {v:g} {k.replace('_', ' ')}" for k, v in limits.items() if v is not None)
