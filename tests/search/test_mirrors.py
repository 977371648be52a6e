"""What raygen writes for other tools, read by these tools themselves."""

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raygen.callbacks import Event
from raygen.integrations.dispatch import Dispatcher
from raygen.integrations.events import Events
from raygen.integrations.tensorboard import Tensorboard
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.study_folder import StudyFolder
from search.studies import Memory, make_study, run

PATIENCE = 90  # seconds for a tool to answer


def search(folder: Path) -> list[dict[str, Any]]:
    """A search of four trials, mirrored for both tools; returns its journal."""
    study = make_study(folder, "budget.trials=4", "scheduler.name=none", "finalists.count=0")
    curves, journal = mirror(folder, print), Memory()
    sampler = Sampler(study, "mirrored", folder / "optuna.log")
    controller = Controller(study, journal, sampler, curves)
    run(controller, lambda config, seed, kimg: 100 / kimg + seed % 5)
    curves.close()
    return journal.lines


def mirror(folder: Path, tell: Callable[[str], None]) -> Dispatcher:
    """What writes for TensorBoard."""
    events = Events("mirrored", folder, "fd_classifier", "gan")
    return Dispatcher(events, {"tensorboard": Tensorboard(folder / "tensorboard")}, tell)


def values(journal: Sequence[dict[str, Any]], trial: int) -> list[tuple[int, float]]:
    """Images seen and the objective, as the journal has them."""
    told = (r for r in journal if r["kind"] == "report" and r["trial"] == trial)
    return [(round(r["kimg"] * 1000), r["metrics"]["fd_classifier"]) for r in told]


def test_the_curves_hold_each_value_at_the_images_seen_and_no_loss_that_is_not_finite(
    tmp_path: Path,
) -> None:
    curves = Tensorboard(tmp_path)
    milestone = Event(
        "report", "gan", tmp_path, 12.0, "fid", trial=7, kimg=1.5, images_per_second=640.0,
        metrics={"fid": 31.5}, losses={"generator_loss": 0.7, "discriminator_loss": None},
    )  # fmt: skip
    curves.on_report(milestone)
    curves.on_report(replace(milestone, kimg=3.0, metrics={"fid": None}))
    curves.on_trial_end(replace(milestone, hook="trial_end"))

    found = EventAccumulator(str(tmp_path / "0007")).Reload()
    scalars = {
        name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]
    }
    assert scalars == {
        "fid": [(1500, 31.5)],
        "generator_loss": [(1500, pytest.approx(0.7)), (3000, pytest.approx(0.7))],
        "images_per_second": [(1500, 640.0), (3000, 640.0)],
    }


def test_tensorboard_shows_the_curve_of_every_trial(tmp_path: Path) -> None:
    journal = search(tmp_path)
    command = ["-m", "tensorboard.main", "--logdir", str(tmp_path / "tensorboard")]
    with served(command, "/data/runs", "--load_fast=false") as ask:
        runs = wait_for(lambda: ask("/data/runs"), lambda found: len(found) == 4)
        shown = {
            trial: ask(f"/data/plugin/scalars/scalars?run={trial:04d}&tag=fd_classifier")
            for trial in range(4)
        }

    assert sorted(runs) == ["0000", "0001", "0002", "0003"]
    for trial, scalars in shown.items():
        steps = [(step, pytest.approx(value, rel=1e-6)) for step, value in values(journal, trial)]
        assert [(step, value) for _, step, value in scalars] == steps


def test_optuna_dashboard_shows_every_trial_with_its_values_and_its_last_picture(
    tmp_path: Path,
) -> None:
    for kimg in (1.0, 9.0):
        grid = StudyFolder(tmp_path).trial(2).samples(kimg)
        grid.parent.mkdir(parents=True, exist_ok=True)
        grid.write_bytes(f"picture at {kimg}".encode())
    journal = search(tmp_path)
    launch = "from optuna_dashboard._cli import main; main()"
    shown = ["--artifact-dir", str(tmp_path / "artifacts")]
    with served(["-c", launch, str(tmp_path / "optuna.log"), *shown], "/api/studies") as ask:
        (summary,) = ask("/api/studies")["study_summaries"]
        study = summary["study_id"]
        trials = ask(f"/api/studies/{study}?after=0")["trials"]
        (picture,) = trials[2]["artifacts"]
        place = f"/artifacts/{study}/{trials[2]['trial_id']}/{picture['artifact_id']}"
        assert ask(place, bytes) == b"picture at 9.0"
    assert [len(trial["artifacts"]) for trial in trials] == [0, 0, 1, 0]
    assert picture["filename"] == "samples-000009000.png"

    assert summary["study_name"] == "mirrored"
    assert [trial["state"] for trial in trials] == ["Complete"] * 4
    for number, trial in enumerate(trials):
        told = [(v["step"], v["value"]) for v in trial["intermediate_values"]]
        assert told == values(journal, number)
        assert trial["values"] == [min(value for _, value in told)]


@contextmanager
def served(command: list[str], first: str, *more: str) -> Iterator[Any]:
    """A web server of another tool; gives a function that asks it for JSON."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--host", "127.0.0.1", "--port", str(port), *more]
    server = subprocess.Popen(
        [sys.executable, *command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def ask(path: str, read: Callable[[bytes], Any] = json.loads) -> Any:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return read(answer.read())

    def tried() -> Any:
        assert server.poll() is None, "the server ended"
        try:
            return ask(first)
        except (URLError, ConnectionError):
            return None

    try:
        wait_for(tried, lambda found: found is not None)
        yield ask
    finally:
        server.kill()
        server.wait()


def wait_for(look: Any, good: Any) -> Any:
    """Look until what is found is good."""
    deadline = time.monotonic() + PATIENCE
    while not good(found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def test_a_lock_that_a_killed_process_left_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    (tmp_path / "runs" / "optuna.log.lock").symlink_to("optuna.log")  # as Optuna itself makes it
    study = make_study(tmp_path, "budget.trials=2", "finalists.count=0")
    messages: list[str] = []
    sampler = Sampler(study, "mirrored", Path("runs/optuna.log"), messages.append)
    run(Controller(study, Memory(), sampler, lambda record: None), lambda *_: 1.0)

    assert messages == []
    assert (tmp_path / "runs" / "optuna.log").stat().st_size > 0


@pytest.mark.parametrize("when", ["at the start", "in the middle"])
def test_a_mirror_that_cannot_be_written_is_given_up_and_the_search_ends(
    tmp_path: Path, when: str
) -> None:
    """The limit on file sizes stands in for a full disk: write() fails in the same way."""
    study = make_study(tmp_path, "budget.trials=4", "finalists.count=0")
    journal, messages = Memory(), []
    room = 0 if when == "at the start" else 2500
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        curves = mirror(tmp_path, messages.append)
        sampler = Sampler(study, "mirrored", tmp_path / "optuna.log", messages.append)
        run(Controller(study, journal, sampler, curves), lambda *_: 1.0)
        curves.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert sum(record.kind == "end" for record in journal) == 4
    assert any(
        "optuna.log: no longer written, the search continues: File too large" in text
        for text in messages
    )
    assert len([text for text in messages if "optuna.log" in text]) == 1
