"""Quality against minutes and images: every recipe under one protocol.

    uv run python benchmarks/frontier.py --data FOLDER --out benchmarks/results/frontier.json

Each recipe trains with every seed to the budget of images or of minutes, whichever ends first, and
is measured as it goes; what evaluations take is not counted. On a CPU the recipes are the small
ones of recipes.py; on a GPU they are the first starting points of the shipped spaces, at their full
size. The objective is `fd_classifier`; Fréchet distances of Inception and DINOv2 come with it where
`--metrics` names them and their weights are in the cache. A value compares with others of the same
file only. The table has, for each recipe, the minutes and images to some distances and the best at
the end, as the median of the seeds; `--chart FILE` draws all of it.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from raygen.compute import best_device
from raygen.config_file import a_draw, load_space
from raygen.data import DataSpec, ImageData, load_data
from raygen.metrics.evaluator import Evaluator, prepare
from raygen.training.loop import fit, make_learner
from raygen.trial import Trial
from recipes import RECIPES, cpu_name, parse_trial

SPACES = Path(__file__).parents[1] / "search_spaces"
METRIC = "fd_classifier"
FIRST = 1 / 32  # of the budget, where a recipe is first measured; then at twice as many images


def recipes(full: bool) -> dict[str, Trial]:
    """Configurations by name: small ones for a CPU, or as the shipped spaces begin."""
    if not full:
        return {name: parse_trial(recipe.settings) for name, recipe in RECIPES.items()}
    studies = {file.stem: load_space(file) for file in sorted(SPACES.glob("*.yaml"))}
    return {name: study.trial(a_draw(study)) for name, study in studies.items()}


def milestones(kimg: float) -> list[float]:
    """Where a recipe is measured: at doubled numbers of images, the last of them the budget."""
    points = [kimg]
    while points[-1] > kimg * FIRST * 1.01:
        points.append(points[-1] / 2)
    return [round(point, 6) for point in reversed(points)]


def train(
    trial: Trial, data: ImageData, evaluator: Evaluator, kimg: float, minutes: float, seed: int
) -> list[dict[str, Any]]:
    """Train one recipe with one seed; one row per milestone."""
    rows: list[dict[str, Any]] = []
    evaluated = 0.0
    clock = time.monotonic()

    def late(_: Any) -> bool:
        return time.monotonic() - clock - evaluated > 60 * minutes

    for progress in fit(trial, data, evaluator, milestones(kimg), seed, pulse=late):
        evaluated += progress.evaluation_seconds
        rows.append({
            "kimg": progress.kimg,
            "minutes": (progress.seconds - evaluated) / 60,
            "images_per_second": progress.images_per_second,
            "metrics": {name: score.value for name, score in progress.scores.items()},
            "diverged": progress.diverged,
        })  # fmt: skip
        if late(progress):
            break
    return rows


def reached(rows: list[dict[str, Any]], distance: float, key: str) -> float | None:
    """Minutes or kimg at the first milestone at a distance or nearer; None if there is none."""
    for row in rows:
        value = row["metrics"].get(METRIC)
        if value is not None and value <= distance:
            return row[key]
    return None


def best(rows: list[dict[str, Any]]) -> float | None:
    """The smallest distance of a training."""
    values = [row["metrics"][METRIC] for row in rows if METRIC in row["metrics"]]
    return min(values, default=None)


def thresholds(runs: dict[str, list[list[dict[str, Any]]]]) -> list[float]:
    """Distances to compare at: half-way, in powers of two, from the worst end to the best."""
    ends = [end for seeds in runs.values() for rows in seeds if (end := best(rows)) is not None]
    if not ends:
        return []
    points = [max(ends)]
    while points[-1] / 2 > min(ends) and len(points) < 4:
        points.append(points[-1] / 2)
    return [float(f"{point:.2g}") for point in points]


def median(values: list[float | None]) -> float | None:
    """The median; None if most seeds have no value."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if 2 * len(known) > len(values) else None


