"""uv run python benchmarks/commands.py: seconds to each command's help, its answer to bad input.

Prints a table in Markdown, and as its last line one JSON object. Each call is a process of its own;
help is the median of five calls, in turns.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from raygen.cli import main as cli
from recipes import cpu_name

BAD = {
    "tune": ["--space", "nope.yaml"],
    "train": ["--config", "nope.yaml"],
    "generate": ["pyproject.toml", "--out", "x.bmp"],
    "augment": ["pyproject.toml"],
    "audit": ["pyproject.toml"],
    "export": ["pyproject.toml", "--out", "x.h5"],
    "evaluate": ["nope", "--metrics", "fidd"],
    "report": ["nope"],
    "status": ["nope"],
    "replay": ["nope"],
    "best": ["nope"],
    "ls": ["nope"],
    "init": ["."],
    "validate": ["pyproject.toml"],
    "completion": ["tcsh"],
    "doctor": ["--storage", "ftp://x"],
}
TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in sorted(cli.commands)}
    for _ in range(TURNS):
        for name in seconds:
            began = time.perf_counter()
            call(name, "--help")
            seconds[name].append(time.perf_counter() - began)
    rows: dict[str, Any] = {}
    print("| command | help, s | bad input | exit | answer |\n|---|---|---|---|---|")
    for name, times in seconds.items():
        done = call(name, *BAD[name])
        lines = done.stderr.strip().splitlines()
        told = next((line for line in lines if line.lower().startswith("error")), "")
        rows[name] = {
            "help_seconds": round(statistics.median(times), 3),
            "bad_input": BAD[name],
            "exit_code": done.returncode,
            "answer": told.partition(": ")[2],
            "traceback": "Traceback" in done.stderr,
        }
        row = rows[name]
        print(
            f"| `{name}` | {row['help_seconds']:.2f} | `{' '.join(BAD[name])}` | "
            f"{row['exit_code']} | {row['answer']} |"
        )
    slowest = max(row["help_seconds"] for row in rows.values())
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"device": cpu_name(), "cpus": os.cpu_count()},
        "slowest_help_seconds": slowest,
        "commands": rows,
    }
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def call(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raygen", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
