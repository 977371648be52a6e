"""Searches, from the file to the page: tune, status, ls, report, replay, best, validate."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from raygen.cli.group import command
from raygen.cli.options import (
    JSON,
    PLAIN_HTTP,
    SEND_KEYS,
    SETTING,
    STUDY,
    answer,
    newest_study,
)
from raygen.cluster import use_token
from raygen.errors import InputError
from raygen.interrupts import Interrupted, Interrupts
from raygen.terminal import lasting_output, say
from raygen.words import counted


def ends_in_order(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command its Interrupts, exit with the code that it returns, and outlast its output."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        with lasting_output(), Interrupts() as interrupts:
            try:
                code = command(interrupts, **given)
            except (Interrupted, SystemError) as error:
                # What is raised while Ray's core waits leaves it as the cause of a SystemError.
                cause = error.__cause__ if isinstance(error, SystemError) else error
                if not isinstance(cause, Interrupted):
                    raise
                say(f"{cause}: stopped before the search started", err=True)
                code = cause.exit_code
            sys.exit(code)

    return run


@command("tune")
@click.argument("space_file", metavar="SPACE", required=False, type=click.Path(path_type=Path))
@click.option("--space", type=click.Path(path_type=Path), help="Search space, same as SPACE.")
@click.option("--name", help="Name of the study; default: the name of the file.")
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
@click.option("--cpu", is_flag=True, help="Search without a GPU: one CPU core for each trial.")
@click.option("--time", "limit", metavar="8h", help="Limit of wall time: 90s, 45m, 8h or 2d.")
@click.option(
    "--resume",
    type=click.Choice(["auto", "never", "must"]),
    default="auto",
    show_default=True,
    help="Resume an existing study: auto = if it exists, never = start anew, must = fail if none.",
)
@click.option(
    "--warm-start",
    multiple=True,
    metavar="STUDY",
    type=click.Path(path_type=Path),
    help="An earlier study to learn from (repeat for several).",
)
@click.option(
    "--journal",
    metavar="s3://BUCKET/PREFIX",
    help="Also keep the journal there, so that any machine can resume.",
)
@click.option(
    "--address",
    help="Ray cluster; default: RAY_ADDRESS, one running on this machine, or a new one.",
)
@click.option(
    "--cluster",
    metavar="FILE",
    help="Run as a job of this cluster (a ray up file, http://… or slurm), and follow it.",
)
@click.option("--detach", is_flag=True, help="With --cluster: start the job without following it.")
@PLAIN_HTTP
@SEND_KEYS
@click.option(
    "--report",
    "page",
    type=click.Path(path_type=Path),
    help="Path of the HTML report; default: reports/NAME.html.",
)
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser; keep it fresh.")
@click.option("--dry-run", is_flag=True, help="Print what would run without starting it.")
@JSON
@ends_in_order
def tune_command(
    interrupts: Interrupts, space_file: Path | None, space: Path | None, **options: Any
) -> int:
    """Search for the best configuration.

    SPACE is a YAML file, or the name of a bundled search space. Its budgets are in kimg: thousands
    of images that a trial is trained on.

    E.g.: raygen tune quickstart
    """
    from raygen.launch import Launch, launch

    if space_file is not None and space is not None:
        raise click.UsageError(f"give one SPACE, not both {space_file} and --space {space}")
    if space_file is None and space is None:
        raise click.UsageError("give one SPACE: a YAML file, or the name of a bundled one")
    return launch(Launch(space_file or space or Path(), **options), interrupts)


@command("validate")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@SETTING
@JSON
def validate_command(files: tuple[Path, ...], settings: tuple[str, ...], as_json: bool) -> None:
    """Check search spaces with their data and code, configurations and cluster files.

    E.g.: raygen validate search_spaces/*.yaml
    """
    from raygen.cluster.files import check_cluster, check_script, describes_cluster, is_script
    from raygen.config import Study
    from raygen.config_file import load_space, load_train_job
    from raygen.data import read_here
    from raygen.document import load_document
    from raygen.plugins import look_in
    from raygen.try_out import try_out

    mistakes: dict[str, str | None] = {}
    for file in files:
        mistakes[str(file)], read = None, ""
        try:
            script = is_script(file)
            data = {} if script else load_document(file).data
            if script:
                check_script(file)
            elif describes_cluster(data):
                check_cluster(file)
            else:
                look_in(file.parent)
                load = load_train_job if "trial" in data else load_space
                job = load(file, settings)
                images = read_here(job.spec.data if isinstance(job, Study) else job.data)
                try_out(job, None if images is None else images.image)
                if images is not None:
                    read = f" ({images.name}: {len(images.train.labels):,} training images)"
            if not as_json:
                say(f"{file}: ok{read}")
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


@command("status")
@click.argument("study", type=STUDY, required=False)
@click.option(
    "--cluster", metavar="FILE", help="List the searches of this cluster, or those of STUDY."
)
@PLAIN_HTTP
@click.option("--follow", is_flag=True, help="With --cluster: show its output until it ends.")
@click.option("--stop", "end", is_flag=True, help="With --cluster: stop it gracefully.")
@click.option(
    "--at",
    help="State at an earlier time: 2026-11-22T20:10, 1h30m after the start, or record #120.",
)
@click.option(
    "--why",
    type=click.IntRange(0),
    metavar="TRIAL",
    help="Explain what happened to a trial, and why.",
)
@click.option("--check", is_flag=True, help="Recompute every suggestion and decision.")
@click.option("--watch", is_flag=True, help="Refresh every two seconds until the study ends.")
@JSON
def status_command(
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
    """Show the progress of a study (default: the newest).

    E.g.: raygen status runs/quickstart --why 3
    """
    if cluster is None and (follow or end or plain_http):
        raise click.UsageError("--follow, --stop and --plain-http need --cluster")
    if cluster is not None:
        use_token()
        from raygen.cluster.commands import end_search, follow_search, list_searches

        act = end_search if end else follow_search if follow else list_searches
        sys.exit(act(cluster, study.name if study else None, plain_http))
    if study is None:
        study = Path(newest_study())
    if watch and (at is not None or why is not None or check):
        raise click.UsageError("--watch cannot be combined with --at, --why or --check")
    if check and (at is not None or why is not None):
        raise click.UsageError("--check cannot be combined with --at or --why")
    if as_json and (why is not None or watch):
        raise click.UsageError("--why and --watch print text: they cannot be combined with --json")
    from raygen.status import status, status_text, why_text

    if check:
        _check(study, as_json)
    elif why is not None:
        say(why_text(study, why, at))
    elif watch:
        from raygen.progress.watch import watch_status
        from raygen.study_folder import StudyFolder

        if StudyFolder(study).origin.exists():
            raise click.UsageError(
                "--watch needs a local folder; for a cluster use --cluster FILE --follow"
            )
        say(watch_status(study))
    else:
        facts = status(study, at)
        say(json.dumps(facts) if as_json else status_text(facts))


def _check(study: Path, as_json: bool) -> None:
    from raygen.config_file import load_space
    from raygen.journal import read_study
    from raygen.search.verify import verify
    from raygen.study_folder import StudyFolder

    searched = load_space(StudyFolder(study).space)
    verified = verify(searched, read_study(study, strict=True))
    text = f"{counted(verified.decisions, 'decision')} are reproduced exactly"
    if verified.suggestions is None:
        text += f"; suggestions are not: {searched.spec.sampler.called} takes no seed"
    else:
        text = f"{counted(verified.suggestions, 'suggestion')} and {text}"
    say(json.dumps(verified._asdict()) if as_json else text)


@command("ls")
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
@JSON
def ls_command(folder: Path, as_json: bool) -> None:
    """List the studies in a folder (default: runs).

    E.g.: raygen ls
    """
    from raygen.studies import listing_text, studies

    rows = studies(folder)
    answer(as_json, listing_text(rows), studies=rows)


@command("report")
@click.argument("studies", nargs=-1, type=STUDY)
@click.option(
    "--index",
    type=click.Path(path_type=Path),
    help="Build one page about all studies in this folder.",
)
@click.option(
    "-o", "--out", "--output", "output", type=click.Path(path_type=Path),
    help="Default: reports/NAME.html.",
)  # fmt: skip
@click.option("--watch", is_flag=True, help="Keep the page fresh until the study ends.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@JSON
def report_command(
    studies: tuple[Path, ...],
    index: Path | None,
    output: Path | None,
    watch: bool,
    opened: bool,
    as_json: bool,
) -> None:
    """Build the HTML report of a study (default: the newest), or compare several.

    A folder of studies gives a page with a row for each.

    E.g.: raygen report quickstart; raygen report gan vae; raygen report runs/
    """
    from raygen.files import check_target
    from raygen.launch import PAGE
    from raygen.report.index import write_index
    from raygen.report.page import write_report
    from raygen.report.versus import write_versus
    from raygen.study_folder import holds_studies

    if output is not None:
        check_target(output, "--out", PAGE)
    if index is not None and studies:
        raise click.UsageError("--index FOLDER takes no studies: they exclude each other")
    first, *others = studies or ([Path(newest_study())] if index is None else [index])
    if index is None and not others and holds_studies(first):
        index = first
    if watch and (others or index is not None):
        raise click.UsageError("--watch needs one study")
    if index is not None:
        page = write_index(index, output)
    elif watch:
        from raygen.report.watch import watch_page

        page = watch_page(first, output, opened)
    elif others:
        page = write_versus([first, *others], output)
    else:
        page = write_report(first, output)
    if opened and not watch:
        click.launch(str(page))
    answer(as_json, page, report=str(page))


@command("note")
@click.argument("study", type=STUDY)
@click.argument("text", required=False)
@JSON
def note_command(study: Path, text: str | None, as_json: bool) -> None:
    """Write a note on a study, which its page shows; without TEXT, print its notes.

    E.g.: raygen note quickstart "hinge with a larger batch looks best; see trial 12"
    """
    from raygen.results.notes import add_note, read_notes

    if text is not None:
        add_note(study, text)
    notes = read_notes(study)
    lines = "\n".join(f"{note.text}" for note in notes)
    answer(as_json, lines, notes=[note._asdict() for note in notes])


@command("replay")
@click.argument("study", type=STUDY, default=newest_study)
@click.option(
    "--repeats",
    default=10,
    type=click.IntRange(2),
    show_default=True,
    help="Simulated searches per variant.",
)
@click.option(
    "--workers", default=4, type=click.IntRange(1), show_default=True, help="Trials at once."
)
@click.option(
    "--compute",
    type=click.FloatRange(0, min_open=True),
    help="Full trainings that a search may spend; default: as many as there are curves.",
)
@JSON
def replay_command(
    study: Path, repeats: int, workers: int, compute: float | None, as_json: bool
) -> None:
    """Compare samplers and schedulers on a study's own curves.

    E.g.: raygen replay runs/gan
    """
    from raygen.replay import compare

    table = compare(study, repeats, workers=workers, compute=compute)
    say(table.to_json(orient="records") if as_json else table.to_string(index=False))


@command("best")
@click.argument("study", type=STUDY, default=newest_study)
@click.option("--trial", type=click.IntRange(0), help="Print this trial instead of the best.")
@JSON
def best_command(study: Path, trial: int | None, as_json: bool) -> None:
    """Print the winning configuration as YAML.

    E.g.: raygen best runs/quickstart > best.yaml
    """
    from raygen.document import dump
    from raygen.results import best_trial, load_results, train_config

    results = load_results(study)
    number = best_trial(results) if trial is None else trial
    repeated = results.replicates.set_index("trial")["of"].to_dict()
    if number in repeated:
        of = repeated[number]
        raise InputError(
            f"--trial {number}: repeats trial {of} with another seed; use --trial {of}"
        )
    if number not in results.configs:
        raise InputError(f"--trial {number}: {study} has no such trial")
    config = train_config(results, number)
    comments = (
        f"# trial {number} of {study}: raygen train --config THIS_FILE\n"
        "# the settings are what was compared; another seed gives another model\n"
    )
    answer(as_json, comments + dump(config).rstrip(), trial=number, config=config)