def table(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    runs, points = report["runs"], thresholds(report["runs"])
    heads = [f"to {point:g}: min, kimg" for point in points]
    lines = [
        f"{'recipe':34} {'M':>6} {'img/s':>7} {'best':>8}  " + "  ".join(f"{h:>20}" for h in heads)
    ]
    order = sorted(runs, key=lambda name: median([best(rows) for rows in runs[name]]) or 1e9)
    for name in order:
        seeds = runs[name]
        speed = median([rows[-1]["images_per_second"] for rows in seeds if rows])
        end = median([best(rows) for rows in seeds])
        cells = []
        for point in points:
            pair = [
                median([reached(rows, point, key) for rows in seeds]) for key in ("minutes", "kimg")
            ]
            cells.append("-" if pair[0] is None else f"{pair[0]:.3g}, {pair[1]:.3g}")
        values = " ".join(
            f"{'-' if value is None else format(value, form):>{width}}"
            for value, form, width in (
                (report["million_parameters"][name], ".2f", 6),
                (speed, ".0f", 7),
                (end, ".4g", 8),
            )
        )
        lines.append(f"{name:34} {values}  " + "  ".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def chart(report: dict[str, Any], file: Path) -> None:
    """Draw the distance over minutes and over images: a line per recipe, the median of seeds."""
    import plotly.graph_objects as go
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for place, (name, seeds) in enumerate(report["runs"].items()):
        for col, key in enumerate(("minutes", "kimg"), start=1):
            length = min(map(len, seeds))
            points = [
                (
                    median([rows[k][key] for rows in seeds]),
                    median([rows[k]["metrics"].get(METRIC) for rows in seeds]),
                )
                for k in range(length)
            ]
            figure.add_trace(
                go.Scatter(
                    x=[x for x, _ in points], y=[y for _, y in points], mode="lines+markers",
                    name=name, legendgroup=name, showlegend=col == 1,
                    line={"color": qualitative.Dark24[place % 24]},
                ),
                row=1, col=col,
            )  # fmt: skip
    figure.update_xaxes(type="log")
    figure.update_xaxes(title_text=f"minutes of training ({report['machine']})", col=1)
    figure.update_xaxes(title_text="thousands of images", col=2)
    figure.update_yaxes(type="log", title_text=f"{METRIC} on {report['data']}", col=1)
    figure.update_layout(
        title=f"Quality against cost, median of {len(report['seeds'])} seeds, {report['date']}"
    )
    figure.write_html(file, include_plotlyjs=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="a folder of photographs; without it drawn shapes")
    parser.add_argument("--kimg", type=float, default=6.0, help="budget of each training")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each training, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--metrics", nargs="*", default=[], help="beside fd_classifier")
    parser.add_argument("--full", action="store_true", help="shipped sizes; on CUDA always")
    parser.add_argument("--only", nargs="*", help="these recipes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chart", type=Path)
    chosen = parser.parse_args()
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)  # now, not after the first recipe
    device = best_device()
    cuda, threads = device.type == "cuda", torch.get_num_threads()
    data = load_data(DataSpec(source="shapes", path=chosen.data))
    every = recipes(chosen.full or cuda)
    names = [name for name in every if not chosen.only or name in chosen.only]
    metrics = (METRIC, *chosen.metrics)
    assets = prepare(metrics, data, device)
    report: dict[str, Any] = {
        "command": " ".join(["benchmarks/frontier.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": torch.cuda.get_device_name() if cuda else f"{cpu_name()}, {threads} threads",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "data": data.name, "metrics": metrics, "samples": chosen.samples, "seeds": chosen.seeds,
        "million_parameters": {}, "runs": {},
    }  # fmt: skip
    for name in names:
        trial = every[name]
        learner = make_learner(trial, len(data.classes), device, 0, image=data.image)
        report["million_parameters"][name] = learner.parameters / 1e6
        report["runs"][name] = []
        for seed in chosen.seeds:
            evaluator = Evaluator(metrics, data, chosen.samples, device, assets)
            rows = train(trial, data, evaluator, chosen.kimg, chosen.minutes, seed)
            report["runs"][name].append(rows)
            print(
                f"{name}, seed {seed}: {rows[-1] if rows else 'out of time'}",
                file=sys.stderr,
                flush=True,
            )
        if chosen.out:
            chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    if chosen.chart:
        chart(report, chosen.chart)


if __name__ == "__main__":
    main()
