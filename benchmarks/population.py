"""Population based training against ASHA, with as many training images.

    uv run python benchmarks/population.py --data FOLDER --out benchmarks/results/population.json

Both search live_search.yaml by `raygen tune` with the images of a population of `--population`
trials, each trained to its budget; ASHA with as many trials as fit into that. What each recommends,
for PBT with the schedule of its whole past, is trained again with new seeds, the same for both.
"""

from functools import partial
from pathlib import Path
from typing import Any

from live_search import Bench, compare, make_parser, path_of, run_raygen, the_study


def search(
    name: str, data: str | None, settings: list[str], seed: int, folder: Path
) -> dict[str, Any]:
    """Search by the command with these settings."""
    return run_raygen(f"{name}-{seed}", data, [f"seed={seed}", *settings], folder)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--population", type=int, default=8)
    arguments = parser.parse_args()
    data, size = path_of(arguments), arguments.population
    study = the_study(data)
    total = size * study.spec.budget.kimg
    bench = Bench(study)  # also caches what the searches need
    settings = {
        "asha": ["sampler.name=curve", f"budget.total_kimg={total:g}"],
        "pbt": ["scheduler={name: pbt}", "sampler.name=quasi_random", f"budget.trials={size}"],
    }
    searches = {name: partial(search, name, data, each) for name, each in settings.items()}
    compare(searches, bench, arguments, {"population": size})


if __name__ == "__main__":
    main()
