"""A study as files for others: study.json, CSV tables, and one trial as a configuration."""

import json
from typing import Any

from raygen.errors import InputError
from raygen.files import write_text
from raygen.results.study import Results

# What a configuration takes from the facts of its study.
NEEDED = ("family", "data.source", "evaluation", "budget.kimg", "milestones", "resources.cpus")


def write_tables(study: Results) -> None:
    """Write study.json and the CSV files, each replaced in one step."""
    write_text(study.folder.study, json.dumps(study.info, indent=2, sort_keys=True) + "\n")
    again = () if study.replicates.empty else ("replicates",)
    for name in ("trials", "history", "rungs", *again):
        write_text(study.folder.table(name), getattr(study, name).to_csv(index=False))


def train_config(study: Results, trial: int) -> dict[str, Any]:
    """Return one trial of a study as a configuration that `raygen train --config` accepts.

    Raises:
        InputError: the study is of a raygen that did not record all that belongs to it.
    """
    for at in NEEDED:
        value: Any = study.info
        for name in at.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            raise InputError(
                f"{study.folder.journal}:1: the study does not record its {at}, so none of its "
                f"trials can be retrained"
            )
    seeds = study.trials.set_index("trial")["seed"]
    return {
        "family": study.info["family"],
        "data": {k: v for k, v in study.info["data"]["source"].items() if v is not None},
        "objective": study.info["objective"]["metric"],
        "evaluation": {k: v for k, v in study.info["evaluation"].items() if v is not None},
        "compute": study.info.get("compute", {}),
        "seed": int(seeds[trial]),
        "kimg": study.info["budget"]["kimg"],
        "milestones": study.info["milestones"],
        **({"rungs": study.info["rungs"]} if study.grows else {}),
        "threads": max(1, int(study.info["resources"]["cpus"])),
        "trial": study.configs[trial],
    }
