"""Two processes that share an evaluation find what one finds alone."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.distributed import rank
from raygen.metrics import METRICS, classifier, kernel
from raygen.metrics import mind as mind_module
from raygen.metrics.classifier import train_classifier
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.kernel import kernel_distance
from raygen.metrics.mind import mind
from raygen.models.conv_vae import ConvVae
from raygen.training.vae import VaeLearner
from raygen.trial import VaeTrial

pytestmark = pytest.mark.slow  # pairs of processes, each with everything imported
CPU = torch.device("cpu")
SAMPLES = 2100  # nine chunks, the last of them short
NAMES = tuple(name for name, metric in METRICS.items() if metric.features == "classifier")
BOUNDS = ("elbo", "rate", "distortion", "bits_per_dim")


def scores() -> dict[str, float]:
    """Of a hardly trained classifier, and with fewer subsets and lines: all is the same code."""
    classifier.train_classifier = partial(train_classifier, steps=2)
    kernel.kernel_distance = partial(kernel_distance, subsets=3)
    mind_module.mind = partial(mind, lines=20)
    train, test = (
        Split(*map(torch.from_numpy, draw_shapes(n, seed))) for n, seed in ((2400, 0), (400, 1))
    )
    data = ImageData("shapes", tuple(SHAPES), train, test, fingerprint(train, test))
    learner = VaeLearner(VaeTrial(model=ConvVae(latent_dim=4, width=4)), 10, CPU, seed=0)
    found = Evaluator((*NAMES, *BOUNDS), data, SAMPLES, CPU)(learner)
    return {name: score.value for name, score in found.items()}


def test_every_metric_of_two_ranks_is_that_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))
    for module, name in ((classifier, "train_classifier"), (kernel, "kernel_distance"),
                         (mind_module, "mind")):  # fmt: skip
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = scores()  # leaves the trained classifier in the cache
    torch.set_num_threads(threads)
    command = [sys.executable, __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, str(number), str(tmp_path)], env=environment)
        for number in range(2)
    ]
    try:
        assert [process.wait(timeout=600) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (torch.load(tmp_path / f"{number}.pt") for number in range(2))

    assert set(first) == {*NAMES, *BOUNDS}
    assert first == second
    for name, value in alone.items():
        assert first[name] == pytest.approx(value, rel=1e-9), name


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=int(sys.argv[1]), world_size=2)
    found = scores()
    torch.save(found, folder / f"{rank()}.pt")
    dist.barrier()  # gloo aborts a process whose peer leaves while it still listens
    dist.destroy_process_group()
