"""Every way in from outside: what an attacker names or writes is refused, and nothing happens."""

import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from raygen.cli import main
from raygen.errors import InputError
from raygen.files import check_target, replacing, write_text
from raygen.storage import Storage, access_of, fetch
from raygen.training.checkpoint import load_sampler
from raygen.untrusted import check_links, check_name, inside, visible
from report.journals import close, end, make_info, report, suggest, write_study

EVIL = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe"
NAMES = (
    "../up", "a/../../up", "/etc/passwd", "..", ".", "", "a//b", "a\\..\\b", "a/./b", "a\x00b",
    "a\nb", "a\x1b[2J", "\u202etxt", "a/", "/", "a/..",
)  # fmt: skip


def run(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def study(folder: Path, **more: Any) -> Path:
    """A study of one completed trial."""
    records = [*suggest(0, {"a": 1}), report(0, 16, 3.0), end(0), close()]
    return write_study(folder, make_info(**more), records)


# Names


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_of_a_file_below_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="refused"):
        inside(tmp_path, name, "s3://bucket/gan")


@pytest.mark.parametrize("name", ["a", "trials/0001/best.pt", "mein Bild é.png", "a..b", "...x"])
def test_a_plain_name_is_a_path_below(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name, "s3://bucket/gan") == tmp_path / name


def test_random_names_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    parts = ["a", "..", ".", "", "/", "\\", "\x00", "b", "~", "$HOME", "\u2025", "%2e%2e"]
    for _ in range(2000):
        name = "/".join(random.choice(parts, size=int(random.integers(1, 6))))
        try:
            path = inside(tmp_path, name, "x")
        except InputError:
            continue
        assert path.resolve().is_relative_to(tmp_path.resolve())
        assert ".." not in path.parts


