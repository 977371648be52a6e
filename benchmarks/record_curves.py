"""Record the learning curves of a few hundred small GANs and VAEs: the table that replays use.

    uv run python benchmarks/record_curves.py            # an hour on two idle cores
    uv run python benchmarks/record_curves.py --quick    # under 5 minutes, another file
    uv run python benchmarks/record_curves.py --full --data FOLDER --out full.csv.gz    # on a GPU

With `--full` the spaces are those that raygen ships, with networks of their own size on photographs
and a dozen processes that share one GPU, for a budget that is meant to take it under an hour.

Every run is raygen's own `fit` on the drawn shapes, on one CPU thread, over the spaces of
curves_gan.yaml and curves_vae.yaml. A run that diverges or collapses ends as it would in a search,
and the table says why and after how many images. What is interrupted goes on where it was. The last
line is one JSON object of figures.

Columns: family, config, seed (of training), one per parameter (empty in branches that lack it),
kimg (the milestone), trained_kimg (images really shown), value (of the objective; empty if it is
not finite), sd (its standard error over other samples, where the metric knows it), seconds (of CPU
time, training and evaluation, since the start: other work on the machine does not count), diverged
(the reason, on the last row of a run that has one).

Runs that the table holds already are kept, so more seeds or configurations can be added to it;
delete it to record all of them.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two processes share two cores

import optuna
import pandas as pd
import torch
from torch import nn

from raygen.config import Study
from raygen.data import ImageData, load_data
from raygen.image_shape import ImageShape
from raygen.metrics.evaluator import Asset, Evaluator, prepare
from raygen.models import Dcgan, GanNets
from raygen.space import Draw, sample
from raygen.training.health import JUDGED
from raygen.training.loop import fit
from search_tables import spaces

HERE = Path(__file__).parent
OUT = HERE / "curves.csv.gz"
# Every tenth and every sixth configuration is trained again, with other seeds.
REPEATED_EVERY = {"gan": 10, "vae": 6}
SEEDS = 5
FULL_PROCESSES = 12
QUICK_CONFIGS = {"gan": 24, "vae": 24}
QUICK_SEEDS = 3
FIXED = ("kimg", "trained_kimg", "value", "sd", "seconds", "diverged")

CPU = torch.device("cpu")


class FullyConnected(Dcgan):
    """Fully connected networks (Goodfellow et al. 2014) with the settings of dcgan.

    On one CPU thread a step of a small convolutional GAN takes 10 ms and is all overhead; of these
    2 ms. So a run has hundreds of steps, and its value hardly depends on its seed.
    """

    def build(self, image: ImageShape, classes: int) -> GanNets:
        hidden = 16 * self.width
        generator = FullyConnectedGenerator(self.latent_dim, hidden)
        return GanNets(generator, FullyConnectedDiscriminator(hidden, self.discriminator_norm))


class FullyConnectedGenerator(nn.Module):
    """Latents (n, latent_dim) -> images (n, 3, 32, 32) in [-1, 1]."""

    def __init__(self, latent_dim: int, hidden: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, 3 * 32 * 32), nn.Tanh(), nn.Unflatten(1, (3, 32, 32)),
        )  # fmt: skip

    def forward(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.layers(latents)


class FullyConnectedDiscriminator(nn.Module):
    """Images (n, 3, 32, 32) -> logits (n,); `norm` is none or layer."""

    def __init__(self, hidden: int, norm: str) -> None:
        super().__init__()

        def block(size: int) -> list[nn.Module]:
            normed = [nn.LayerNorm(hidden)] if norm == "layer" else []
            return [nn.Linear(size, hidden), *normed, nn.LeakyReLU(0.2)]

        self.layers = nn.Sequential(
            nn.Flatten(), *block(3 * 32 * 32), *block(hidden), nn.Linear(hidden, 1)
        )

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.layers(images).squeeze(1)


class Job(NamedTuple):
    """One training."""

    family: str
    config: int
    repeat: int

    @property
    def seed(self) -> int:
        """A seed of its own: no two configurations share their noise."""
        return self.config * 100 + self.repeat


class Bench(NamedTuple):
    """What a process needs for every run of a family."""

    study: Study
    draws: list[Draw]
    data: ImageData
    evaluator: Evaluator


def main() -> None:
    arguments = _parse()
    out: Path = arguments.out or (
        Path(tempfile.gettempdir()) / "raygen-curves-quick.csv.gz" if arguments.quick else OUT
    )
    started = time.monotonic()
    studies = spaces(arguments.full, arguments.data)
    device = torch.device("cuda" if arguments.full else "cpu")
    jobs = list(plan(studies, arguments.quick))
    partial = out.with_name(out.name + ".partial")
    done = read_table(out, studies) | read_partial(partial, identity(studies))
    todo = sorted((job for job in jobs if job not in done), key=urgency)
    print(f"{len(jobs)} runs, {len(jobs) - len(todo)} done before: {partial}", file=sys.stderr)
    assets = {family: _prepare(study, device) for family, study in studies.items()}
    processes = FULL_PROCESSES if arguments.full else 2
    with (
        partial.open("a", encoding="utf-8") as file,
        multiprocessing.get_context("spawn").Pool(
            processes, start_worker, (studies, assets, device)
        ) as pool,
    ):
        for number, (job, rows) in enumerate(pool.imap_unordered(record, todo), start=1):
            done[job] = rows
            file.write(json.dumps([job, rows]) + "\n")
            file.flush()
            if number % 20 == 0:
                print(f"{number}/{len(todo)} {time.monotonic() - started:.0f} s", file=sys.stderr)
    write_table(out, studies, {job: done[job] for job in jobs})
    partial.unlink()
    table = pd.read_csv(out)
    figures = {family: summary(table[table["family"] == family]) for family in studies}
    encoder = assets["gan"]["classifier"]["hash"]
    cost = {"wall_seconds": round(time.monotonic() - started), "runs_now": len(todo)}
    size = {"file": str(out), "bytes": out.stat().st_size, "encoder_hash": encoder}
    print(json.dumps({**figures, **cost, **size}))


def plan(studies: dict[str, Study], quick: bool) -> Iterator[Job]:
    """Every run of the table, in its order."""
    for family, study in studies.items():
        configs = QUICK_CONFIGS[family] if quick else study.spec.budget.trials
        for config in range(configs):
            again = config % REPEATED_EVERY[family] == 0
            seeds = (QUICK_SEEDS if quick else SEEDS) if again else 1
            yield from (Job(family, config, repeat) for repeat in range(seeds))


def urgency(job: Job) -> tuple[bool, int]:
    """What is recorded first: three seeds of all configurations, so that a cut table is of use."""
    return job.repeat > 2, job.config * (1 if job.family == "gan" else 3)


def draws(study: Study, count: int) -> list[Draw]:
    """Draw the configurations: the first of them are the same for every count."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.spec.seed))
    return [sample(study.space, random.ask()) for _ in range(count)]


