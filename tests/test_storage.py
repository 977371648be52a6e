"""Where studies are kept: the same words for a folder and for object storage."""

import pickle
from pathlib import Path

import pytest

from raygen.errors import ClusterError, InputError
from raygen.storage import Storage, fetch, scratch
from raygen.study_folder import StudyFolder

RECORDS = [b'{"kind":"open","time":1.0,"study":{}}\n', b'{"kind":"close","time":2.0}\n']


@pytest.fixture(params=["folder", "s3", "gcs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage(str(tmp_path / "kept"))
    return Storage(f"{request.getfixturevalue(request.param)}/{tmp_path.name}")


def test_what_is_written_is_read_listed_and_deleted(storage: Storage) -> None:
    storage.write("trials/0001/last.pt", b"abc")
    storage.write("space.yaml", b"x")

    assert storage.read("trials/0001/last.pt") == b"abc"
    assert storage.sizes() == {"trials/0001/last.pt": 3, "space.yaml": 1}
    assert storage.sizes("trials") == {"trials/0001/last.pt": 3}

    storage.delete("space.yaml")
    storage.delete("space.yaml")
    assert storage.read("space.yaml") is None
    assert storage.sizes("nothing") == {}


def test_files_travel_there_and_back(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "best.pt").write_bytes(bytes(range(256)) * 4000)

    storage.push(tmp_path, "trials/best.pt")
    storage.pull(tmp_path / "other", ["trials/best.pt", "trials/none.pt"])

    copied = tmp_path / "other" / "trials" / "best.pt"
    assert copied.read_bytes() == (tmp_path / "trials" / "best.pt").read_bytes()
    assert list((tmp_path / "other" / "trials").iterdir()) == [copied]


def test_a_storage_travels_to_other_processes_and_takes_along_how_it_is_reached(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(Storage(s3))
    for key in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)

    arrived = pickle.loads(sent)
    arrived.write("x", b"1")

    assert arrived.read("x") == b"1"


def test_a_study_is_fetched_without_its_training_states_and_follows_what_changes(
    s3: str, tmp_path: Path
) -> None:
    storage = Storage(f"{s3}/fetched")
    for number, line in enumerate(RECORDS):
        storage.write(f"journal/{number:08d}.json", line)
    for name in ("best.pt", "last.pt", "samples-000001000.png"):
        storage.write(f"trials/0000/{name}", b"x")

    light = StudyFolder(fetch(storage.place))
    names = {path.name for path in light.trial(0).root.iterdir()}
    fetch(storage.place, weights=True)
    heavier = {path.name for path in light.trial(0).root.iterdir()}
    storage.delete("trials/0000/samples-000001000.png")
    fetch(storage.place)

    assert light.journal.read_bytes() == b"".join(RECORDS)
    assert names == {"samples-000001000.png"}
    assert heavier == {"samples-000001000.png", "best.pt"}
    assert not light.trial(0).samples(1).exists()


def test_a_place_without_a_study_is_one_line(s3: str) -> None:
    with pytest.raises(InputError, match=r"s3://.*/none: no study there"):
        fetch(f"{s3}/none")


@pytest.mark.parametrize("place", ["ftp://host/x", "s3://", "http://bucket/x"])
def test_what_is_no_storage_is_refused(place: str) -> None:
    with pytest.raises(InputError, match=r"must be a folder, s3://BUCKET/PREFIX"):
        Storage(place)


def test_a_bucket_that_is_not_there_is_one_line_and_exit_code_4(s3: str) -> None:
    with pytest.raises(ClusterError, match=r"cannot be written: NO_SUCH_BUCKET") as error:
        Storage("s3://no-such-bucket/x").write("a", b"")

    assert error.value.exit_code == 4
    assert len(str(error.value).splitlines()) == 1


def test_the_scratch_of_processes_that_are_gone_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path))
    mine = scratch()
    left = mine.parent.with_name(f"{mine.parent.name.rpartition('-')[0]}-4194305")  # > pid_max
    left.mkdir()

    again = scratch()

    assert not left.exists()
    assert mine.exists()
    assert again != mine
