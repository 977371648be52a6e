"""The command line: each command parses, calls one function, prints one result.

Nothing heavy is imported before the command that needs it: torch alone takes seconds.
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from raygen import __version__
from raygen.cluster import use_token
from raygen.commands import (
    LOUDNESS,
    CommandGroup,
    Loudness,
    StudyPath,
    lasting_output,
    say,
    tell,
)
from raygen.errors import RaygenError
from raygen.interrupts import Interrupted, Interrupts
from raygen.untrusted import visible

EXISTING = StudyPath(weights=True, exists=True)
STUDY = StudyPath()
SETTING = click.option(
    "--set", "settings", multiple=True, metavar="A.B=C", help="Override one setting of the file."
)
TRIAL = click.option(
    "--trial", type=click.IntRange(0), help="Of a study: another run than that of the model to use."
)
DATA = click.option("--data", metavar="PATH", help="The images it learnt from, if not known.")
PLAIN_HTTP = click.option(
    "--plain-http",
    metavar="HOST",
    help="With --cluster http://HOST: send Ray's token there in clear text.",
)
SEND_KEYS = click.option(
    "--send-keys",
    is_flag=True,
    help="With --cluster: send this machine's keys of the storage, for a cluster without its own.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def ends_in_order(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command its Interrupts, exit with the code that it returns, and outlast its output."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        with lasting_output(), Interrupts() as interrupts:
            try:
                code = command(interrupts, **given)
            except Interrupted as error:
                say(f"{error}: ended before the search began", err=True)
                code = error.exit_code
            sys.exit(code)

    return run


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("-v", "--verbose", is_flag=True, help="More progress.")
@click.option("--debug", is_flag=True, help="Print a traceback with every error.")
@click.pass_context
def main(ctx: click.Context, quiet: bool, verbose: bool, debug: bool) -> None:
    """Find the best configuration of an image generator, on one laptop or on a GPU cluster."""
    ctx.meta[LOUDNESS] = Loudness(quiet, verbose, debug)


@main.command()
@click.option("--space", required=True, type=click.Path(path_type=Path), help="The search space.")
@click.option("--name", help="Name of the study; default: that of the file.")
@click.option(
    "--storage",
    default="runs",
    metavar="DIR_OR_URI",
    show_default=True,
    help="Where studies are kept: a folder that every node sees, s3://BUCKET/… or gs://BUCKET/….",
)
@SETTING
@click.option("--trials", type=click.IntRange(1), help="Same as --set budget.trials=N.")
@click.option("--seed", type=click.IntRange(0), help="Same as --set seed=N.")
@click.option("--time", "limit", metavar="8h", help="Wall time: 90s, 45m, 8h or 2d.")
@click.option(
    "--resume",
    type=click.Choice(["auto", "never", "must"]),
    default="auto",
    show_default=True,
    help="Go on with the study of that name: if there is one, never, or there must be one.",
)
@click.option(
    "--warm-start",
    multiple=True,
    metavar="STUDY",
    type=click.Path(path_type=Path),
    help="An earlier study to learn from; may be given several times.",
)
@click.option(
    "--journal",
    metavar="s3://BUCKET/PREFIX",
    help="Keep the journal there, too: any machine goes on.",
)
@click.option(
    "--address", help="Ray cluster; default: RAY_ADDRESS, the one of this machine, or a new one."
)
@click.option(
    "--cluster",
    metavar="FILE",
    help="Run it as a job of that cluster (a file of ray up, or http://…), and follow it.",
)
@click.option("--detach", is_flag=True, help="With --cluster: start it and do not follow it.")
@PLAIN_HTTP
@SEND_KEYS
@click.option("--report", "page", type=click.Path(path_type=Path), help="Where the page goes.")
@click.option("--dry-run", is_flag=True, help="Print what would run, and start nothing.")
@JSON
@ends_in_order
def tune(interrupts: Interrupts, **options: Any) -> int:
    """Search, e.g.: raygen tune --space search_spaces/quickstart.yaml"""
    from raygen.launch import Launch, launch

    return launch(Launch(**options), interrupts)


@main.command()
@click.option("--config", required=True, type=click.Path(path_type=Path), help="What to train.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/train-<file name>.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the folder.")
@SETTING
@JSON
def train(
    config: Path, out: Path | None, resume: bool, settings: tuple[str, ...], as_json: bool
) -> None:
    """Train one configuration without Ray, e.g.: raygen train --config best.yaml"""
    from raygen.compute import best_device
    from raygen.config import load_train_job
    from raygen.folders import TrialFolder
    from raygen.progress import milestone_line
    from raygen.train import single

    job = load_train_job(config, settings)
    folder = TrialFolder(out or Path("runs") / f"train-{config.stem}")
    device = best_device()
    scores: dict[str, float | None] = {}
    for progress in single.train(job, folder, device, resume, tell):
        metrics: dict[str, float | None] = {
            name: score.value for name, score in progress.scores.items()
        }
        speed, seconds = progress.images_per_second, progress.seconds
        tell(milestone_line(progress.kimg, metrics, speed, seconds))
        if progress.diverged is not None:
            raise RaygenError(f"diverged at {progress.kimg:g} kimg: {progress.diverged}")
        scores = metrics
    best = str(folder.best)
    say(json.dumps({"schema": 1, "checkpoint": best, **scores}) if as_json else best)


@main.command()
@click.argument("source", type=EXISTING)
@TRIAL
@click.option("--out", default="samples.png", type=click.Path(path_type=Path), show_default=True)
@click.option("--count", type=click.IntRange(1), help="Default: 64; 1 with --tile, 4 for a .gif.")
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@click.option("--class", "label", help="Of a conditional model: images of this class only.")
@click.option(
    "--truncation",
    type=click.FloatRange(0, min_open=True),
    help="Latents within +- this (GAN), or times this (VAE): below 1 truer, less varied.",
)
@click.option("--interpolate", type=click.IntRange(2), help="Frames from one latent to the next.")
@click.option("--like", type=click.Path(path_type=Path), help="A picture to draw more like.")
@click.option(
    "--spread",
    default=0.5,
    type=click.FloatRange(0, 1),
    show_default=True,
    help="Around --like: 0 the same, 1 anything.",
)
@click.option(
    "--tile",
    type=click.IntRange(2, 64),
    help="A texture: a mosaic of one picture, mirrored so that its borders meet.",
)
@click.option("--shard", type=click.IntRange(1), help="Images in one .npz of several.")
@click.option("--data", metavar="PATH", help="The real images, to check --class; if not known.")
@JSON
def generate(
    source: Path,
    trial: int | None,
    out: Path,
    count: int | None,
    seed: int,
    label: str | None,
    truncation: float | None,
    interpolate: int | None,
    like: Path | None,
    spread: float,
    tile: int | None,
    shard: int | None,
    data: str | None,
    as_json: bool,
) -> None:
    """Draw images from noise: a grid (.png), an .npz, a folder, or a loop (.gif).

    E.g.: raygen generate runs/quickstart --count 100 --out images/
    """
    from raygen.apply.generate import Ways
    from raygen.apply.generate import generate as draw
    from raygen.compute import best_device

    device = best_device()
    ways = Ways(label, truncation, interpolate, like, spread, tile, shard, data)
    number = count or (1 if tile else 4 if out.suffix == ".gif" else 64)
    source = _chosen(source, trial)
    written = draw(source, out, number, seed, device, label, ways)
    say(json.dumps({"schema": 1, "out": str(written)}) if as_json else written)


@main.command()
@click.argument("source", type=EXISTING)
@TRIAL
@click.option("--samples", type=click.IntRange(10), help="Default: as many as training images.")
@click.option("--steps", type=click.IntRange(1), help="Of each classifier; default: 5 epochs.")
@click.option("--seeds", default=3, type=click.IntRange(1), show_default=True)
@DATA
@JSON
def augment(
    source: Path,
    trial: int | None,
    samples: int | None,
    steps: int | None,
    seeds: int,
    data: str | None,
    as_json: bool,
) -> None:
    """Measure whether generated data helps a classifier, with 1, 10 and 100 % of the labels.

    E.g.: raygen augment runs/quickstart --seeds 3
    """
    from raygen.apply.augment import Settings
    from raygen.apply.augment import augment as measure
    from raygen.apply.tables import augment_table
    from raygen.compute import best_device

    device = best_device()
    source = _chosen(source, trial)
    result = measure(source, data, Settings(samples, steps, seeds), device, tell)
    say(json.dumps(result) if as_json else augment_table(result))


@main.command()
@click.argument("source", type=EXISTING)
@TRIAL
@click.option("--samples", default=2000, type=click.IntRange(100), show_default=True)
@DATA
@JSON
def audit(source: Path, trial: int | None, samples: int, data: str | None, as_json: bool) -> None:
    """Test whether generated images are copies of training images.

    E.g.: raygen audit runs/quickstart --samples 2000
    """
    from raygen.apply.audit import audit as measure
    from raygen.apply.tables import audit_table
    from raygen.compute import best_device

    device = best_device()
    result = measure(_chosen(source, trial), data, samples, device, tell)
    say(json.dumps(result) if as_json else audit_table(result))


@main.command()
@click.argument("source", type=EXISTING)
@TRIAL
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["onnx", "pt2", "csv", "json", "parquet"]),
    help="Default: what --out ends in, else onnx.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Default: model.onnx; stdout (tables)."
)
@click.option("--uint8", is_flag=True, help="Images as 0 to 255 instead of 0.0 to 1.0.")
@click.option(
    "--table",
    default="trials",
    type=click.Choice(["trials", "history", "rungs", "replicates", "finalists", "full"]),
    show_default=True,
    help="Of a study, for csv, json and parquet.",
)
@JSON
def export(
    source: Path,
    trial: int | None,
    form: str | None,
    out: Path | None,
    uint8: bool,
    table: str,
    as_json: bool,
) -> None:
    r"""Write the generator (ONNX or torch.export, checked, with a model card), or a study's tables.

    \b
    E.g.: raygen export runs/quickstart --out model.onnx
          raygen export runs/quickstart -f csv --table history > history.csv
    """
    ending = out.suffix.removeprefix(".") if out else ""
    form = form or (ending if ending in ("csv", "json", "parquet") else None)
    if form in ("csv", "json", "parquet"):
        if trial is not None or uint8:
            raise click.UsageError(f"--trial and --uint8 are of a model, not of a table as {form}")
        if out is not None and ending != form:
            raise click.UsageError(f"-f {form}: {out} ends otherwise")
        from raygen.results import load_results
        from raygen.tables import table_text, write_table

        study = load_results(source)
        if out is None:
            text = table_text(study, table, form)
            # Data for a program, byte for byte; for a terminal what can be seen.
            click.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
        else:
            write_table(study, table, form, out)
            say(out)
        return
    if table != "trials":
        raise click.UsageError("--table goes with -f csv, json or parquet")
    from raygen.apply.export import export as write

    done = write(_chosen(source, trial), out or Path(f"model.{form or 'onnx'}"), uint8)
    if as_json:
        result = {"file": str(done.path), "card": str(done.card), "difference": done.difference}
        say(json.dumps({"schema": 1, **result}))
    else:
        tell(f"largest difference of a pixel: {done.difference:.3g} of 1")
        say(done.path)


def _chosen(source: Path, trial: int | None) -> Path:
    """Say which model of a study is used, and return its source: the study, or a run's folder."""
    from raygen.errors import InputError
    from raygen.folders import StudyFolder

    if trial is None:
        _say_which(source)
        return source
    if not StudyFolder(source).journal.is_file():
        raise InputError(f"--trial {trial}: {source} is no study")
    folder = StudyFolder(source).trial(trial)
    if not folder.best.is_file():
        raise InputError(f"--trial {trial}: {folder.best} is not there (deleted, or never trained)")
    return folder.root