_benches: dict[str, Bench] = {}  # of a worker process


def start_worker(
    studies: dict[str, Study], assets: dict[str, dict[str, Asset]], device: torch.device
) -> None:
    """Load, once per process, everything that its runs share."""
    torch.set_num_threads(1)
    for family, study in studies.items():
        data = load_data(study.spec.data)
        train = data.train._replace(
            images=data.train.images.to(device), labels=data.train.labels.to(device)
        )
        data = data._replace(train=train)
        samples = study.spec.evaluation.samples
        evaluator = Evaluator(study.spec.metrics, data, samples, device, assets[family])
        configs = draws(study, study.spec.budget.trials)
        _benches[family] = Bench(study, configs, data, evaluator)


def record(job: Job) -> tuple[Job, list[dict[str, Any]]]:
    """Train one configuration to its end and return a row per milestone."""
    bench = _benches[job.family]
    spec = bench.study.spec
    trial = bench.study.trial(bench.draws[job.config].config)
    if isinstance(trial.model, Dcgan) and bench.data.train.images.device == CPU:
        small = FullyConnected(**trial.model.model_dump())
        trial = trial.model_copy(update={"model": small})
    rows = []
    began = time.process_time()
    for progress in fit(trial, bench.data, bench.evaluator, spec.milestones, job.seed):
        score = progress.scores.get(spec.objective)
        rows.append(
            {
                "kimg": progress.kimg,
                "trained_kimg": progress.state["images"] / 1000,
                "value": _rounded(score.value if score else None),
                "sd": _rounded(score.sd if score else None),
                "seconds": round(time.process_time() - began, 3),
                "diverged": progress.diverged or "",
            }
        )
    return job, rows


