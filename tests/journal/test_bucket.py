"""The journal on object storage, against a server that speaks S3."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import object_store
from raygen.errors import ClusterError, InputError, RaygenError
from raygen.journal.bucket import RemoteJournal, records_at
from raygen.journal.records import Close, Open, Record, Reopen, parse
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from search.studies import FACTS, Memory, make_controller, make_study, run, suggested, written

OpenAt = Callable[[str], RemoteJournal]
OPEN, FINISHED = Open(study=FACTS), Close(state="finished", seconds=1.0)


@pytest.fixture(params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(scheme: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3

    if scheme == "s3":
        server = object_store.start()
        settings = object_store.access(object_store.endpoint(server))
    else:
        server, settings = object_store.start_gcs("studies")
    for key, value in {**settings, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)
    if scheme == "s3":
        boto3.client("s3").create_bucket(Bucket="studies")
    yield server
    server.stop()


@pytest.fixture
def uri(server: Any, scheme: str) -> str:
    return f"{scheme}://studies/gan"


@pytest.fixture
def open_at(uri: str, tmp_path: Path) -> OpenAt:
    """Open the journal as a machine with a disk of its own does."""

    def open_journal(machine: str) -> RemoteJournal:
        (tmp_path / machine).mkdir(exist_ok=True)
        return RemoteJournal(tmp_path / machine / "journal.jsonl", records_at(uri))

    return open_journal


def test_every_record_is_an_object_and_a_line_in_the_same_words(
    open_at: OpenAt, tmp_path: Path, uri: str
) -> None:
    with open_at("a") as journal:
        for number in range(3):
            journal.append(suggested(number))

    assert b"".join(records_at(uri).read()) == (tmp_path / "a" / "journal.jsonl").read_bytes()


def test_another_machine_goes_on_where_the_first_one_stopped(
    open_at: OpenAt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_at("a") as journal:
        opened = journal.append(OPEN)
    with open_at("b") as journal, monkeypatch.context() as behind:
        behind.setattr(time, "time", lambda: 60.0)
        assert journal.append(Reopen(study=FACTS)).time == opened.time
    with open_at("a"):  # and back again
        pass

    kinds = [[r["kind"] for r in written(tmp_path / m / "journal.jsonl")] for m in "ab"]
    assert kinds == [["open", "reopen"]] * 2


def test_of_two_drivers_the_first_to_write_goes_on_and_the_other_is_refused(
    open_at: OpenAt, uri: str
) -> None:
    first, second = open_at("a"), open_at("b")
    second.append(OPEN)

    with pytest.raises(RaygenError, match="another raygen is already running this study"):
        first.append(Open(study={**FACTS, "name": "other"}))

    second.append(FINISHED)
    assert len(records_at(uri).read()) == 2


def test_a_record_that_was_put_before_a_crash_is_there_afterwards(
    open_at: OpenAt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_at("a")

    def killed(line: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        journal.append(OPEN)
    journal.close()

    with open_at("a") as journal:
        journal.append(replace(FINISHED, state="failed"))
    kinds = [r["kind"] for r in written(tmp_path / "a" / "journal.jsonl")]
    assert kinds == ["open", "close"]


def test_a_request_that_is_repeated_because_its_answer_was_lost_is_no_other_driver(
    open_at: OpenAt, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_at("a") as journal:
        once = journal.bucket.put_new

        def twice(key: str, line: bytes) -> bool:
            once(key, line)
            return once(key, line)

        monkeypatch.setattr(journal.bucket, "put_new", twice)
        journal.append(OPEN)

    assert len(records_at(uri).read()) == 1


def test_a_journal_that_was_local_so_far_is_put_there(
    open_at: OpenAt, uri: str, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "journal.jsonl").write_text('{"kind":"open"}\n{"kind":"clo')  # torn

    with open_at("a") as journal:
        journal.append(Reopen(study=FACTS))

    assert records_at(uri).read()[0] == b'{"kind":"open"}\n'
    assert len(records_at(uri).read()) == 2


def test_the_journal_of_another_study_is_refused(open_at: OpenAt, tmp_path: Path) -> None:
    with open_at("a") as journal:
        journal.append(OPEN)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "journal.jsonl").write_text('{"kind":"open","study":"another"}\n')

    with pytest.raises(InputError, match=r"is not the journal that (s3|gs)://studies/gan holds"):
        open_at("b")


@pytest.mark.parametrize("scheme", ["s3"], indirect=True)
def test_storage_that_is_gone_is_one_line_and_nothing_follows_from_the_record(
    open_at: OpenAt, server: Any, tmp_path: Path
) -> None:
    with open_at("a") as journal:
        journal.append(OPEN)
        server.stop()
        with pytest.raises(ClusterError, match=r"s3://studies/gan: cannot be written") as error:
            journal.append(suggested(0))
        server.start()

    assert error.value.exit_code == 4
    assert len(written(tmp_path / "a" / "journal.jsonl")) == 1


def test_storage_that_fails_for_a_while_is_waited_for_and_said_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    slept: list[float] = []
    monkeypatch.setattr("raygen.patience.time.sleep", slept.append)
    with RemoteJournal(tmp_path / "journal.jsonl", records_at(uri), 600, said.append) as journal:
        failing = Failing(journal.bucket, 5)
        monkeypatch.setattr(journal.bucket, "put_new", failing)
        journal.append(OPEN)
        journal.append(FINISHED)

    assert slept == [0.5, 1, 2, 4, 8]
    assert [line.partition(": ")[2] for line in said] == [
        "cannot be written: SLOW_DOWN; trying again for 10 min", ""
    ]  # fmt: skip
    assert said[1].startswith("the storage answers again after")
    assert failing.clients == 6  # credentials that expired would have been looked for again
    assert len(records_at(uri).read()) == 2
    assert len(written(tmp_path / "journal.jsonl")) == 2


def test_after_all_the_patience_nothing_follows_from_the_record(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RemoteJournal(tmp_path / "journal.jsonl", records_at(uri), 0.2) as journal:
        monkeypatch.setattr(journal.bucket, "put_new", Failing(journal.bucket, 1000))
        with pytest.raises(ClusterError, match="cannot be written: SLOW_DOWN"):
            journal.append(OPEN)

    assert written(tmp_path / "journal.jsonl") == []


class Failing:
    """A put that fails some times with an error of its library, each with a client of its own."""

    def __init__(self, bucket: Any, times: int) -> None:
        self.put, self.bucket, self.left = bucket.put_new, bucket, times
        self.seen: list[Any] = []
        kind = bucket.errors[0]
        self.error = type("SlowDown", (kind,), {"__str__": lambda error: "SLOW_DOWN"})()

    @property
    def clients(self) -> int:
        return len({id(client) for client in self.seen})

    def __call__(self, key: str, line: bytes) -> bool:
        self.seen.append(self.bucket.client)
        if self.left:
            self.left -= 1
            raise self.error
        return self.put(key, line)


@pytest.mark.parametrize("uri", ["s3://bucket", "ftp://bucket/x", "/some/folder", "s3:///x"])
def test_what_is_no_place_in_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=r"must be s3://BUCKET/PREFIX"):
        records_at(uri)


def test_a_search_that_moves_between_machines_is_the_one_that_stayed(
    open_at: OpenAt, tmp_path: Path
) -> None:
    study = make_study(tmp_path, "budget.trials=8")

    def curve(config: dict[str, Any], seed: int, kimg: float) -> float:
        return config["optimizer"]["generator_lr"] * 1e4 + 100 / kimg

    stayed: list[dict[str, Any]] = []
    for cut in (20, 45, None):
        with open_at(f"machine{cut}") as journal:
            sampler = Sampler(study, "test", None)
            controller = Controller(study, journal, sampler, lambda record: None)
            controller.replay(map(parse, written(journal.path)))
            controller.recover()
            if cut is not None:
                limited(journal, cut)
            try:
                run(controller, curve)
            except KeyboardInterrupt:
                continue
            stayed = written(journal.path)
    whole = Memory()
    run(make_controller(study, whole), curve)

    def told(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kinds = ("suggest", "report", "decide", "end")
        return [{k: v for k, v in r.items() if k != "time"} for r in records if r["kind"] in kinds]

    assert told(stayed) == told(whole.lines)


def limited(journal: RemoteJournal, last: int) -> None:
    """Let the journal refuse to write after some records, as a killed process."""
    append = journal.append

    def until(record: Record) -> Record:
        if journal.records >= last:
            raise KeyboardInterrupt
        return append(record)

    journal.append = until  # pyright: ignore[reportAttributeAccessIssue]