def _say_which(source: Path) -> None:
    from raygen.apply.source import words

    if text := words(source):
        tell(text)


@main.command()
@click.argument("sources", nargs=-1, required=True, type=StudyPath(weights=True))
@click.option(
    "--metrics", metavar="A,B", help="E.g. fid,fid_test,kid; default: as at the end of the search."
)
@click.option(
    "--samples", type=click.IntRange(1), help="Default: 10000, all stored images, or the search's."
)
@click.option(
    "--seed", "seeds", multiple=True, type=click.IntRange(0), help="Of the samples; repeatable."
)
@click.option("--data", metavar="PATH", help="The real images; default: those of the study.")
@JSON
def evaluate(
    sources: tuple[Path, ...],
    metrics: str | None,
    samples: int | None,
    seeds: tuple[int, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Measure studies, checkpoints, folders of images or .npz files.

    Of a study the model to use, without --metrics as at the end of its search.

    E.g.: raygen evaluate runs/quickstart --metrics fd_classifier_test,recall_classifier
    """
    from raygen.apply.evaluate import evaluate as measure
    from raygen.apply.evaluate import evaluation_table
    from raygen.compute import best_device

    device = best_device()
    names = None if metrics is None else [name.strip() for name in metrics.split(",")]
    for source in sources:
        _say_which(source)
    evaluated = measure(sources, names, samples, seeds or None, data, device, tell)
    if as_json:
        say(json.dumps({"schema": 1, "evaluations": [item.content() for item in evaluated]}))
    else:
        say(evaluation_table(evaluated))


@main.command()
@click.argument("studies", nargs=-1, type=STUDY)
@click.option("--index", type=click.Path(path_type=Path), help="One page over the studies in it.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: reports/NAME.html.")
@JSON
def report(
    studies: tuple[Path, ...], index: Path | None, output: Path | None, as_json: bool
) -> None:
    """Build the HTML report of a study, compare several, or list all of a folder.

    E.g.: raygen report runs/quickstart; raygen report runs/a runs/b; raygen report --index runs/
    """
    from raygen.files import check_target
    from raygen.launch import PAGE
    from raygen.report.index import write_index
    from raygen.report.page import write_report
    from raygen.report.versus import write_versus

    if output is not None:
        check_target(output, "--output", PAGE)
    if (index is None) == (not studies):
        raise click.UsageError("give a study, two or more to compare, or --index FOLDER")
    if index is not None:
        page = write_index(index, output)
    elif len(studies) == 1:
        page = write_report(studies[0], output)
    else:
        page = write_versus(list(studies), output)
    say(json.dumps({"schema": 1, "report": str(page)}) if as_json else page)


@main.command()
@click.argument("study", type=STUDY, required=False)
@click.option("--cluster", metavar="FILE", help="The searches that run there, or STUDY's.")
@PLAIN_HTTP
@click.option("--follow", is_flag=True, help="With --cluster: show what it says until it ends.")
@click.option("--stop", "end", is_flag=True, help="With --cluster: end it in order.")
@click.option("--at", help="As of then: 2026-11-22T20:10, 1h30m after the start, or record #120.")
@click.option("--why", type=click.IntRange(0), metavar="TRIAL", help="Tell the story of a trial.")
@click.option("--check", is_flag=True, help="Make every suggestion and decision again.")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until it has ended.")
@JSON
def status(
    study: Path | None,
    cluster: str | None,
    plain_http: str | None,
    follow: bool,
    end: bool,
    at: str | None,
    why: int | None,
    check: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Tell how a study stands, e.g.: raygen status runs/quickstart --why 3"""
    if cluster is not None:
        use_token()
        from raygen.cluster.commands import end_search, follow_search, list_searches

        act = end_search if end else follow_search if follow else list_searches
        sys.exit(act(cluster, study.name if study else None, plain_http))
    if study is None:
        raise click.UsageError("give a STUDY, or --cluster")
    if watch and (at is not None or why is not None or check):
        raise click.UsageError("--watch shows the present: not with --at, --why or --check")
    from raygen.status import status as read_status
    from raygen.status import status_text
    from raygen.status import why as story

    if check:
        from raygen.config import load_space
        from raygen.folders import StudyFolder
        from raygen.journal import read_study
        from raygen.search.verify import verify

        verified = verify(load_space(StudyFolder(study).space), read_study(study, strict=True))
        text = f"{verified.suggestions} suggestions and {verified.decisions} decisions"
        say(json.dumps(verified._asdict()) if as_json else f"{text} come out as written")
    elif why is not None:
        say(story(study, why, at))
    elif watch:
        from raygen.folders import StudyFolder
        from raygen.progress.watch import watch as look

        if StudyFolder(study).origin.exists():
            raise click.UsageError("--watch is for a folder; see --cluster FILE --follow")
        say(look(study))
    else:
        facts = read_status(study, at)
        say(json.dumps(facts) if as_json else status_text(facts))


@main.command()
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
@JSON
def ls(folder: Path, as_json: bool) -> None:
    """List the studies below a folder (default: runs), e.g.: raygen ls"""
    from raygen.listing import listing_text, studies

    rows = studies(folder)
    say(json.dumps({"schema": 1, "studies": rows}) if as_json else listing_text(rows))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@JSON
def init(folder: Path, as_json: bool) -> None:
    """Begin a project: the shipped search spaces in a new folder, e.g.: raygen init my-project"""
    from raygen.starter import start

    files = [str(file) for file in start(folder)]
    if as_json:
        say(json.dumps({"schema": 1, "folder": str(folder), "files": files}))
        return
    for file in files:
        tell(file)
    say(f"cd {folder} && raygen tune --space search_spaces/quickstart.yaml")


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what completes commands and options in a shell.

    E.g., in ~/.bashrc: eval "$(raygen completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # one of click's own three
    say(kind(main, {}, "raygen", "_RAYGEN_COMPLETE").source())


@main.command()
@click.argument("study", type=STUDY)
@click.option("--repeats", default=30, type=click.IntRange(2), show_default=True)
@JSON
def replay(study: Path, repeats: int, as_json: bool) -> None:
    """Compare schedulers and samplers on a study's own curves, e.g.: raygen replay runs/gan"""
    from raygen.replay import compare

    table = compare(study, repeats)
    say(table.to_json(orient="records") if as_json else table.to_string(index=False))


@main.command()
@click.argument("study", type=STUDY)
@click.option("--trial", type=click.IntRange(0), help="Another trial than the best.")
@JSON
def best(study: Path, trial: int | None, as_json: bool) -> None:
    """Print the winning configuration, e.g.: raygen best runs/quickstart > best.yaml"""
    from raygen.document import dump
    from raygen.errors import InputError
    from raygen.results import best_trial, load_results, train_config

    results = load_results(study)
    number = best_trial(results) if trial is None else trial
    again = results.replicates.set_index("trial")["of"].to_dict()
    if number in again:
        of = again[number]
        raise InputError(
            f"--trial {number}: repeats trial {of} with another seed; see --trial {of}"
        )
    if number not in results.configs:
        raise InputError(f"--trial {number}: {study} has no such trial")
    config = train_config(results, number)
    if as_json:
        say(json.dumps({"schema": 1, "trial": number, "config": config}))
    else:
        say(f"# trial {number} of {study}: raygen train --config THIS_FILE")
        say("# what was judged are its settings; another seed gives another model")
        click.echo(dump(config), nl=False)


@main.command()
@click.option("--cluster", metavar="FILE", help="Look at every node of that cluster.")
@click.option("--address", help="Look at every node of that Ray cluster.")
@click.option("--storage", metavar="DIR_OR_URI", help="Also read and write there from every node.")
@PLAIN_HTTP
@SEND_KEYS
@JSON
def doctor(
    cluster: str | None,
    address: str | None,
    storage: str | None,
    plain_http: str | None,
    send_keys: bool,
    as_json: bool,
) -> None:
    """Check this machine, or every node of a cluster, e.g.: raygen doctor"""
    from raygen.doctor import check_table, local_checks

    use_token()
    if cluster is not None:
        from raygen.cluster.commands import look

        sys.exit(look(cluster, storage, as_json, plain_http, send_keys))
    if address is not None:
        from raygen.cluster.nodes import cluster_checks

        checks = cluster_checks(address, storage)
    else:
        from raygen.cluster.nodes import running_here

        checks = local_checks(storage or "runs")
        checks += [check for check in (running_here(),) if check is not None]
    rows = [check._asdict() for check in checks]
    say(json.dumps({"schema": 1, "checks": rows}) if as_json else check_table(checks))
    if any(check.state == "fail" for check in checks):
        sys.exit(RaygenError.exit_code)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@JSON
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check spaces, configurations and cluster files, e.g.: raygen validate search_spaces/*.yaml"""
    from raygen.cluster.files import check_cluster, describes_cluster
    from raygen.config import load_space, load_train_job
    from raygen.document import load_document
    from raygen.errors import InputError

    mistakes: dict[str, str | None] = {}
    for file in files:
        mistakes[str(file)] = None
        try:
            data = load_document(file).data
            if describes_cluster(data):
                check_cluster(file)
            else:
                _ = load_train_job(file) if "trial" in data else load_space(file)
            if not as_json:
                say(f"{file}: ok")
        except InputError as error:
            mistakes[str(file)] = str(error)
    if as_json:
        rows = [
            {"file": file, "mistakes": said.splitlines() if said else []}
            for file, said in mistakes.items()
        ]
        say(json.dumps({"schema": 1, "files": rows}))
    if texts := [said for said in mistakes.values() if said]:
        raise InputError("\n".join(texts))
