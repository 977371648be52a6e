"""`raygen tune`, step by step: the study, its place, the search, and the page."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from raygen.cluster import use_token
from raygen.errors import InputError, RaygenError, our_bug
from raygen.terminal import loudness, say

if TYPE_CHECKING:  # heavy: imported by the steps that need them
    from raygen.config import Study
    from raygen.data import ImageData
    from raygen.interrupts import Interrupts
    from raygen.storage import Storage
    from raygen.study_folder import StudyFolder
    from raygen.tuning.run import Outcome

PAGE = (".html", ".htm")  # so that no page takes the place of a journal or a checkpoint


class Launch(NamedTuple):
    """The options of `raygen tune`; see its help."""

    space: Path
    name: str | None
    storage: str
    settings: tuple[str, ...]
    trials: int | None
    seed: int | None
    cpu: bool
    limit: str | None  # wall time
    resume: str  # auto, never or must
    warm_start: tuple[Path, ...]
    journal: str | None
    address: str | None
    cluster: str | None
    detach: bool
    plain_http: str | None
    send_keys: bool
    page: Path | None
    opened: bool
    dry_run: bool
    as_json: bool

    @property
    def overrides(self) -> list[str]:
        """All settings that differ from the file, in the order in which they count."""
        from raygen.words import parse_duration

        hours = None if self.limit is None else parse_duration(self.limit) / 3600
        short = {"budget.trials": self.trials, "budget.hours": hours, "seed": self.seed}
        one = ("gpus=0", "cpus=1", "workers=1", "accelerator=[]")
        cpu = [f"resources.{setting}" for setting in one] if self.cpu else []
        return [*cpu, *self.settings, *(f"{k}={v}" for k, v in short.items() if v is not None)]


def launch(options: Launch, interrupts: "Interrupts") -> int:
    """Search as the options say; return the exit code.

    Raises:
        RaygenError: the search ended by it; what was reported is saved.
    """
    from raygen.config_file import load_space
    from raygen.files import check_target
    from raygen.plugins import look_in
    from raygen.project_folder import space_path
    from raygen.report.page import page_path
    from raygen.try_out import try_out

    if options.cluster is None and (options.detach or options.send_keys or options.plain_http):
        raise click.UsageError("--detach, --send-keys and --plain-http need --cluster")
    if options.dry_run and options.as_json:
        raise click.UsageError("--dry-run prints text: it cannot be combined with --json")
    options = options._replace(space=space_path(options.space))
    look_in(options.space.parent)
    study = load_space(options.space, options.overrides)
    use_token()
    try_out(study)
    if options.cluster is not None and options.dry_run:
        _print_cluster_plan(options, study, options.cluster)
        return 0
    if options.cluster is not None:
        return _submit(options, options.cluster, study)
    from raygen.search.location import place_study

    name, stem = options.name, options.space.stem
    folder, storage = place_study(options.storage, name, stem, options.resume, options.journal)
    page = options.page or page_path(folder.root)
    check_target(page, "--report", PAGE)
    if options.dry_run:
        _print_plan(options, study, folder, storage)
        return 0
    resume = _resume_command(options, folder, storage)
    with _followed(folder, page) if options.opened else nullcontext():
        outcome = _search(options, study, folder, storage, resume, interrupts)
    page_code = make_page(folder.root, page)
    if storage is not None and page.is_file():
        from raygen.storage import REPORT

        storage.write(REPORT, page.read_bytes())
    _conclude(outcome, folder, resume)
    if options.as_json:
        place = storage.place if storage else str(folder.root)
        result = {"schema": 1, "study": place, "report": str(page)}
        say(json.dumps({**result, "state": outcome.state, "trials": outcome.ended}))
    else:
        say(page)
        if outcome.ended.get("completed") and storage is None:
            name = shlex.quote(str(folder.root))
            say(f"study {name}; next: raygen generate {name}, raygen evaluate {name}", err=True)
    return outcome.exit_code or page_code


@contextmanager
def _followed(folder: "StudyFolder", page: Path) -> Iterator[None]:
    """Keep the page fresh, and open in a browser, by a process of its own."""
    code = (
        "import sys; from pathlib import Path; from raygen.report.watch import follow\n"
        "follow(*map(Path, sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, str(folder.root), str(page)]
    quiet = subprocess.DEVNULL
    follower = subprocess.Popen(arguments, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        follower.kill()
        follower.wait()


def _submit(options: Launch, cluster: str, study: "Study") -> int:
    """Search as a job of a cluster."""
    from raygen.cluster.commands import search

    return search(
        cluster, study.spec.resources, options.space, options.storage, _name(options),
        _job_words(options), options.detach, options.plain_http, options.send_keys,
        options.journal,
    )  # fmt: skip


def _name(options: Launch) -> str:
    return options.name or options.space.stem


def _job_words(options: Launch) -> list[str]:
    """The options with which the job on a cluster searches."""
    values = {
        "--storage": options.storage, "--resume": options.resume, "--time": options.limit,
        "--journal": options.journal, "--trials": options.trials, "--seed": options.seed,
        "--report": options.page,
    }  # fmt: skip
    words = [f"{option}={value}" for option, value in values.items() if value is not None]
    words += ["--cpu"] if options.cpu else []
    words += [f"--set={setting}" for setting in options.settings]
    return words + [f"--warm-start={earlier}" for earlier in options.warm_start]


def _print_plan(
    options: Launch, study: "Study", folder: "StudyFolder", storage: "Storage | None"
) -> None:
    """Print what would run here.

    Raises:
        InputError: the study that is there searched something else, or one cannot teach this one.
    """
    from raygen.cluster.capacity import fits
    from raygen.data import read_here
    from raygen.progress import plan_text

    data = read_here(study.spec.data)
    place = storage.place if storage else folder.root
    about = [*_goes_on(options, study, folder, storage, data), *_taught(options, study, data)]
    say(plan_text(study, place, fits(study.spec, options.address), data, about))


def _print_cluster_plan(options: Launch, study: "Study", cluster: str) -> None:
    """Print what would run as a job of a cluster.

    Raises:
        InputError: it would be refused.
    """
    from raygen.cluster.capacity import fits
    from raygen.cluster.commands import check_search
    from raygen.progress import plan_text

    name = _name(options)
    check_search(cluster, options.storage, name, bool(options.plain_http or options.send_keys))
    words = ["raygen", "tune", "--space", "space.yaml", "--name", name, *_job_words(options)]
    place = f"{options.storage.rstrip('/')}/{name}"
    about = [f"job        on {cluster}: {shlex.join(words)}"]
    say(plan_text(study, place, fits(study.spec, cluster), about=about))


def _goes_on(
    options: Launch,
    study: "Study",
    folder: "StudyFolder",
    storage: "Storage | None",
    data: "ImageData | None",
) -> list[str]:
    """Whether the study is new or goes on, and from what: its journal here or in a bucket."""
    from raygen.data import load_data
    from raygen.journal import read_records
    from raygen.journal.bucket import copy_journal, records_at
    from raygen.results.fold import fold
    from raygen.search.study_record import check_same, describe
    from raygen.status.text import states_text
    from raygen.storage import JOURNAL, scratch
    from raygen.study_folder import StudyFolder

    uri = storage.under(JOURNAL).place if storage else options.journal
    kept = [f"journal    also at {options.journal}"] if options.journal else []
    if uri and not folder.journal.exists():
        folder = StudyFolder(scratch() / folder.root.name)
        copy_journal(records_at(uri), folder.journal)
    records = read_records(folder.journal) if folder.journal.exists() else []
    if not records:
        return ["           new", *kept]
    data = data or load_data(study.spec.data)
    check_same(study, folder, describe(study, data, folder.root.name))
    states = states_text(fold(folder, records).trials["state"].value_counts().to_dict())
    return [f"           exists, and goes on: {states or 'no trial yet'}", *kept]


def _taught(options: Launch, study: "Study", data: "ImageData | None") -> list[str]:
    """What the sampler learns from each earlier study, if features are the same here."""
    if not options.warm_start:
        return []
    from raygen.data import load_data
    from raygen.search.warm_start import lessons
    from raygen.words import counted

    data, lines = data or load_data(study.spec.data), []
    for earlier in options.warm_start:
        taught = list(lessons(study, data, {}, [earlier]))
        trials = sum(lesson.values is not None for lesson in taught)
        points = counted(len(taught) - trials, "point")
        lines.append(f"learns     from {earlier}: {counted(trials, 'trial')}, {points} to try")
    return lines


def _resume_command(options: Launch, folder: "StudyFolder", storage: "Storage | None") -> str:
    from raygen.search.location import resume_command

    # The space in a folder holds the overrides; of one on object storage the folder is temporary.
    space = options.space if storage else folder.space
    more = [f"--set={setting}" for setting in options.overrides] if storage else []
    more += ["--journal", options.journal] if options.journal else []
    more += ["--address", options.address] if options.address else []
    return resume_command(space, folder.root.name, options.storage, more)


def _search(
    options: Launch,
    study: "Study",
    folder: "StudyFolder",
    storage: "Storage | None",
    resume: str,
    interrupts: "Interrupts",
) -> "Outcome":
    from raygen.progress import StudyProgress
    from raygen.tuning.run import run_study

    command = shlex.join(["raygen", *sys.argv[1:]])
    facts = {"command": command, "resume_command": resume, "space_file": str(options.space)}
    try:
        with StudyProgress(study, loudness().level) as progress:
            return run_study(
                study, folder, facts, options.address, progress, options.warm_start,
                options.journal, storage, interrupts,
            )  # fmt: skip
    except RaygenError as error:
        if folder.journal.exists() and not isinstance(error, InputError):
            say(f"everything reported so far is saved; resume with: {resume}", err=True)
        raise


def make_page(study: Path, page: Path) -> int:
    """Write the page of a complete study; a failure here does not affect the study.

    Returns 0, or the exit code of a page that could not be written.
    """
    from raygen.report.page import write_report

    try:
        write_report(study, page)
    except RaygenError as error:
        reason, code = str(error), error.exit_code
    except Exception as error:  # a bug of ours, after hours of training: the study is what counts
        reason, code = our_bug(error), 0
    else:
        return 0
    again = shlex.join(["raygen", "report", str(study)])
    say(f"no report: {reason}\nthe study is complete; try again with: {again}", err=True)
    return code


def _conclude(outcome: "Outcome", folder: "StudyFolder", resume: str) -> None:
    """Print on stderr how the search ended and what to do next."""
    from raygen.results import grace_advice, load_results
    from raygen.search.controller import NONE_COMPLETED

    advice = grace_advice(load_results(folder.root))
    if advice is not None and advice.short:
        say(f"{advice.text} {advice.action}", err=True)
    if outcome.reason:
        say(f"{outcome.state}: {outcome.reason}", err=True)
    if outcome.state != "finished" and outcome.reason != NONE_COMPLETED:
        say(f"resume with: {resume}", err=True)