@pytest.mark.parametrize("name", ["a/b", "../up", "/abs", "", ".hidden", "-rf", "x" * 300, EVIL])
def test_a_study_has_the_name_of_one_folder(name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        check_name(name, "--name")
    result = run("tune", "--space", "search_spaces/quickstart.yaml", "--name", name, "--dry-run")
    assert result.exit_code == 2


# A bucket


def test_objects_of_a_bucket_write_only_into_the_cache_of_their_study(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    cache = tmp_path / "deep" / "cache"
    monkeypatch.setenv("RAYGEN_CACHE", str(cache))
    monkeypatch.setenv("HOME", str(tmp_path))
    bashrc = tmp_path / ".bashrc"
    bashrc.write_text("mine")
    client = boto3.client("s3")

    def put(key: str, content: bytes) -> None:
        client.put_object(Bucket="raygen-tests", Key=key, Body=content)

    lines = (study(tmp_path / "gan") / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        put(f"attack/gan/journal/{number:08d}.json", line)
    ups = "../" * len(cache.parts)
    put(f"attack/gan/{ups}{str(bashrc).lstrip('/')}", b"theirs")
    put("attack/gan/trials/../../../../../.bashrc", b"theirs")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    for command in ("status", "report", "best", "evaluate", "generate", "audit"):
        result = run(command, "s3://raygen-tests/attack/gan")
        assert result.exit_code == 2, command
        assert "refused" in result.stderr

    assert bashrc.read_text() == "mine"
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match="refused"):
        Storage("s3://raygen-tests/attack/gan").pull(tmp_path, ["../x"])
    with pytest.raises(InputError, match="must not"):
        fetch("s3://raygen-tests/attack/..")


# A study folder with links


@pytest.mark.parametrize(
    "name",
    ["space.yaml", "journal.jsonl", "real.png", "audit.json", ".audit.json.partial", "study.json",
     "trials/0000/best.pt", "trials/0000/samples-000016000.png", "tensorboard/0000", "trials"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["status", "report", "best", "evaluate", "generate", "ls"])
def test_a_link_out_of_a_study_is_refused_and_its_target_neither_shown_nor_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = study(tmp_path / "runs" / "gan")
    secret = tmp_path / "secret"
    secret.write_text("password: hunter2")
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(secret)

    result = run(command, folder.parent if command == "ls" else folder)

    assert "hunter2" not in result.output
    assert secret.read_text() == "password: hunter2"
    assert ", outside the study: remove it" in result.output
    if command != "ls":
        assert result.exit_code == 2


def test_a_study_that_is_a_link_itself_and_links_inside_of_it_are_fine(tmp_path: Path) -> None:
    folder = study(tmp_path / "elsewhere" / "gan")
    (folder / "latest").symlink_to(folder / "journal.jsonl")
    linked = tmp_path / "gan"
    linked.symlink_to(folder)

    check_links(linked)
    assert run("status", linked).exit_code == 0


# Texts


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert visible(EVIL) == "\\x1b]0;owned\\x07\\x1b[2J\\u202egnp.exe"
    assert visible("plain text é 漢\tand\nlines") == "plain text é 漢\tand\nlines"
    assert visible("\x9b31m") == "\\x9b31m"


@pytest.mark.parametrize(
    "words", [("status",), ("status", "--why", 0), ("best",), ("report",), ("ls",)]
)
def test_what_a_study_says_does_not_command_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    records = [*suggest(0, {"a": EVIL}), report(0, 16, 3.0), end(0, "failed", EVIL)]
    info = make_info(name=EVIL, command=EVIL, resume_command=EVIL)
    folder = write_study(tmp_path / "runs" / "gan", info, records)
    target = folder.parent if words[0] == "ls" else folder

    result = run(words[0], target, *words[1:])

    assert "\x1b" not in result.output
    assert "\x07" not in result.output
    assert "\u202e" not in result.output
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8").partition("<script>")[0]
        assert "<script>alert" not in html


def test_the_terminal_of_a_search_is_not_commanded_by_its_records(tmp_path: Path) -> None:
    from raygen.journal.records import Retry
    from raygen.progress import StudyProgress
    from search.studies import make_study, suggested

    progress = StudyProgress(make_study(tmp_path))
    out = io.StringIO()
    progress.console.file = out
    progress(suggested(0))
    progress(Retry(trial=0, wait=1.0, reason=EVIL, attempt=2, kimg=0.0))

    assert "\x1b" not in out.getvalue()
    assert "\\x1b]0;owned" in out.getvalue()


# Files that are written


@pytest.mark.parametrize("kind", ["link", "folder", "device", "fifo"])
def test_only_a_plain_file_is_ever_replaced(tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "page.html", tmp_path / "other"
    other.write_text("mine")
    match kind:
        case "link":
            target.symlink_to(other)
        case "folder":
            target.mkdir()
        case "fifo":
            os.mkfifo(target)
        case "device":
            target = Path("/dev/full")
    before = os.lstat(target)

    with pytest.raises(InputError, match="give a file name"):
        write_text(target, "theirs")
    result = run("tune", "--space", "search_spaces/quickstart.yaml", "--report", target)

    assert result.exit_code == 2
    assert "--report" in result.stderr
    after = os.lstat(target)
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert other.read_text() == "mine"


def test_a_page_that_could_not_be_written_is_refused_before_the_search(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")

    with pytest.raises(InputError, match="is not a folder"):
        check_target(plain / "page.html", "--report")
    result = run("tune", "--space", "search_spaces/quickstart.yaml",
                 "--report", plain / "page.html")  # fmt: skip
    assert result.exit_code == 2


def test_files_have_the_rights_of_the_umask_and_a_link_beside_them_is_not_followed(
    tmp_path: Path,
) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "page.html", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640

    def half() -> None:
        with replacing(tmp_path / "page.html") as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert (tmp_path / "page.html").read_text() == "x"
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_checkpoint_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    from raygen.training.checkpoint import save

    before = os.umask(0o022)
    try:
        save(tmp_path / "best.pt", {"format": 1})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "best.pt").stat().st_mode) == 0o644


# Files that are read


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def test_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "trial": Bomb()}, tmp_path / "best.pt")

    with pytest.raises(InputError):
        load_sampler(tmp_path / "best.pt", torch.device("cpu"))
    assert run("generate", tmp_path / "best.pt").exit_code == 2
    assert not (tmp_path / "owned").exists()


def test_an_npz_runs_no_code_and_its_names_are_no_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = io.BytesIO()
    np.lib.format.write_array(pickled, np.array([Bomb()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile("evil.npz", "w") as archive:
        archive.writestr("images.npy", pickled.getvalue())
        archive.writestr("labels.npy", pickled.getvalue())
        archive.writestr("../../owned", b"theirs")

    space = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
    result = run("tune", "--space", space, "--set", "data={path: evil.npz}")

    assert result.exit_code == 2
    assert not list(tmp_path.parent.rglob("owned"))


# A cluster's address


class Recorder(HTTPServer):
    """Answers every request by sending it on to another address; keeps what came."""

    def __init__(self, onward: str = "") -> None:
        self.seen: list[dict[str, str]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append({key.lower(): value for key, value in self.headers.items()})
                self.send_response(307 if onward else 200)
                if onward:
                    self.send_header("Location", onward + self.path)
                self.end_headers()

            do_POST = do_PUT = do_GET

            def log_message(self, *words: Any) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "s3cret" * 8)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "keysecret")
    return "s3cret" * 8


CLUSTER_COMMANDS = (
    ("tune", "--space", "search_spaces/quickstart.yaml", "--storage", "s3://bucket/runs"),
    ("status",), ("status", "--follow"), ("status", "--stop"), ("doctor",),
)  # fmt: skip


@pytest.mark.parametrize("words", CLUSTER_COMMANDS, ids=" ".join)
def test_the_token_goes_to_no_host_in_clear_text_that_was_not_named_for_that(
    token: str, words: tuple[str, ...]
) -> None:
    result = run(*words, "--cluster", "http://192.0.2.7:8265")

    assert result.exit_code == 2
    assert "your Ray token would travel to 192.0.2.7 in clear text" in result.stderr
    assert "--plain-http 192.0.2.7" in result.stderr
    assert token not in result.output


@pytest.mark.parametrize("address", ["http://localhost.evil.example", "http://127.0.0.1@evil/x"])
def test_a_host_that_looks_like_loopback_is_none(token: str, address: str) -> None:
    assert run("status", "--cluster", address).exit_code == 2


@pytest.mark.parametrize("words", CLUSTER_COMMANDS, ids=" ".join)
def test_a_redirection_gets_neither_token_nor_keys(token: str, words: tuple[str, ...]) -> None:
    elsewhere = Recorder()
    asked = Recorder(onward=elsewhere.url)

    result = run(*words, "--cluster", asked.url)

    assert result.exit_code in (2, 4)
    sent = json.dumps(elsewhere.seen)
    assert token not in sent
    assert "AKIASECRET" not in sent + json.dumps(asked.seen)


def test_only_the_keys_of_the_storage_that_is_used_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_VAULT_SECRET",
                 "GOOGLE_APPLICATION_CREDENTIALS", "GITHUB_TOKEN"):  # fmt: skip
        monkeypatch.setenv(name, "x")

    assert access_of("/shared/runs") == {}
    assert set(access_of("gs://b/x")) == {"GOOGLE_APPLICATION_CREDENTIALS"}
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(access_of("s3://b/x"))
    assert not {"AWS_PROFILE", "AWS_VAULT_SECRET", "GITHUB_TOKEN"} & set(access_of("s3://b/x"))


def test_a_cluster_gets_keys_only_if_it_is_ones_own_or_asked_for(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raygen.cluster.jobs import Remote, keys_for

    def remote(kind: str | None) -> Remote:
        launched = None if kind is None else {"provider": {"type": kind}}
        return Remote("c", None, launched)  # pyright: ignore[reportArgumentType]

    assert keys_for(remote("aws"), False, "s3://b/x") == {}
    assert keys_for(remote(None), False, "s3://b/x") == {}
    assert keys_for(remote(None), True, "s3://b/x")["AWS_ACCESS_KEY_ID"] == "AKIASECRET"
    assert keys_for(remote("local"), False, "s3://b/x")["AWS_ACCESS_KEY_ID"] == "AKIASECRET"


def test_a_study_name_that_a_cluster_gives_writes_no_page_elsewhere(tmp_path: Path) -> None:
    from raygen.cluster.jobs import Remote, bring_home

    with pytest.raises(InputError, match="refused"):
        bring_home(Remote("c", None, {}), "../../evil")  # pyright: ignore[reportArgumentType]


# Ray on this machine


def test_tokens_are_for_their_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raygen.home import protect_token, temporary_folder, token_file

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", None)
    path = token_file()
    assert path == tmp_path / ".ray" / "auth_token"

    protect_token()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("older")
    path.chmod(0o644)  # as Ray itself leaves it
    protect_token()
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("older", 0o600)

    folder = Path(temporary_folder() or "")
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_of_ones_own_listens_on_loopback_and_leaves_no_key_behind(tmp_path: Path) -> None:
    code = f"""
import os, re, subprocess, sys
from raygen.cluster.connect import connected
import ray
from ray import tune
import raygen.tuning.run  # says what Ray Tune must not copy into its actors' environment
def is_ours(pid):  # other tests on this machine have a Ray of their own
    while pid not in (0, 1, os.getpid()):
        pid = int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])
    return pid == os.getpid()
class T(tune.Trainable):
    def step(self): return {{"done": True}}
with connected("local", lambda record: None):
    tune.Tuner(T, run_config=tune.RunConfig(storage_path={str(tmp_path)!r}, verbose=0)).fit()
    ss = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True)
    for line in ss.stdout.splitlines():
        if any(is_ours(int(pid)) for pid in re.findall(r"pid=(\\d+)", line)):
            print(line)
    print(ray._private.worker._global_node.get_session_dir_path())
"""
    home = tmp_path / "home"
    home.mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "AWS_ACCESS_KEY_ID": "AKIALEAK",
           "AWS_SECRET_ACCESS_KEY": "leakedsecret", "TMPDIR": "/tmp"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True,
        timeout=900, check=True,
    )  # fmt: skip

    *sockets, session = done.stdout.strip().splitlines()
    rays = [line for line in sockets if "raylet" in line or "gcs_server" in line]
    assert rays, "ss shows no process of Ray's"
    for line in (line for line in sockets if "ray" in line or "gcs" in line):
        assert "127.0.0.1" in line.split()[3], line
    logs = Path(session)
    assert logs.is_relative_to(f"/tmp/raygen-{os.getuid()}")
    assert list(logs.glob("logs/*"))
    leaks = subprocess.run(
        ["grep", "-rlE", "AKIALEAK|leakedsecret", str(logs)], capture_output=True, text=True
    ).stdout
    assert leaks == ""
