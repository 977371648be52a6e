"""The benchmark of searches: its recorded table, its methods and its page."""

import math
from pathlib import Path

import numpy as np
import pytest

import search_quality
from other_searchers import PlainRay
from raygen.replay import Raygen, simulate, variant
from search_page import write_page
from search_tables import Curves, RecordedTable, read_curves


@pytest.fixture(scope="module")
def vaes() -> RecordedTable:
    """A sixth of the recorded VAEs: forests of all of them take seconds to grow."""
    curves = read_curves("vae")
    kept = curves.recording.curves[::6]
    names = [dict(curve.params) for curve in kept]
    runs = tuple(run for run in curves.runs if dict(run.params) in names)
    return RecordedTable(Curves(curves.recording._replace(curves=kept), runs))


@pytest.mark.parametrize(("family", "configurations"), [("gan", 1000), ("vae", 300)])
def test_the_recorded_table_has_the_curves_that_it_promises(
    family: str, configurations: int
) -> None:
    curves = read_curves(family)
    repeated = len(curves.runs) - len(curves.recording.curves)

    assert len(curves.recording.curves) == configurations
    assert repeated >= 100
    assert all(len(run.values) == len(curves.recording.milestones) for run in curves.runs)
    complete = [run.values for run in curves.runs if not run.diverged]
    assert np.isfinite(complete).all()
    assert len(complete) > 0.85 * len(curves.runs)


def test_a_forest_foretells_what_was_recorded_better_than_the_median_does(
    vaes: RecordedTable,
) -> None:
    last = np.array([curve.values[-1] for curve in vaes.curves if not curve.diverged])
    foretold = np.array(
        [vaes.forecast(c.params, vaes.milestones).steps[-1].value
         for c in vaes.curves if not c.diverged]
    )  # fmt: skip

    assert np.abs(foretold - last).mean() < 0.5 * np.abs(np.median(last) - last).mean()


def test_every_method_searches_the_table_and_luck_is_the_same_for_all(vaes: RecordedTable) -> None:
    study, budget = vaes.study, vaes.study.spec.budget.kimg
    methods = [
        Raygen(variant(study, 0), vaes.milestones),
        PlainRay(study, "tpe", False, budget / 9, vaes.milestones, 0),
    ]
    for method in methods:
        run = simulate(method, vaes, 4 * budget, 0)
        assert run.spent[-1] >= 4 * budget * (1 - 1e-9)
        assert math.isfinite(run.at(math.inf))
    params = dict(vaes.curves[0].params)
    first, again = (
        vaes.forecast(params, vaes.milestones, np.random.default_rng(5)) for _ in range(2)
    )
    assert first == again


def test_leaving_out_a_part_puts_it_back_afterwards() -> None:
    for part, (place, name, replacement) in search_quality.WITHOUT.items():
        kept = getattr(place, name)
        with search_quality.without(part):
            assert getattr(place, name) is replacement
        assert getattr(place, name) is kept


def test_the_page_shows_every_method_and_counts_what_is_clear(tmp_path: Path) -> None:
    def method(mean: float, low: float, high: float) -> dict[str, object]:
        return {
            "median_at": {"0.5": 12.0, "1": 10.0}, "quartiles": [9.0, 11.0],
            "raygen_against": {"mean": mean, "low": low, "high": high}, "to_target": 20.0,
            "diverged_share": 0.1, "trials": 90.0, "completed": 20.0, "cpu_seconds": 1.5,
            "repeats": 5,
        }  # fmt: skip

    methods = {
        "raygen": method(0, 0, 0), "ray": method(-0.1, -0.2, -0.05), "random": method(0, -0.1, 0.1)
    }  # fmt: skip
    facts = {"date": "2026-11-27", "machine": "2 cores", "versions": {"ray": "2.60"}, "seconds": 9}
    tables = {"gan": {"target": 10.0, "methods": methods}}
    write_page({"experiments": {"headline": tables}, "facts": facts}, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()

    assert "better in 1 comparisons, worse in 0, and in 1" in page
    assert "-10.0% [-20.0, -5.0]" in page
    assert "headline: gan" in page
