"""Callbacks: what they hear, that they cannot harm a search, and that their secrets stay secret."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from raygen.callbacks import Callback, CallbackSpec, Event
from raygen.config_file import load_space
from raygen.errors import InputError
from raygen.integrations import callbacks_of
from raygen.integrations.dispatch import MOST_ERRORS, Dispatcher
from raygen.integrations.events import Events
from raygen.journal.records import Close, MetricProtocol, Open, Report, Suggest
from raygen.notices import Earlier
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.study_folder import StudyFolder
from search.studies import SPACE, Memory, make_study, run


class Heard(Callback):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        for hook in ("study_start", "report", "new_best", "trial_end", "failure", "study_end"):
            setattr(self, f"on_{hook}", self.events.append)

    def of(self, hook: str) -> list[Event]:
        return [event for event in self.events if event.hook == hook]


def search(folder: Path, callbacks: dict[str, Callback], tell: Any = print) -> Memory:
    """A search of four trials, of which the third fails; returns its journal."""
    study = make_study(folder, "budget.trials=4", "scheduler.name=none")
    journal = Memory()
    dispatcher = Dispatcher(Events("gan", folder, "fd_classifier", "gan"), callbacks, tell)
    dispatcher(journal.append(opened()))
    controller = Controller(study, journal, Sampler(study, "gan", None), dispatcher)
    values = {0: 90.0, 1: 70.0, 2: None, 3: 80.0}
    for number, value in values.items():
        assert controller.suggest() is not None
        controller.started(number, "here")
        if value is None:
            controller.end(number, "failed", "ValueError: odd")
            continue
        for kimg in (3.0, 9.0):
            controller.reported(number, milestone(kimg, value * 9 / kimg, kimg == 9))
        controller.end(number, "completed", "")
    dispatcher(journal.append(Close(state="finished", seconds=1.0)))
    dispatcher.close(patience=600)
    return journal


def opened() -> Open:
    return Open(study={"objective": {"metric": "fd_classifier", "direction": "minimize"}})


def milestone(kimg: float, value: float, last: bool) -> dict[str, Any]:
    return {
        "kimg": kimg, "seconds": kimg, "evaluation_seconds": 0.1, "images_per_second": 500.0,
        "metrics": {"fd_classifier": value}, "losses": {"generator_loss": 1.5},
        "protocols": {"fd_classifier": {"metric": "fd_classifier", "samples": 500}},
        "diverged": None, "last": last, "checkpoints": {},
    }  # fmt: skip


def test_a_callback_hears_of_every_trial_and_of_each_new_best(tmp_path: Path) -> None:
    heard = Heard()

    search(tmp_path, {"heard": heard})

    assert heard.events[0].hook == "study_start"
    assert [(e.trial, e.value) for e in heard.of("new_best")] == [
        (0, 270.0), (0, 90.0), (1, 70.0),
    ]  # fmt: skip
    assert [(e.trial, e.state, e.value) for e in heard.of("trial_end")] == [
        (0, "completed", 90.0), (1, "completed", 70.0), (2, "failed", None), (3, "completed", 80.0),
    ]  # fmt: skip
    (failure,) = heard.of("failure")
    assert str(failure) == "gan: trial 2 failed (ValueError: odd)"
    (end,) = heard.of("study_end")
    assert (end.state, end.value) == ("finished", 70.0)
    report = heard.of("report")[1]
    assert (report.kimg, report.metrics, report.images_per_second) == (
        9.0, {"fd_classifier": 90.0}, 500.0,
    )  # fmt: skip
    assert report.config["batch_size"] in (32, 64)
    assert json.loads(json.dumps(report.as_json()))["losses"] == {"generator_loss": 1.5}


def test_a_new_best_is_measured_with_as_many_samples_and_draws_something(tmp_path: Path) -> None:
    events = Events("gan", tmp_path, "fd_classifier", "gan")
    suggest = Suggest(trial=0, config={}, params={}, seed=0)

    def best(value: float | None, protocol: str, variation: float = 0.9) -> bool:
        report = Report(
            trial=0, kimg=1.0, seconds=1.0, images_per_second=1.0, variation=variation,
            metrics={"fd_classifier": value}, protocols={"fd_classifier": protocol},
        )  # fmt: skip
        return "new_best" in [event.hook for event in events.of(report)]

    list(events.of(suggest))
    for digest, samples in (("few", 500), ("many", 5000)):
        list(events.of(MetricProtocol(hash=digest, record={"samples": samples})))
    assert best(50.0, "few")
    assert not best(60.0, "few")
    assert best(55.0, "many")  # more samples: what was measured with few says less
    assert not best(40.0, "few")
    assert not best(30.0, "many", variation=0.0)  # one image
    assert not best(None, "many")
    assert best(54.0, "many")


def test_a_study_that_goes_on_keeps_its_id_and_its_best(tmp_path: Path) -> None:
    first, second = Heard(), Heard()
    journal = search(tmp_path, {"heard": first})

    again = Dispatcher(Events("gan", tmp_path, "fd_classifier", "gan"), {"heard": second}, print)
    again(Earlier(list(journal)))
    again(Suggest(trial=4, config={}, params={}, seed=0))
    protocol = next(r.hash for r in journal if isinstance(r, MetricProtocol))
    for value in (75.0, 60.0):
        again(
            Report(trial=4, kimg=9.0, seconds=1.0, images_per_second=1.0, last=True,
                   metrics={"fd_classifier": value}, protocols={"fd_classifier": protocol})
        )  # fmt: skip
    again.close()

    assert [(e.trial, e.value) for e in second.of("new_best")] == [(4, 60.0)]
    assert {e.study_id for e in second.events} == {e.study_id for e in first.events}


def test_what_a_callback_raises_is_shown_once_and_then_it_is_left_out(tmp_path: Path) -> None:
    class Broken(Callback):
        calls = 0

        def on_report(self, event: Event) -> None:
            Broken.calls += 1
            raise OSError("no route to http://me:hunter2@host/x")

        def on_trial_end(self, event: Event) -> None:
            """Hears of it without an error: that is no sign for the other hook."""

        def on_study_end(self, event: Event) -> None:
            raise SystemExit(3)

    heard, said = Heard(), []

    search(tmp_path, {"broken": Broken(), "heard": heard}, said.append)

    assert Broken.calls == MOST_ERRORS
    assert said[0] == (
        "callback broken: OSError: no route to http://…@host/x; the search continues"
    )
    assert said[1] == f"callback broken: {MOST_ERRORS} errors in a row; on_report is left out"
    assert len(heard.of("trial_end")) == 4


def test_a_callback_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    held, said = threading.Event(), []

    class Hangs(Callback):
        def on_study_start(self, event: Event) -> None:
            held.wait()

    study = make_study(tmp_path, "budget.trials=4")
    events = Events("gan", tmp_path, "fd_classifier", "gan")
    dispatcher = Dispatcher(events, {"hangs": Hangs()}, said.append)
    dispatcher(Memory().append(opened()))
    run(Controller(study, Memory(), Sampler(study, "gan", None), dispatcher), lambda *_: 1.0)
    began = time.monotonic()
    dispatcher.close(patience=0.2)
    took = time.monotonic() - began
    held.set()

    assert took < 10
    assert len(said) == 1
    assert said[0].startswith("callback hangs: still busy after 0 s; ")


@contextmanager
def server(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on this machine; gives its address, and what is posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/hook", posted
    finally:
        http.shutdown()
        http.server_close()


def callbacks(*given: Any) -> dict[str, Callback]:
    specs = [CallbackSpec.model_validate(each) for each in given]
    made = callbacks_of(specs, (), StudyFolder(Path("unused")))
    return {name: callback for name, callback in made.items() if "tensorboard" not in name}


def test_a_webhook_gets_notable_events_and_its_secret_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with server() as (url, posted):
        monkeypatch.setenv("HOOK", url + "?token=hunter2")
        search(tmp_path, callbacks({"webhook": "$HOOK"}), said.append)
    assert [(p["hook"], p.get("trial")) for p in posted] == [
        ("new_best", 0), ("new_best", 0), ("new_best", 1), ("failure", 2), ("study_end", None),
    ]  # fmt: skip
    assert posted[1]["text"] == "gan: new best: trial 0, fd_classifier 90"
    assert said == []

    search(tmp_path, callbacks({"webhook": "$HOOK"}), said.append)  # nobody listens any more
    with server(500) as (url, _):
        monkeypatch.setenv("HOOK", url)
        search(tmp_path, callbacks({"webhook": "$HOOK"}), said.append)
    assert said[0] == (
        "callback webhook: RaygenError: $HOOK cannot be reached (ConnectionRefusedError); "
        "the search continues"
    )
    assert any("$HOOK answered 500" in text for text in said)
    assert not any("hunter2" in text or "127.0.0.1" in text for text in said)


def test_a_command_gets_the_event_and_is_killed_when_it_takes_too_long(tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    listed = {"run": f"echo $RAYGEN_HOOK $RAYGEN_TRIAL >> {out}; cat >> {out}", "on": ["failure"]}

    search(tmp_path, callbacks({"command": listed}), said.append)

    line, content = out.read_text().splitlines()
    assert line == "failure 2"
    assert json.loads(content)["reason"] == "ValueError: odd"
    slow = {"run": "sleep 60 | cat", "seconds": 0.2, "on": ["failure"]}
    broken = {"run": "echo odd >&2; exit 3", "on": ["failure"]}
    search(tmp_path, callbacks({"command": slow}), said.append)
    search(tmp_path, callbacks({"command": broken}), said.append)
    assert "sleep 60 | cat: killed after 0.2 s" in said[0]
    assert "exit code 3 odd" in said[1]


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of an offline run: protocol buffers in LevelDB's log format, after 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, data = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # no header fits: the rest of a block is empty
            at += 32768 - at % 32768
        _, length, part = struct.unpack_from("<IHB", content, at)
        data += content[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record
            data = b""


@pytest.mark.slow
def test_wandb_has_a_run_for_each_trial(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    said: list[str] = []

    search(tmp_path, callbacks({"wandb": {"mode": "offline"}}), said.append)

    seen: dict[str, list[tuple[int, float]]] = {}
    for file in tmp_path.glob("wandb/offline-run-*/*.wandb"):
        name = ""
        for record in wandb_records(file):
            if record.HasField("run"):
                name = record.run.display_name
                seen.setdefault(name, [])
            if record.HasField("history"):
                items = record.history.item
                row = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
                seen[name].append((row["_step"], row["fd_classifier"]))
    assert said == []
    assert seen == {
        "gan 0": [(3000, 270.0), (9000, 90.0)],
        "gan 1": [(3000, 210.0), (9000, 70.0)],
        "gan 2": [],
        "gan 3": [(3000, 240.0), (9000, 80.0)],
    }


@contextmanager
def mlflow_server(store: str) -> Iterator[str]:
    """A tracking server on this machine, by its own command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, stdout=quiet, stderr=quiet, env=environment, start_new_session=True
    )
    try:
        until = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                if server.poll() is not None:
                    pytest.skip(f"mlflow server does not start here: it ended {server.poll()}")
                assert time.monotonic() < until, "no answer from mlflow server"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
