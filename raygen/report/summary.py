"""One study in a line, as pages over several studies need it: best, spread, cost, comparability."""

import statistics
from typing import NamedTuple

import pandas as pd

from raygen.report.charts.progress import progress_table
from raygen.report.contrast import seed_values
from raygen.report.findings import judge_study
from raygen.report.tables import has_default
from raygen.results import Results


class StudySummary(NamedTuple):
    """Where one study stands; nan and None where unknown."""

    study: Results
    name: str
    best: int | None  # trial
    value: float  # mean over other seeds, else what the trial got
    sd: float
    seeds: int
    seed_values: list[float]
    single: float  # the best value of any completed trial: one seed, the best of many
    default: float
    seconds: float  # of training, all trials and replicates
    kimg: float


class StudyGroup(NamedTuple):
    """Studies whose values mean the same."""

    letter: str
    key: tuple[str, ...]  # metric, protocol, data
    names: list[str]


def summarize(study: Results) -> StudySummary:
    """Read off one study."""
    verdict = judge_study(study)
    spent = study.spent("seconds"), study.spent("kimg")
    default = float("nan")
    if has_default(study):
        default = float(study.trials.set_index("trial").loc[0, "value"])  # pyright: ignore[reportArgumentType]
    name = str(study.info.get("name", study.folder.root.name))
    nan = float("nan")
    if verdict is None:
        return StudySummary(study, name, None, nan, nan, 0, [], nan, default, *spent)
    values = seed_values(study, verdict.trial)
    sd = statistics.stdev(values) if len(values) > 1 else nan
    done = study.trials[study.trials["state"] == "completed"]["value"].dropna().astype(float)
    done = study.trials["value"].dropna().astype(float) if done.empty else done
    single = float(done.min() if study.minimise else done.max())
    best, value, seeds = verdict.trial, verdict.value, verdict.seeds
    return StudySummary(study, name, best, value, sd, seeds, values, single, default, *spent)


def meaning(study: Results) -> tuple[str, ...]:
    """Metric, protocol and data: values of studies that agree in all three compare."""
    protocol = study.info["protocol_of"].get(study.metric)
    many = (study.info.get("protocols_of") or {}).get(study.metric, [])
    data = study.info["data"]
    return (
        study.metric,
        "+".join(sorted(many)) if many else str(protocol or "unknown"),
        str(data.get("fingerprint") or data.get("name") or "unknown"),
    )


def groups(studies: list[Results]) -> list[StudyGroup]:
    """Studies by what their values mean, in the order they come."""
    names: dict[tuple[str, ...], list[str]] = {}
    for study in studies:
        name = str(study.info.get("name", study.folder.root.name))
        names.setdefault(meaning(study), []).append(name)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        StudyGroup(letters[at] if at < len(letters) else f"{at + 1}", key, names)
        for at, (key, names) in enumerate(names.items())
    ]


def warnings(groups: list[StudyGroup]) -> list[str]:
    """Why values of different groups are not comparable; empty with one group."""
    if len(groups) < 2:
        return []
    differ = [
        word
        for place, word in enumerate(("metric", "protocol", "data"))
        if len({group.key[place] for group in groups}) > 1
    ]
    text = " and ".join([", ".join(differ[:-1]), differ[-1]]) if differ[1:] else differ[0]
    letters = ", ".join(group.letter for group in groups)
    return [f"Values of different groups ({letters}) are not comparable: they differ in {text}."]


def best_so_far(study: Results) -> pd.DataFrame:
    """One row per improvement: seconds of training of all trials so far, best, trial."""
    table = progress_table(study)
    measured = table[table["best"].notna()]
    steps = measured[measured["best"] != measured["best"].shift()]
    rows = steps[["compute", "best", "trial"]]
    if len(measured):  # the line goes on to the end
        last = table.iloc[[-1]][["compute", "best", "trial"]].assign(best=measured["best"].iloc[-1])
        rows = pd.concat([rows, last])
    return rows.rename(columns={"compute": "seconds"}).reset_index(drop=True)
