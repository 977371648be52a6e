"""The page over all studies, and the comparison of some."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from raygen.cli import main
from raygen.errors import InputError
from raygen.report.index import write_index
from raygen.report.summary import StudySummary, best_so_far, groups, summarize, warnings
from raygen.report.versus import write_versus
from raygen.results import Results, load_results
from report.journals import end, finals, make_info, paint, replicate, report, suggest, write_study

Make = Callable[..., Results]


def trials(*values: float, metric: str = "fd_classifier") -> list:
    records: list = []
    for trial, value in enumerate(values):
        measured = report(trial, 16, value, metric=metric, seconds=10.0)
        records += [*suggest(trial, {"width": 16 + trial}), measured, end(trial)]
    return records


def folder(root: Path, name: str, records: list, **changes: object) -> Path:
    return write_study(root / name, make_info(name=name, **changes), records)


def test_every_study_has_a_row_and_its_own_page_beside_the_index(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    paint(folder(runs, "one", trials(5, 3)) / "trials" / "0001" / "samples-000016000.png", 1, 0)
    folder(runs, "two", trials(4))
    (runs / "no-study").mkdir()
    html = write_index(runs, tmp_path / "out" / "index.html").read_text(encoding="utf-8")

    assert html.count('scope="row"') == 2
    assert html.count('class="thumb"') == 1
    assert 'href="one.html"' in html
    assert (tmp_path / "out" / "two.html").exists()
    assert "plotly" not in html


def test_a_page_is_built_again_only_after_its_journal_changed(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    journal = folder(runs, "one", trials(5, 3)) / "journal.jsonl"
    write_index(runs, out / "index.html")
    page = out / "one.html"
    page.write_text("mine")
    write_index(runs, out / "index.html")
    assert page.read_text() == "mine"
    later = page.stat().st_mtime + 10
    os.utime(journal, (later, later))
    write_index(runs, out / "index.html")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_same_studies_give_the_same_index(tmp_path: Path) -> None:
    folder(tmp_path / "runs", "one", trials(5, 3))
    first = write_index(tmp_path / "runs", tmp_path / "a" / "index.html").read_bytes()

    assert write_index(tmp_path / "runs", tmp_path / "b" / "index.html").read_bytes() == first


def test_a_damaged_study_is_named_and_the_others_are_there(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder(runs, "good", trials(5))
    (runs / "bad").mkdir()
    (runs / "bad" / "journal.jsonl").write_text("{}\n{}\n")
    html = write_index(runs, tmp_path / "index.html").read_text(encoding="utf-8")

    rows = re.findall(r"<tr data-study.*?</tr>", html, re.S)
    assert len(rows) == 2
    assert "bad/journal.jsonl" in rows[1]
    assert 'data-state="unreadable"' in rows[1]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    runs = tmp_path / "runs"
    a = write_study(runs / "a", make_info(name=evil), trials(5))
    b = write_study(runs / "b", make_info(name=evil + "2"), trials(5))
    for page in (write_index(runs, tmp_path / "i.html"), write_versus([a, b], tmp_path / "v.html")):
        assert "<img src=x" not in page.read_text(encoding="utf-8")


def test_a_folder_without_studies_is_an_input_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            write_index(path, tmp_path / "index.html")


def test_other_metrics_protocols_or_data_are_groups_with_a_warning(make_study: Make) -> None:
    other = {"name": "other", "fingerprint": "5a"}
    fid = {"metric": "fid", "direction": "minimize"}
    same = [make_study(trials(5), folder=f"same{n}") for n in range(2)]
    data = make_study(trials(5), folder="data", data=other)
    metric = make_study(trials(5, metric="fid"), folder="metric", objective=fid)

    assert len(groups(same)) == 1
    assert warnings(groups(same)) == []
    assert [group.letter for group in groups([*same, data, metric])] == ["A", "B", "C"]
    assert "they differ in data" in warnings(groups([same[0], data]))[0]
    assert "they differ in metric and data" in warnings(groups([data, metric]))[0]


def test_a_standing_rests_on_other_seeds_where_there_are_any(make_study: Make) -> None:
    records = [*trials(5, 3), finals(1), *replicate(8, 1, 4.0), *replicate(9, 1, 6.0)]
    one = summarize(make_study(records))

    assert (one.best, one.value, one.seeds) == (1, 5.0, 2)
    assert one.sd == pytest.approx(2**0.5)
    assert one.default == 5.0


def test_the_best_so_far_steps_down_and_goes_on_to_the_end(make_study: Make) -> None:
    table = best_so_far(make_study(trials(5, 7, 3, 9)))

    assert table[["seconds", "best"]].to_numpy().tolist() == [[10, 5], [30, 3], [40, 3]]


def test_a_study_is_not_compared_with_itself_nor_judged_without_a_value(tmp_path: Path) -> None:
    a, b = folder(tmp_path, "a", trials(5, 4)), folder(tmp_path, "b", suggest(0, {"width": 8}))
    html = write_versus([a, b], tmp_path / "v.html").read_text(encoding="utf-8")

    with pytest.raises(InputError, match="given twice"):
        write_versus([a, tmp_path / "." / "a"], tmp_path / "w.html")
    assert "Fewer than two of these studies have a value" in html
    assert "different things" not in html
    assert "one seed" in html


def test_a_comparison_says_who_is_better_and_that_others_do_not_compare(tmp_path: Path) -> None:
    other = [r | {"config": {"width": 8}} if "config" in r else r for r in trials(8, 2)]
    a, b = folder(tmp_path, "a", trials(5, 4)), folder(tmp_path, "b", other)
    page = write_versus([a, b], tmp_path / "v.html").read_text(encoding="utf-8")
    assert "b is ahead: Fréchet distance 2 vs 4 for a" in page
    assert "each the best single seed of its search" in page
    c = folder(tmp_path, "c", trials(1), data={"name": "other", "fingerprint": "5a"})
    page = write_versus([a, c], tmp_path / "w.html").read_text(encoding="utf-8")
    assert "their values are not comparable" in page


def test_a_difference_within_the_scatter_of_seeds_may_be_luck(tmp_path: Path) -> None:
    pages = []
    for name, shift in (("near", 0.5), ("far", 20.0)):
        paths = []
        for study, by in (("a", 0.0), ("b", shift)):
            width = [{**one, "config": {"width": study}} for one in trials(4) if "config" in one]
            again = [replicate(8 + n, 0, 5.0 + n + by) for n in range(3)]
            records = [*width, *[one for one in trials(4) if "config" not in one], finals(0)]
            records += [record for one in again for record in one]
            paths.append(folder(tmp_path / name, study, records))
        pages.append(write_versus(paths, tmp_path / f"{name}.html").read_text(encoding="utf-8"))

    assert "a and b cannot be told apart: Fréchet distance 6 vs 6.5 for b" in pages[0]
    assert "a found the better configuration" in pages[1]
    assert "95% interval of the difference" in pages[1]


def test_studies_that_found_the_same_configuration_are_no_winner_and_loser(tmp_path: Path) -> None:
    once = folder(tmp_path, "once", trials(324.0))
    again = [*trials(324.0), finals(0), *replicate(8, 0, 260.0), *replicate(9, 0, 276.0)]
    page = write_versus([folder(tmp_path, "again", again), once], tmp_path / "v.html")
    text = page.read_text(encoding="utf-8")

    assert "All found the same configuration; Fréchet distance: again 268 ± 11, once 324." in text
    assert "better" not in text.partition("<section")[0].partition("<main")[2]


def test_the_command_takes_one_study_several_or_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")  # where no study is the newest
    runs = tmp_path / "runs"
    a, b = folder(runs, "a", trials(5, 4)), folder(runs, "b", trials(8, 2))
    out = str(tmp_path / "x.html")
    for arguments in ([a], [a, b], ["--index", runs]):
        found = CliRunner().invoke(main, ["report", *map(str, arguments), "-o", out])
        assert (found.exit_code, found.output) == (0, f"{out}\n")
    for arguments in ([], [str(a), "--index", str(runs)]):
        assert CliRunner().invoke(main, ["report", *arguments]).exit_code == 2
    assert load_results(a).metric == "fd_classifier"


def test_a_study_that_breaks_the_index_is_told_of_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    folder(runs, "good", trials(5, 4))
    folder(runs, "bad", trials(8, 2))

    def some(study: Results) -> StudySummary:
        if study.folder.root.name == "bad":
            raise KeyError("value")
        return summarize(study)

    monkeypatch.setattr("raygen.report.index.summarize", some)
    html = write_index(runs).read_text(encoding="utf-8")

    assert "KeyError" in html
    assert "please report this" in html
    assert ">good</a>" in html
