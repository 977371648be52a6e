"""Seconds and memory of one evaluation: raygen, torch-fidelity and torchmetrics, in turns.

    python benchmarks/evaluate.py [--quick] [--out benchmarks/results/evaluate.json]

All three get the same images and the same randomly initialised Inception weights, and compute FID
against reference images whose statistics they may keep: raygen and torch-fidelity in their caches
on disk, torchmetrics in memory, filled before the clock starts. Loading Inception counts only for
torch-fidelity, which does it in each call. Each measurement is a process of its own; its peak
memory is the whole process's. On a CPU Inception does some 10 images a second, so fewer samples are
evaluated there (stated in the result), and what does not grow with them (the root) weighs more than
it would with 10,000. Images are made in memory: no generator runs.
"""

import argparse
import datetime
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recipes import cpu_name

# The others have torch's default on CUDA, which is TF32.
TF32 = ("raygen, tf32",) if torch.cuda.is_available() else ()
SIDES = ("raygen", *TF32, "torch-fidelity", "torchmetrics")
REFERENCE = 2250  # real images, one for each feature and more: their statistics are not timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 repeats; on a CPU 75 pixels a side")
    parser.add_argument("--samples", type=int, nargs="+", help="at least 250")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "SAMPLES", "FOLDER"))
    parser.add_argument("--pixels", type=int, default=299)
    arguments = parser.parse_args()
    if arguments.worker:
        side, samples, folder = arguments.worker
        print(json.dumps(measure(side, int(samples), Path(folder), arguments.pixels)))
        return
    cuda = torch.cuda.is_available()
    sizes = arguments.samples or ([5000, 50_000] if cuda else [250, 500])
    repeats, pixels = arguments.repeats, 299
    if arguments.quick:
        # Inception at its least size costs a sixteenth.
        sizes, repeats, pixels = ([5000], 2, 299) if cuda else ([500], 2, 75)
    result = compare(sizes, repeats, pixels)
    last = result["summary"][-1]
    figures = {
        f"ratio_{side.replace('-', '_').replace(', ', '_')}": dict(
            zip(("min", "median", "max"), last["sides"][side]["times_raygen"], strict=True)
        )
        for side in SIDES[1:]
    }
    figures["max_relative_difference"] = max(each["fid_apart"] for each in result["summary"])
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {"date": datetime.date.today().isoformat(), **result, **figures}
        arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    print(json.dumps(figures))


def compare(sizes: list[int], repeats: int, pixels: int) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_weights(Path(folder))
        for side in SIDES:
            run(side, 250, folder, pixels)  # fills the caches of the reference
        for samples in sizes:
            for turn in range(repeats):
                for side in SIDES[::-1] if turn % 2 else SIDES:
                    row = run(side, samples, folder, pixels)
                    found.append({"side": side, "samples": samples, **row})
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    facts = {
        "device": device,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "pixels": pixels,
        "weights": "random",
        "reference_images": REFERENCE,
        "torch": torch.__version__,
    }
    return {**facts, "summary": [summary(found, n) for n in sizes], "runs": found}