def read_partial(path: Path, name: str) -> dict[Job, list[dict[str, Any]]]:
    """Return the runs that an interrupted recording of the same table has finished.

    The file starts with the identity of the table; of another table, it is begun anew.
    """
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    if not lines or lines[0] != name:
        path.write_text(name + "\n", encoding="utf-8")
        return {}
    # The last piece is empty, or a line that was being written when the recording died.
    path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
    runs = (json.loads(line) for line in lines[1:-1])
    return {Job(*job): rows for job, rows in runs}


def read_table(path: Path, studies: dict[str, Study]) -> dict[Job, list[dict[str, Any]]]:
    """Return the runs of an earlier table whose configurations are still what is drawn."""
    if not path.exists():
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    configs = {f: draws(s, s.spec.budget.trials) for f, s in studies.items()}
    runs: dict[Job, list[dict[str, Any]]] = {}
    for _, rows in table.groupby(["family", "config", "seed"], sort=False):
        family, config, seed = (rows[name].iloc[0] for name in ("family", "config", "seed"))
        job = Job(family, int(config), int(seed) - 100 * int(config))
        drawn = configs[family][job.config].parameters
        if any(rows.iloc[0][name] != str(value) for name, value in drawn.items()):
            continue
        numbers = rows[list(FIXED[:-1])].map(lambda text: float(text) if text else None)
        runs[job] = [
            {str(name): None if pd.isna(value) else value for name, value in row.items()}
            | {"diverged": reason}
            for row, reason in zip(numbers.to_dict("records"), rows["diverged"], strict=True)
        ]
    return runs


def identity(studies: dict[str, Study]) -> str:
    """What the content of the table follows from, as one word."""
    content = json.dumps({family: study.settings() for family, study in studies.items()})
    return hashlib.sha256(content.encode()).hexdigest()


def write_table(
    out: Path, studies: dict[str, Study], runs: dict[Job, list[dict[str, Any]]]
) -> None:
    """Write the table; the same runs give the same bytes."""
    named = {family: [p.name for p in study.parameters] for family, study in studies.items()}
    columns = list(dict.fromkeys(name for names in named.values() for name in names))
    configs = {f: draws(s, s.spec.budget.trials) for f, s in studies.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["family", "config", "seed", *columns, *FIXED])
    for job, rows in runs.items():
        values = configs[job.family][job.config].parameters
        settings = [values.get(column, "") for column in columns]
        for row in rows:
            facts = ["" if row[key] is None else row[key] for key in FIXED]
            writer.writerow([job.family, job.config, job.seed, *settings, *facts])
    # No name and no time in the header: gzip would record when it was written.
    with out.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.getvalue().encode())


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Figures of one family: what was recorded, and how well an early value tells the last one."""
    ends = table.groupby(["config", "seed"]).last()
    last = table["kimg"].max()
    curves = table.pivot_table(index=["config", "seed"], columns="kimg", values="value")
    first = curves.groupby("config").head(1).dropna()  # one seed each, trained to the end
    ranks = first.rank()
    repeated = curves.groupby("config").filter(lambda runs: len(runs) > 1)
    logs = repeated[repeated > 0].map(math.log, na_action="ignore")
    spread = logs.groupby("config").std().median()
    reasons = ends["diverged"].fillna("")
    return {
        "configs": int(table["config"].nunique()),
        "runs": len(ends),
        "diverged_share": round(float((reasons != "").mean()), 3),
        "collapsed_share": round(float(reasons.str.startswith(JUDGED).mean()), 3),
        "completed_share": round(float((reasons == "").mean()), 3),
        "cpu_seconds": round(float(ends["seconds"].sum())),
        "kimg": round(float(ends["trained_kimg"].sum()), 1),
        "spearman_with_last": {
            f"{k:g}": round(float(ranks[k].corr(ranks[last])), 3) for k in ranks
        },
        "seed_sd_of_log": {f"{k:g}": round(float(v), 4) for k, v in spread.items()},
        "value_quantiles": [round(float(q), 3) for q in first[last].quantile([0, 0.1, 0.5, 0.9])],
    }


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _prepare(study: Study, device: torch.device) -> dict[str, Asset]:
    return prepare(study.spec.metrics, load_data(study.spec.data), device)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs, under 5 minutes")
    parser.add_argument("--full", action="store_true", help="the shipped spaces, on a GPU")
    parser.add_argument("--data", help="photographs, for --full")
    parser.add_argument("--out", type=Path, help="default: benchmarks/curves.csv.gz")
    return parser.parse_args()


if __name__ == "__main__":
    main()
