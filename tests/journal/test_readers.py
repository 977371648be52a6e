"""Whoever reads a journal says the same of it: search, tables, status, its story, the terminal."""

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raygen.config import Study
from raygen.journal import read_records
from raygen.journal.records import Close, Open, Reopen
from raygen.progress.board import Board
from raygen.results import load_results, ranked
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.status import status, why_text
from raygen.study_folder import StudyFolder
from search.studies import Memory, event, make_study

FACTS = {
    "family": "gan", "started": 0.0, "command": "raygen tune", "rungs": [1.0, 3.0, 9.0],
    "resources": {"cpus": 1, "gpus": 2, "workers": 1},
    "budget": {"trials": 10, "kimg": 9, "gpu_hours": 1e6, "total_kimg": 1e6},
}  # fmt: skip


def played(study: Study, draw: Random) -> Memory:
    """A search in which anything may happen: cut off and resumed, lost, diverged, not finite."""
    metrics = study.spec.objectives
    opened = {**FACTS, "objectives": [{"metric": m, "direction": "minimize"} for m in metrics]}
    opened["objective"] = opened["objectives"][0]
    journal = Memory()
    journal.append(Open(study=opened))
    controller = controlled(study, journal)
    jobs: dict[int, float] = {}  # running trials, and the kimg that each has reported
    for _ in range(400):
        if controller.done:
            break
        if draw.random() < 0.03:  # the driver is killed, and the same command resumes
            controller, jobs = controlled(study, journal), {}
            journal.append(Reopen(study=opened))
            controller.recover()
        job = controller.suggest() if len(jobs) < 3 else None
        if job is not None:
            controller.started(job.number, "n", kimg=job.reported)
            jobs[job.number] = job.reported
        elif jobs:
            number = draw.choice(list(jobs))
            if draw.random() < 0.08:
                controller.lost(number, "gone")
                del jobs[number]
                for clock in controller.clocks.values():
                    clock.due = 0.0  # no test waits for a retry
                continue
            kimg = min(k for k in study.spec.milestones if k > jobs[number])
            jobs[number] = kimg
            if controller.reported(number, milestone(study, kimg, draw)):
                del jobs[number]
    for number in jobs:
        controller.end(number, "interrupted", "the search ended before it")
    journal.append(Close(state="interrupted", seconds=float(len(journal))))
    return journal


def controlled(study: Study, journal: Memory) -> Controller:
    controller = Controller(study, journal, Sampler(study, "test", None), lambda record: None)
    controller.replay(list(journal))
    return controller


def milestone(study: Study, kimg: float, draw: Random) -> dict[str, Any]:
    values = {
        metric: draw.choice([math.nan, draw.uniform(1, 9), float(draw.randint(1, 9))])
        for metric in study.spec.objectives
    }
    samples = study.spec.evaluation.samples_at(kimg, study.spec.rungs)
    told = event(kimg, None, 9, metrics=values, sd={study.spec.objective: draw.random()})
    told["protocols"] = {metric: {"metric": metric, "samples": samples} for metric in values}
    told["variation"] = draw.choice([None, 0.001, 0.5, 1.0])
    told["diverged"] = "loss is nan" if draw.random() < 0.05 and kimg < 9 else None
    return told


def best_by_hand(lines: list[dict[str, Any]], trial: int, metrics: list[str]) -> Any:
    """Values and kimg of a trial's best milestone, from what stands in its records only."""
    best, protocol = None, None
    for line in lines:
        if line["kind"] != "report" or line["trial"] != trial:
            continue
        if line["protocols"][metrics[0]] != protocol:
            best, protocol = None, line["protocols"][metrics[0]]
        values = [line["metrics"][metric] for metric in metrics]
        if None not in values and (best is None or values[0] < best[0][0]):
            best = (values, line["kimg"])
    return best


@pytest.mark.parametrize("seed", range(20))
def test_every_reader_says_the_same_of_a_journal(tmp_path: Path, seed: int) -> None:
    draw = Random(seed)
    settings = ["budget.trials=10", "finalists={count: 2, seeds: 2}", "evaluation.every_kimg=1.5"]
    settings += ["trade_off=[million_parameters]"] if seed % 3 == 1 else []
    settings += ["evaluation.first_samples=400"] if seed % 2 else []
    study = make_study(tmp_path, *settings)
    journal = played(study, draw)
    folder = StudyFolder(tmp_path / "study")
    folder.root.mkdir()
    folder.journal.write_text("".join(json.dumps(line) + "\n" for line in journal.lines))
    records = read_records(folder.journal, strict=True)
    assert records == list(journal)

    controller = controlled(study, journal)
    tables = load_results(folder.root)
    board = Board(study, now=0.0)
    board.recall(records, 0.0)
    rows = {
        row["trial"]: row
        for table in (tables.trials, tables.replicates)
        for row in table.to_dict("records")
    }
    metrics = list(study.spec.objectives)
    assert rows.keys() == controller.trials.by_number.keys() == board.trials.by_number.keys()
    for trial in controller.trials:
        row, number = rows[trial.number], trial.number
        expected = best_by_hand(journal.lines, number, metrics)
        values, kimg = expected or (None, None)
        for state in (trial, board.trials[number]):
            assert (state.values, state.best_kimg) == (values, kimg)
        assert row["value"] == pytest.approx(values[0] if values else math.nan, nan_ok=True)
        assert row["best_kimg"] == pytest.approx(kimg or math.nan, nan_ok=True)
        assert (row["kimg"], row["seconds"]) == (trial.kimg, trial.seconds)
        if not trial.unfinished:
            assert row["state"] == trial.state == board.trials[number].state
        story = [line for line in why_text(folder.root, number).splitlines() if "kimg:" in line]
        leads = [line for line in story if line.endswith("its best so far")]
        assert bool(leads) >= (values is not None)
        if values:
            assert f" {kimg:g} kimg: " in leads[-1]
        table = tables.values.set_index("trial")
        if trial.of is None:
            assert (number in table.index) == (values is not None)
            if values:
                assert table.loc[number, metrics].tolist() == values
    assert board.ended == sum(not trial.unfinished for trial in controller.searched)

    used, shown = controller.used(), status(folder.root)["budget"]
    assert shown["total_kimg"]["used"] == pytest.approx(used["total_kimg"])
    order, leader = ranked(tables), board.best()
    if leader is not None and not board.means and len(metrics) == 1:
        completed = order[order["state"] == "completed"]
        assert completed.empty or leader == (completed.iloc[0]["trial"], completed.iloc[0]["value"])