@pytest.mark.parametrize("server", [False, True], ids=["store", "server"])
def test_mlflow_has_a_run_for_the_study_and_one_below_it_for_each_trial(
    tmp_path: Path, server: bool
) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    with mlflow_server(store) if server else nullcontext(store) as uri:
        check_mlflow(tmp_path, mlflow, uri)


def check_mlflow(tmp_path: Path, mlflow: Any, uri: str) -> None:
    spec = CallbackSpec.model_validate({"mlflow": {"experiment": "images"}})
    spec = spec.model_copy(update={"mlflow": spec.mlflow.model_copy(update={"tracking_uri": uri})})
    said: list[str] = []

    search(tmp_path, callbacks_of([spec], (), StudyFolder(tmp_path)), said.append)

    assert said == []
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("images")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["gan", "gan 0", "gan 1", "gan 2", "gan 3"]
    states = {name: run.info.status for name, run in runs.items()}
    assert states["gan 2"] == "FAILED"
    assert {states[name] for name in ("gan", "gan 0", "gan 3")} == {"FINISHED"}
    first = runs["gan 0"]
    assert first.data.tags["mlflow.parentRunId"] == runs["gan"].info.run_id
    history = client.get_metric_history(first.info.run_id, "fd_classifier")
    assert [(m.step, m.value) for m in history] == [(3000, 270.0), (9000, 90.0)]
    assert first.data.params["batch_size"] in ("32", "64")
    assert runs["gan"].data.metrics["best_fd_classifier"] == 70.0


