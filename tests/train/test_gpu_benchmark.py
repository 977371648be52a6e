"""What benchmarks/gpu.py leaves of a paid hour, whatever happens to one of its parts."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import frontier
import gpu
import train_step
from raygen.data import ImageData


def program(folder: Path, text: str) -> list[str]:
    file = folder / "part.py"
    file.write_text(text)
    return [str(file)]


def test_of_a_part_every_line_and_the_json_of_the_last_are_kept(tmp_path: Path) -> None:
    done = gpu.run(program(tmp_path, "print('on its way')\nprint('{\"ratio\": 2}')"), 60)

    assert done["code"] == 0
    assert done["result"] == {"ratio": 2}
    assert done["lines"] == ["on its way", '{"ratio": 2}']
    assert "errors" not in done


def test_of_a_part_that_fails_its_error_is_kept_beside_what_it_said(tmp_path: Path) -> None:
    failed = gpu.run(program(tmp_path, "print('on its way')\nraise MemoryError('too large')"), 60)

    assert failed["code"] == 1
    assert failed["lines"] == ["on its way"]
    assert failed["errors"][-1] == "MemoryError: too large"


def test_a_part_that_is_cut_off_leaves_its_lines_and_no_process(tmp_path: Path) -> None:
    command = program(
        tmp_path,
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid)\n"
        "child.wait()",
    )
    cut = gpu.run(command, 3)

    assert cut["code"] == 124
    child = int(cut["lines"][0])
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.05)
    assert not alive(child)


def alive(process: int) -> bool:
    """Whether it runs: one that has ended may wait to be collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("part", ["train_step", "compiled"])
def test_the_clocks_of_a_part_leave_it_time_for_all_else(
    part: str, monkeypatch: pytest.MonkeyPatch, data: ImageData
) -> None:
    command, limit = gpu.PARTS[part]
    clocked: list[float] = []

    def speed(step: Any, seconds: float, device: torch.device) -> float:
        clocked.append(seconds)
        return 1.0

    class Model:
        parameters = 1

    def nothing(*_: Any, **__: Any) -> Any:
        return lambda: 1

    monkeypatch.setattr(train_step, "best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(train_step, "load_data", lambda _: data)
    monkeypatch.setattr(train_step, "make_learner", lambda *_, **__: Model())
    monkeypatch.setattr(train_step, "Batches", nothing)
    monkeypatch.setattr(train_step, "speed", speed)
    for name in ("steps", "ours", "plain_loop"):
        monkeypatch.setattr(train_step, name, nothing)
    for name in ("of_ceiling", "shares"):
        monkeypatch.setattr(train_step, name, lambda *_: {})
    monkeypatch.setattr(sys, "argv", command)
    train_step.main()

    assert len(clocked) > 20
    assert sum(clocked) < limit / 2


def test_all_parts_together_end_within_nine_minutes() -> None:
    assert sum(gpu.PARTS[name][1] for name in gpu.DEFAULT) < 9 * 60


def test_what_the_parts_run_is_there() -> None:
    files = [word for command, _ in gpu.PARTS.values() for word in command if word.endswith(".py")]

    assert len(files) == len(gpu.PARTS)
    assert all(os.path.exists(file) for file in files)


def test_the_folder_of_a_frontier_is_made_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_data(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frontier, "load_data", no_data)
    monkeypatch.setattr(sys, "argv", ["frontier.py", "--out", str(tmp_path / "new" / "file.json")])
    with pytest.raises(KeyboardInterrupt):
        frontier.main()

    assert (tmp_path / "new").is_dir()
