"""A trial that stopped, or was killed, ends as if nothing had happened: bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from raygen.data import ImageData
from raygen.metrics.evaluator import Evaluator
from raygen.study_folder import TrialFolder
from raygen.training.checkpoint import checkpoint, load, load_full, save
from raygen.training.loop import fit
from raygen.training.record import record
from raygen.trial import Trial

pytestmark = pytest.mark.usefixtures("patience")
CPU = torch.device("cpu")
MILESTONES = (0.1, 0.2, 0.3)
SCRIPT = """
import sys
from pathlib import Path
import torch
from conftest import TRIALS, PixelDistance, be_patient, make_data
from raygen.study_folder import TrialFolder
from raygen.training.checkpoint import load_full
from raygen.training.loop import fit
from raygen.training.record import record

torch.set_num_threads(1)
be_patient(setattr)
trial, data, folder = TRIALS["gan with penalty"], make_data(), TrialFolder(Path(sys.argv[1]))
resume = load_full(folder.last, torch.device("cpu")) if folder.last.exists() else None
for progress in fit(trial, data, PixelDistance(data), (0.1, 1.0, 2.0, 3.0), 3, resume):
    record(folder, trial, 3, data.summary(), progress)
"""


def test_a_resumed_trial_ends_bit_equal_to_one_that_never_stopped(
    any_trial: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    whole = list(fit(any_trial, data, evaluator, MILESTONES, seed=3))
    stopped = next(fit(any_trial, data, evaluator, MILESTONES, seed=3))
    save(tmp_path / "last.pt", checkpoint(any_trial, 3, data.summary(), stopped, full=True))

    resume = load_full(tmp_path / "last.pt", CPU)
    rest = list(fit(any_trial, data, evaluator, MILESTONES, seed=3, resume=resume))

    assert [progress.kimg for progress in rest] == [0.2, 0.3]
    assert [p.scores for p in rest] == [p.scores for p in whole[1:]]
    assert [p.losses for p in rest] == [p.losses for p in whole[1:]]
    assert [p.best for p in rest] == [p.best for p in whole[1:]]
    assert [p.state["health"] for p in rest] == [p.state["health"] for p in whole[1:]]
    _assert_equal(rest[-1].learner.state_dict(), whole[-1].learner.state_dict())


def test_the_clock_of_a_resumed_trial_goes_on(
    gan: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    stopped = next(fit(gan, data, evaluator, MILESTONES, seed=3))
    content = checkpoint(gan, 3, data.summary(), stopped, full=True)
    content["loop"]["seconds"] = 1000.0
    save(tmp_path / "last.pt", content)

    resume = load_full(tmp_path / "last.pt", CPU)
    seconds = [p.seconds for p in fit(gan, data, evaluator, MILESTONES, seed=3, resume=resume)]

    assert all(1000 < value < 1100 for value in seconds)


def test_a_trial_that_is_resumed_at_its_end_has_nothing_left_to_do(
    gan: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path)
    for progress in fit(gan, data, evaluator, MILESTONES, seed=3):
        record(folder, gan, 3, data.summary(), progress)

    resume = load_full(folder.last, CPU)

    assert list(fit(gan, data, evaluator, MILESTONES, seed=3, resume=resume)) == []


@pytest.mark.slow
def test_a_killed_process_resumed_in_a_new_one_ends_bit_equal_to_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    killed, undisturbed = TrialFolder(tmp_path / "killed"), TrialFolder(tmp_path / "undisturbed")
    with _start(killed) as process:
        deadline = time.monotonic() + 300
        while not killed.last.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert load(killed.last, CPU)["kimg"] < 3.0

    for folder in (killed, undisturbed):
        with _start(folder) as process:
            assert process.wait(timeout=600) == 0

    ours, theirs = load(killed.last, CPU), load(undisturbed.last, CPU)
    assert ours["kimg"] == theirs["kimg"] == 3.0
    assert ours["scores"] == theirs["scores"]
    _assert_equal(ours["learner"], theirs["learner"])


def _start(folder: TrialFolder) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder.root)], env=environment)


def _assert_equal(a: Any, b: Any, at: str = "") -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b), at
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for key in a:
            _assert_equal(a[key], b[key], f"{at}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), at
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            _assert_equal(x, y, f"{at}/{index}")
    else:
        assert a == b, at


def test_milestones_that_one_step_passes_are_each_reported_also_after_a_resume(
    gan: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    first, *_ = milestones = (0.001, 0.002, 0.1)  # kimg: fewer images than the first step has
    whole = list(fit(gan, data, evaluator, milestones, seed=3))
    stopped = next(fit(gan, data, evaluator, milestones, seed=3))
    save(tmp_path / "last.pt", checkpoint(gan, 3, data.summary(), stopped, full=True))

    resume = load_full(tmp_path / "last.pt", CPU)
    rest = list(fit(gan, data, evaluator, milestones, seed=3, resume=resume))

    assert whole[0].learner.images_per_step > 2
    assert [progress.kimg for progress in whole] == list(milestones)
    assert [progress.kimg for progress in rest] == [m for m in milestones if m > first]
    assert [p.scores for p in rest] == [p.scores for p in whole[1:]]
    assert [p.losses for p in rest] == [p.losses for p in whole[1:]]
    assert [p.last for p in rest] == [False, True]
