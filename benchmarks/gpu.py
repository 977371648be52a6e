"""uv run python benchmarks/gpu.py --out FILE: what only a GPU can show, in about nine minutes.

The tests of a CUDA device, then the benchmarks whose figures depend on one, each in a process of
its own that is ended at its limit. Needs neither Ray nor a network. The file holds the card, the
date, and of each part its exit code, seconds, lines and result (the JSON of the last line); of one
that failed, its errors. `--parts compiled` takes up to five minutes more. The whole table of
`train_step.py`, with every recipe compiled and every fast path, is clocked for hours.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch

HERE = Path(__file__).parent
# Short turns: there are seven recipes, and each is run in ten ways.
TRAIN_STEP = [str(HERE / "train_step.py"), "--quick", "--seconds", "0.4", "--no-paths"]
COMPILED = ("biggan", "conv_vae")
# Command and seconds; together under nine minutes. What compiling brings takes minutes more:
# it is a part that is asked for by name.
PARTS: dict[str, tuple[list[str], float]] = {
    "tests": (
        ["-m", "pytest", "-m", "gpu", "-n", "0", str(HERE.parent / "tests/train/test_gpu.py")],
        140,
    ),
    "train_step": ([*TRAIN_STEP, "--batches", "64", "256", "--compiled"], 190),
    "evaluate": ([str(HERE / "evaluate.py"), "--quick"], 110),
    "packing": ([str(HERE / "packing.py"), "--quick"], 95),
    "compiled": (
        [*TRAIN_STEP, "--batches", "64", "--recipes", *COMPILED, "--compiled", *COMPILED],
        300,
    ),
}
DEFAULT = [name for name in PARTS if name != "compiled"]


def run(command: list[str], limit: float) -> dict[str, Any]:
    """Run a part and say how it ended; none of its processes is left behind."""
    began = time.monotonic()
    file = partial(tempfile.TemporaryFile, "w+", errors="replace")  # a pipe may be held open
    with file() as out, file() as err:
        process = subprocess.Popen(
            [sys.executable, "-u", *command], stdout=out, stderr=err, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = 124
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines, errors = (read(part) for part in (out, err))
    found: dict[str, Any] = {"code": code, "seconds": round(time.monotonic() - began, 1)}
    try:
        found["result"] = json.loads(lines[-1] if lines else "")
    except ValueError:
        found["result"] = None
    # A part says on its way what its last line leaves out, or is cut off before it.
    return {**found, "lines": lines[-60:]} | ({"errors": errors[-20:]} if code else {})


def read(file: TextIO) -> list[str]:
    """The lines that a part has written, but for empty ones."""
    file.seek(0)
    return [line for line in file.read().splitlines() if line.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu.json")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=DEFAULT)
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