def test_a_callback_that_cannot_work_is_refused_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(InputError, match=r"callbacks: \$HOOK is not set in the environment"):
        callbacks({"webhook": "$HOOK"})
    monkeypatch.setattr("raygen.integrations.environment.find_spec", lambda name: None)
    with pytest.raises(InputError, match="wandb is not installed: uv sync --extra wandb"):
        callbacks("wandb")


OWN = """
from raygen import Callback

class Mine(Callback):
    def __init__(self, greeting="hello"):
        self.greeting = greeting

class Other:
    pass
"""
REFUSED = {
    "wanbd": "callbacks.0: 'wanbd': unknown name, choose from wandb, mlflow, webhook, "
             "command, or file.py:Class; did you mean 'wandb'?",
    "{wandb: {projet: x}}": "callbacks.0.wandb.projet: 'x': unknown name, choose from entity, "
                            "mode, project; did you mean 'project'?",
    "{webhook: https://u:hunter2@a.org/}": "holds what may be a secret",
    "{webhook: https://hooks.slack.com/services/T012/B345/0123456789abcdef01}": "may be a secret",
    "{webhook: ftp://a.org}": "must be an http(s) address",
    "{mlflow: {tracking_uri: https://u:hunter2@a.org/}}": "holds what may be a secret",
    "{webhook: http://hunter2@a.org/}": "holds what may be a secret",
    "{webhook: http://a.org/#tok=hunter2}": "holds what may be a secret",
    "{webhook: https://api.telegram.org/bot123456:ABC-DEF1234ghIkl/sendMessage}": "be a secret",
    "{webhook: https://a.org, wandb: {}}": "must be one callback",
    "own.py:Other": "own.py:Other: must be a class derived from raygen.Callback",
    "{own.py:Mine: {greting: hi}}": "takes no argument 'greting'; did you mean 'greeting'?",
    "{webhook: {url: https://a.org, on: [new_bset]}}": "did you mean 'new_best'?",
    "3": "callbacks.0: 3: must be a mapping",
}  # fmt: skip


@pytest.mark.parametrize("given", REFUSED)
def test_a_mistake_in_callbacks_is_one_line_at_its_place(tmp_path: Path, given: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    file = tmp_path / "space.yaml"
    file.write_text(f"callbacks:\n  - {given}\n{SPACE}")
    from raygen.plugins import look_in

    look_in(tmp_path)
    with pytest.raises(InputError) as error:
        load_space(file)

    assert REFUSED[given] in str(error.value)
    assert "hunter2" not in str(error.value)
    assert str(error.value).startswith(f"{file}:2:")
    assert "\n" not in str(error.value)


def test_who_listens_is_no_part_of_what_a_study_compares(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    plain = make_study(tmp_path)
    listened = make_study(
        tmp_path, "callbacks=[{webhook: $HOOK}, {own.py:Mine: {greeting: hi}}, wandb, {command: x}]"
    )

    assert listened.settings() == plain.settings()
    assert [spec.name for spec in listened.spec.callbacks] == [
        "webhook", "own.py:Mine", "wandb", "command",
    ]  # fmt: skip
