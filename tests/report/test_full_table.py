"""Finalists measured in full stand in one table, and never two protocols in one column."""

from pathlib import Path
from typing import Any

from raygen.report.charts.finalists import full_measurements_html
from raygen.results import load_results
from report.journals import end, make_info, report, suggest, write_study


def full(trial: int, value: float, protocol: str) -> dict[str, Any]:
    found = {"value": value, "sd": 0.25, "spread": None, "each": [value, value]}
    return {
        "kind": "final", "trial": trial, "values": {"fid": found, "elbo": {**found, "sd": None}},
        "protocols": {"fid": protocol, "elbo": "e1b0"},
    }  # fmt: skip


def test_values_stand_under_their_metric_and_protocol_with_their_scatter(tmp_path: Path) -> None:
    trials = [*suggest(0, {}), report(0, 16, 3.5), end(0, "completed"), *suggest(1, {})]
    protocol = {"kind": "protocol", "hash": "aa11", "record": {"samples": 50_000}}
    records = [*trials, protocol, full(0, 12.5, "aa11"), full(1, 13.5, "bb22")]

    text = full_measurements_html(load_results(write_study(tmp_path, make_info(), records)))

    assert text.count("<th ") == 4  # trial, fid twice, elbo once
    assert "50,000 samples, 2 draws, <code>aa11</code>" in text
    first, second = text.partition("<tbody>")[2].split("</tr>")[:2]
    assert "<td>12.5 ± 0.25</td><td>12.5</td><td></td>" in first
    assert "<td></td><td>13.5</td><td>13.5 ± 0.25</td>" in second


def test_without_a_measurement_there_is_no_table(tmp_path: Path) -> None:
    assert (
        full_measurements_html(load_results(write_study(tmp_path, make_info(), suggest(0, {}))))
        == ""
    )
