"""How large the page of a study gets, how long it takes to build, and to open in a browser.

    python benchmarks/report.py [--quick] [--out benchmarks/results/report.json]

Simulated studies of 8, 400 and 5,000 trials with early stopping (8 reports a trial, 20 at 5,000),
sample grids of the best included, from the journal to the file in one process. Opening: from the
first navigation of a fresh browser until the scripts have run and two frames were painted, in
headless Chromium without a GPU, at 1280 x 900. Then, at the learning curves, a state is switched
off and on: until both are painted, halved. `drawn` is every chart of the page at once, which a
reader only sees by scrolling. Opening is left out where there is no Chromium. The last line is one
JSON object.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The journals and the browser are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from raygen.report.page import write_report
from recipes import cpu_name
from report.chromium import CHROMIUM, DRIVER, Browser, chromium
from report.journals import write_demo

SIZES = {8: 8, 400: 8, 5000: 20}  # trials -> reports of each
PAINTED = (
    "const done = arguments[arguments.length - 1];"
    "requestAnimationFrame(() => requestAnimationFrame(() => done(true)))"
)
CHARTS = (
    "[...document.querySelectorAll('[data-figure]')].every((p) => p.querySelector('.main-svg'))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once instead of three times")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    repeats = 1 if chosen.quick else 3
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        pages = {}
        for trials, reports in SIZES.items():
            folder = write_demo(Path(place) / f"study-{trials}", trials, reports)
            pages[trials] = Path(place) / f"{trials}.html"
            seconds = [build(folder, pages[trials]) for _ in range(repeats)]
            result[f"bytes_{trials}"] = pages[trials].stat().st_size
            result[f"build_seconds_{trials}"] = round(statistics.median(seconds), 2)
            print(f"{trials} trials: {result}", flush=True)
        if CHROMIUM and DRIVER:
            for trials, page in pages.items():
                seen = [look(page, Path(place) / f"profile-{trials}-{n}") for n in range(repeats)]
                for name in seen[0]:
                    value = statistics.median(one[name] for one in seen)
                    result[f"{name}_seconds_{trials}"] = round(value, 2)
                print(f"{trials} trials: {seen}", flush=True)
    result["machine"] = {"device": cpu_name(), "cpus": os.cpu_count()}
    result["date"] = datetime.date.today().isoformat()
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def build(folder: Path, page: Path) -> float:
    """Seconds from the journal to the file."""
    started = time.perf_counter()
    write_report(folder, page)
    return time.perf_counter() - started


def look(page: Path, profile: Path) -> dict[str, float]:
    """Seconds to open, to filter at the learning curves, and to draw every chart."""
    with chromium(profile) as browser:
        browser.size(1280, 900)
        started = time.perf_counter()
        browser.call("POST", "/url", {"url": page.resolve().as_uri()})
        browser.wait("document.documentElement.dataset.ready", 60)
        painted(browser)
        opened = time.perf_counter() - started
        browser.run("document.getElementById('plot-curves').scrollIntoView({behavior: 'instant'})")
        browser.wait("document.querySelector('#plot-curves .main-svg')", 60)
        painted(browser)
        started = time.perf_counter()
        for _ in range(2):
            browser.click(".chip[data-state=stopped]")
            painted(browser)
        filtered = (time.perf_counter() - started) / 2
        started = time.perf_counter()
        browser.size(1280, 14000)
        browser.wait(CHARTS, 60)
        painted(browser)
        drawn = time.perf_counter() - started
    return {"open": opened, "filter": filtered, "drawn": drawn}


def painted(browser: Browser) -> None:
    browser.call("POST", "/execute/async", {"script": PAINTED, "args": []})


if __name__ == "__main__":
    main()
