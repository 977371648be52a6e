"""Where a process without a home, or with an odd temporary folder, keeps what Ray needs."""

import os
import stat
from pathlib import Path

import pytest

from raygen.cache import cache_folder
from raygen.errors import ClusterError
from raygen.home import LONGEST, has_token, home, protect_token, temporary_folder, token_file


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "RAYGEN_CACHE", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # so that what is set here is taken back at the end
        monkeypatch.delenv(name)
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown user, as containers run with --user 54321."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_a_home_is_a_folder_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    assert home() is None


@pytest.mark.usefixtures("homeless")
def test_without_a_home_the_token_is_of_this_process_and_the_cache_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    assert home() is None
    assert token_file() is None
    assert not has_token()
    protect_token()
    assert has_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_MODE" not in os.environ  # Ray sets it as it starts, and refuses to mix
    assert cache_folder() == tmp_path / f"raygen-cache-{os.getuid()}"


def test_a_temporary_folder_that_is_too_long_for_a_socket_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))

    folder = temporary_folder()

    assert folder is not None
    assert not folder.startswith(str(long))
    assert len(folder) <= LONGEST + len("/r")
    assert stat.S_IMODE(Path(folder).parent.stat().st_mode) == 0o700


def test_the_folder_of_another_user_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("os.getuid", lambda: 54321)
    (tmp_path / "raygen-54321").mkdir()  # made by whom the tests run as
    Path("/tmp/raygen-54321").mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        with pytest.raises(ClusterError, match=r"another user's.*set RAY_TMPDIR"):
            temporary_folder()
    finally:
        Path("/tmp/raygen-54321").rmdir()


def test_a_folder_that_is_named_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/somewhere")

    assert temporary_folder() is None
