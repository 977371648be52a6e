"""uv run python benchmarks/gpu.py --out FILE: what only a GPU can show, in about nine minutes.

The tests of a CUDA device, then the benchmarks whose figures depend on one, each in a process of
its own that is ended at its limit. Needs neither Ray nor a network. The file holds the card, the
date, and of each part its exit code, seconds and last line (its JSON, where that is what it is).
The whole table of `train_step.py`, with every recipe compiled, takes some ten minutes more.
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
# Command and seconds; together under nine minutes.
PARTS: dict[str, tuple[list[str], float]] = {
    "tests": (["-m", "pytest", "-q", "-m", "gpu", "-n", "0", str(HERE.parent / "tests")], 150),
    "train_step": (
        [
            str(HERE / "train_step.py"),
            "--quick",
            "--no-paths",
            "--batches",
            "64",
            "256",
            "--compiled",
            "biggan",
            "conv_vae",
        ],
        240,
    ),
    "evaluate": ([str(HERE / "evaluate.py"), "--quick"], 90),
    "packing": ([str(HERE / "packing.py"), "--quick"], 50),
}


def run(command: list[str], limit: float) -> dict[str, Any]:
    """Run a part and say how it ended."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=limit, check=False
        )
        code, lines = done.returncode, (done.stdout or done.stderr).splitlines()
    except subprocess.TimeoutExpired as error:
        partial = error.stdout or b""
        code, lines = 124, partial.decode(errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "")
    try:
        result: Any = json.loads(last)
    except ValueError:
        result = lines[-20:]
    return {"code": code, "seconds": round(time.monotonic() - began, 1), "result": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: this machine has no CUDA device")
    machine = {"card": torch.cuda.get_device_name(), "torch": torch.__version__}
    found: dict[str, Any] = {"date": datetime.date.today().isoformat(), "machine": machine}
    for name in chosen.parts:
        command, limit = PARTS[name]
        found[name] = run(command, limit)
        print(f"{name}: code {found[name]['code']}, {found[name]['seconds']} s", flush=True)
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(found, indent=2) + "\n")  # so far, if it is cut off
    sys.exit(any(found[name]["code"] for name in chosen.parts))


if __name__ == "__main__":
    main()
