"""A model, from its training to its use: train, generate, evaluate, augment, audit, export."""

import json
import shlex
import sys
from pathlib import Path

import click

from raygen.cli.group import StudyPath, command
from raygen.cli.options import (
    DATA,
    EXISTING,
    JSON,
    SETTING,
    STUDY,
    TRIAL,
    answer,
    newest_study,
)
from raygen.errors import InputError, RaygenError
from raygen.terminal import say, tell
from raygen.untrusted import visible


@command("train")
@click.argument("config_file", metavar="CONFIG", required=False, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Configuration, same as CONFIG.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the result; default: runs/train-<file name>.",
)
@click.option("--resume", is_flag=True, help="Resume from the last checkpoint in the folder.")
@SETTING
@JSON
def train_command(
    config_file: Path | None,
    config: Path | None,
    out: Path | None,
    resume: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train one configuration without Ray.

    CONFIG is a YAML file, as `raygen best` prints it.

    E.g.: raygen train best.yaml
    """
    if (config_file is None) == (config is None):
        raise click.UsageError("give one CONFIG: a YAML file, as raygen best prints it")
    config = config_file or config
    assert config is not None
    from raygen.compute import best_device
    from raygen.config_file import load_train_job
    from raygen.plugins import look_in
    from raygen.progress import milestone_line
    from raygen.study_folder import TrialFolder
    from raygen.training import single
    from raygen.words import kimg_text

    look_in(config.parent)
    job = load_train_job(config, settings)
    folder = TrialFolder(out or Path("runs") / f"train-{config.stem}")
    device = best_device()
    scores: dict[str, float | None] = {}
    try:
        for progress in single.train(job, folder, device, resume, tell):
            metrics: dict[str, float | None] = {
                name: score.value for name, score in progress.scores.items()
            }
            speed, seconds = progress.images_per_second, progress.seconds
            tell(milestone_line(progress.kimg, metrics, speed, seconds))
            if progress.diverged is not None:
                at = kimg_text(progress.kimg)
                raise RaygenError(f"diverged at {at} kimg: {progress.diverged}")
            scores = metrics
    except KeyboardInterrupt:
        if folder.last.exists():
            given = [part for setting in settings for part in ("--set", setting)]
            words = shlex.join([str(config), "--out", str(folder.root), *given, "--resume"])
            tell(f"stopped; it goes on from its last milestone with: raygen train {words}")
        raise
    best = str(folder.best)
    answer(as_json, best, checkpoint=best, **scores)


@command("generate")
@click.argument("source", type=EXISTING, default=newest_study)
@TRIAL
@click.option(
    "-o",
    "--out",
    default="samples.png",
    type=click.Path(path_type=Path),
    show_default=True,
    help="A .png grid, .npz, .gif loop, or a folder.",
)
@click.option(
    "--count",
    "--samples",
    type=click.IntRange(1),
    help="Number of images; default: 64, 1 with --tile, 4 for a .gif.",
)
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Sampling seed.")
@click.option("--class", "label", help="Only images of this class (conditional models).")
@click.option(
    "--truncation",
    type=click.FloatRange(0, min_open=True),
    help="Truncate latents at +- this (GAN) or scale them by it (VAE): lower is less varied.",
)
@click.option(
    "--temperature",
    default=1.0,
    type=click.FloatRange(0, 1.5, min_open=True),
    show_default=True,
    help="Scale the standard deviation of latents (VAE: of each layer's prior): lower is less "
    "varied. Models are trained at 1.",
)
@click.option(
    "--interpolate", type=click.IntRange(2), help="Number of frames from one latent to the next."
)
@click.option(
    "--like", type=click.Path(path_type=Path), help="Draw images similar to this picture."
)
@click.option(
    "--spread",
    default=0.5,
    type=click.FloatRange(0, 1),
    show_default=True,
    help="Distance from --like: 0 is the same image, 1 is unrestricted.",
)
@click.option(
    "--tile",
    type=click.IntRange(2, 64),
    help="Draw a texture: tile each picture this many times, mirrored so that borders match.",
)
@click.option(
    "--shard", type=click.IntRange(1), help="Split an .npz into files of this many images."
)
@click.option(
    "--data",
    metavar="PATH",
    help="Training images, to check --class, if the checkpoint does not name them.",
)
@JSON
def generate_command(
    source: Path,
    trial: int | None,
    out: Path,
    count: int | None,
    seed: int,
    label: str | None,
    truncation: float | None,
    temperature: float,
    interpolate: int | None,
    like: Path | None,
    spread: float,
    tile: int | None,
    shard: int | None,
    data: str | None,
    as_json: bool,
) -> None:
    """Generate images: a grid (.png), an .npz, a folder or a .gif.

    E.g.: raygen generate runs/quickstart --count 100 --out images/
    """
    from raygen.apply.generate import Ways, generate
    from raygen.compute import best_device

    device = best_device()
    ways = Ways(label, truncation, interpolate, like, spread, tile, shard, data, temperature)
    number = count or (1 if tile else 4 if out.suffix == ".gif" else 64)
    source = chosen_source(source, trial)
    written = generate(source, out, number, seed, device, label, ways)
    answer(as_json, written, out=str(written))


@command("evaluate")
@click.argument("sources", nargs=-1, required=True, type=StudyPath(weights=True))
@click.option(
    "--metrics", metavar="A,B", help="E.g. fid,fid_test,kid; default: those of the study."
)
@click.option(
    "--samples",
    "--count",
    type=click.IntRange(1),
    help="Default: the study's, all stored images, or 10000.",
)
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=click.IntRange(0),
    help="Sampling seed (repeat for several).",
)
@click.option("--data", metavar="PATH", help="Real images to compare with; default: the study's.")
@JSON
def evaluate_command(
    sources: tuple[Path, ...],
    metrics: str | None,
    samples: int | None,
    seeds: tuple[int, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Measure studies, checkpoints, folders of images or .npz files.

    For a study, this measures the model to use; without --metrics, as at the end of its search.

    E.g.: raygen evaluate runs/quickstart --metrics fd_classifier_test,recall_classifier
    """
    from raygen.apply.evaluate import evaluate, evaluation_table
    from raygen.compute import best_device

    device = best_device()
    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    for source in sources:
        _say_which(source)
    evaluations = evaluate(sources, names, samples, seeds or None, data, device, tell)
    contents = [evaluated.content() for evaluated in evaluations]
    answer(as_json, evaluation_table(evaluations), evaluations=contents)


@command("augment")
@click.argument("source", type=EXISTING, default=newest_study)
@TRIAL
@click.option(
    "--samples",
    "--count",
    type=click.IntRange(10),
    help="Generated images; default: as many as training images.",
)
@click.option(
    "--steps", type=click.IntRange(1), help="Training steps of each classifier; default: 5 epochs."
)
@click.option(
    "--seeds", default=3, type=click.IntRange(1), show_default=True, help="Number of seeds."
)
@DATA
@JSON
def augment_command(
    source: Path,
    trial: int | None,
    samples: int | None,
    steps: int | None,
    seeds: int,
    data: str | None,
    as_json: bool,
) -> None:
    """Test whether generated images help train a classifier.

    Classifiers are trained with 1%, 10% and 100% of the real labels.

    E.g.: raygen augment runs/quickstart --seeds 3
    """
    from raygen.apply.augment import Settings, augment
    from raygen.apply.terminal_text import augment_table
    from raygen.compute import best_device

    device = best_device()
    source = chosen_source(source, trial)
    result = augment(source, data, Settings(samples, steps, seeds), device, tell)
    say(json.dumps(result) if as_json else augment_table(result))


@command("ablate")
@click.argument("study", type=STUDY, default=newest_study)
@click.option(
    "--seeds", default=1, type=click.IntRange(1), show_default=True, help="Trainings of each step."
)
@JSON
def ablate_command(study: Path, seeds: int, as_json: bool) -> None:
    """Train the way from the best starting point to the best trial, one change at a time.

    The report shows which changes bring the gain. It can be interrupted and goes on.

    E.g.: raygen ablate quickstart --seeds 3
    """
    from raygen.apply.ablate import ablate, ablation_text, check_way
    from raygen.compute import best_device
    from raygen.report.charts.ablation import expected_order
    from raygen.results import load_results
    from raygen.results.changes import start_to_best

    results = load_results(study)
    pair = check_way(study, start_to_best(results))
    done = ablate(results, pair, expected_order(results), seeds, best_device(), tell)
    steps = [step._asdict() for step in done.steps]
    answer(as_json, ablation_text(done), **{**done._asdict(), "steps": steps})


@command("audit")
@click.argument("source", type=EXISTING, default=newest_study)
@TRIAL
@click.option(
    "--samples",
    "--count",
    default=2000,
    type=click.IntRange(100),
    show_default=True,
    help="Number of generated images.",
)
@DATA
@JSON
def audit_command(
    source: Path, trial: int | None, samples: int, data: str | None, as_json: bool
) -> None:
    """Test whether generated images are copies of training images.

    E.g.: raygen audit runs/quickstart --samples 2000
    """
    from raygen.apply.audit import audit
    from raygen.apply.terminal_text import audit_table
    from raygen.compute import best_device

    device = best_device()
    result = audit(chosen_source(source, trial), data, samples, device, tell)
    say(json.dumps(result) if as_json else audit_table(result))


@command("export")
@click.argument("source", type=EXISTING, default=newest_study)
@TRIAL
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["onnx", "pt2", "csv", "json", "parquet"]),
    help="Default: from the ending of --out, else onnx.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Default: model.onnx, or stdout for tables.",
)
@click.option("--uint8", is_flag=True, help="Write images as 0 to 255 instead of 0.0 to 1.0.")
@click.option(
    "--to-hf",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write a folder for the Hugging Face hub: safetensors, config, card.",
)
@click.option(
    "--table",
    default="trials",
    type=click.Choice(["trials", "history", "rungs", "replicates", "finalists", "full"]),
    show_default=True,
    help="Table of a study, for csv, json and parquet.",
)
@JSON
def export_command(
    source: Path,
    trial: int | None,
    form: str | None,
    out: Path | None,
    uint8: bool,
    to_hf: Path | None,
    table: str,
    as_json: bool,
) -> None:
    """Export the generator, or the tables of a study.

    The generator is written as ONNX or torch.export, checked, with a model card.

    E.g.: raygen export runs/quickstart --out model.onnx

    Or: raygen export runs/quickstart -f csv --table history > history.csv
    """
    if to_hf is not None:
        if form or out or uint8 or table != "trials":
            raise click.UsageError("--to-hf writes a folder of its own; only --trial goes with it")
        from raygen.apply.hub_folder import export_to_hub

        folder = export_to_hub(chosen_source(source, trial), to_hf)
        answer(as_json, str(folder), folder=str(folder))
        return
    ending = out.suffix.removeprefix(".") if out else ""
    form = form or (ending if ending in ("csv", "json", "parquet") else None)
    if form in ("csv", "json", "parquet"):
        if trial is not None or uint8:
            raise click.UsageError(f"--trial and --uint8 apply to models, not to tables ({form})")
        if out is not None and ending != form:
            raise click.UsageError(f"-f {form}: {out} has another ending")
        _export_table(source, table, form, out)
        return
    if table != "trials":
        raise click.UsageError("--table needs -f csv, json or parquet")
    from raygen.apply.export import export

    done = export(chosen_source(source, trial), out or Path(f"model.{form or 'onnx'}"), uint8)
    if not as_json:
        tell(f"largest pixel difference: {done.difference:.3g} (range 0 to 1)")
    path, card = str(done.path), str(done.card)
    answer(as_json, path, file=path, card=card, difference=done.difference)


def _export_table(source: Path, table: str, form: str, out: Path | None) -> None:
    from raygen.results import load_results
    from raygen.table_files import table_text, write_table

    study = load_results(source)
    if out is None:
        text = table_text(study, table, form)
        # Byte for byte for a program; made visible for a terminal.
        click.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
    else:
        write_table(study, table, form, out)
        say(out)


def chosen_source(source: Path, trial: int | None) -> Path:
    """Say which model of a study is used, and return its source: the study, or a run's folder."""
    from raygen.study_folder import StudyFolder

    if trial is None:
        _say_which(source)
        return source
    if not StudyFolder(source).journal.is_file():
        raise InputError(f"--trial {trial}: {source} is not a study")
    folder = StudyFolder(source).trial(trial)
    if not folder.best.is_file():
        raise InputError(
            f"--trial {trial}: {folder.best} does not exist (deleted or never written)"
        )
    return folder.root


def _say_which(source: Path) -> None:
    from raygen.apply.source import words

    if text := words(source):
        tell(text)