def summary(found: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """Medians, ratios by turn with their range, and whether all found the same FID."""
    sides: dict[str, Any] = {}
    seconds = {s: [r["seconds"] for r in found if r["side"] == s and r["samples"] == samples]
               for s in SIDES}  # fmt: skip
    for side in SIDES:
        rows = [row for row in found if row["side"] == side and row["samples"] == samples]
        ratios = [a / b for a, b in zip(seconds[side], seconds["raygen"], strict=True)]
        sides[side] = {
            "seconds": statistics.median(seconds[side]),
            "times_raygen": [min(ratios), statistics.median(ratios), max(ratios)],
            "peak_mb": max(row["peak_mb"] for row in rows),
            "fid": rows[0]["fid"],
        }
    ours = [row for row in found if row["side"] == "raygen" and row["samples"] == samples]
    total = sum(row["seconds"] for row in ours)
    parts = {key: sum(row["parts"][key] for row in ours) / total for key in ours[0]["parts"]}
    apart = max(abs(sides[s]["fid"] / sides["raygen"]["fid"] - 1) for s in SIDES)
    return {"samples": samples, "sides": sides, "raygen_shares": parts, "fid_apart": apart}


def run(side: str, samples: int, folder: str, pixels: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", side, str(samples), folder]
    done = subprocess.run(
        [*command, "--pixels", str(pixels)],
        env={**os.environ, "RAYGEN_CACHE": folder},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    row = json.loads(done.stdout.splitlines()[-1])
    print(side, samples, f"{row['seconds']:.1f} s", f"{row['peak_mb']:.0f} MB", file=sys.stderr)
    return row


def measure(side: str, samples: int, folder: Path, pixels: int) -> dict[str, Any]:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE = pixels  # pyright: ignore
    random = torch.Generator().manual_seed(0)
    real = torch.randint(256, (REFERENCE, 3, 32, 32), generator=random, dtype=torch.uint8)
    fake = torch.randint(200, (samples, 3, 32, 32), generator=random, dtype=torch.uint8)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = MEASURES[side](real, fake, folder, device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        found["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return {**found, "peak_mb": peak}


def raygen(
    real: Tensor, fake: Tensor, folder: Path, device: torch.device, precision: Any = "float32"
) -> dict[str, Any]:
    from raygen.data import ImageData, Split, fingerprint
    from raygen.metrics import evaluator, frechet, inception
    from raygen.metrics.moments import Grouped

    inception.HASH = hashlib.sha256((folder / inception.FILE).read_bytes()).hexdigest()[:8]
    split = Split(real, torch.zeros(len(real), dtype=torch.int64))
    data = ImageData("noise", ("x",), split, split, fingerprint(split))
    evaluator = evaluator.Evaluator(("fid",), data, len(fake), device, precision=precision)
    clock = Clock(device)
    extractor = evaluator.extractors["inception"]
    evaluator.extractors["inception"] = extractor._replace(
        features=clock.timed("features", extractor.features)
    )
    Grouped.add = clock.timed("moments", Grouped.add)
    frechet.frechet_distance = clock.timed("root", frechet.frechet_distance)
    frechet.frechet_error = clock.timed("error", frechet.frechet_error)
    start = time.perf_counter()
    score = evaluator(Stored(fake.to(device), device))["fid"]
    return {"seconds": time.perf_counter() - start, "fid": score.value, "parts": clock.seconds}


def torch_fidelity(
    real: Tensor, fake: Tensor, folder: Path, device: torch.device
) -> dict[str, Any]:
    from torch.utils.data import Subset
    from torch_fidelity import calculate_metrics

    from raygen.metrics.inception import FILE

    start = time.perf_counter()
    found = calculate_metrics(
        input1=Subset(fake, range(len(fake))),  # pyright: ignore
        input2=Subset(real, range(len(real))),  # pyright: ignore
        input2_cache_name=f"noise-{len(real)}",
        cache_root=str(folder / "fidelity"),
        feature_extractor_weights_path=str(folder / FILE),
        fid=True,
        cuda=device.type == "cuda",
        batch_size=250,
        verbose=False,
    )
    return {"seconds": time.perf_counter() - start, "fid": found["frechet_inception_distance"]}


def torchmetrics(real: Tensor, fake: Tensor, folder: Path, device: torch.device) -> dict[str, Any]:
    from torchmetrics.image.fid import FrechetInceptionDistance

    from raygen.metrics.inception import FILE

    metric = FrechetInceptionDistance(
        feature_extractor_weights_path=str(folder / FILE), antialias=False
    ).to(device)
    for part in real.split(250):
        metric.update(part.to(device), real=True)
    start = time.perf_counter()
    for part in fake.split(250):
        metric.update(part.to(device), real=False)
    value = float(metric.compute())
    return {"seconds": time.perf_counter() - start, "fid": value}


MEASURES = {
    "raygen": raygen,
    "raygen, tf32": partial(raygen, precision="tf32"),
    "torch-fidelity": torch_fidelity,
    "torchmetrics": torchmetrics,
}


class Stored:
    """A model whose samples are there already."""

    latent_dim, parameters = 1, 0

    def __init__(self, images: Tensor, device: torch.device) -> None:
        self.images, self.device, self.classes = images, device, len(images)

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.images[labels]


class Clock:
    """Seconds by name. Waits for the GPU around each call, which costs raygen its overlap."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device

    def timed(self, name: str, call: Any) -> Any:
        self.seconds[name] = 0.0

        def inner(*arguments: Any) -> Any:
            self.wait()
            start = time.perf_counter()
            found = call(*arguments)
            self.wait()
            self.seconds[name] += time.perf_counter() - start
            return found

        return inner

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def write_weights(folder: Path) -> None:
    """Random weights in torch-fidelity's format."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from raygen.metrics.inception import FILE

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any) -> None:  # pyright: ignore
            torch.manual_seed(0)
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    torch.save({}, folder / "none.pth")
    network = Untrained("untrained", ["2048"], str(folder / "none.pth"))
    torch.save(network.state_dict(), folder / FILE)


if __name__ == "__main__":
    main()
