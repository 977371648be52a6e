"""The pages in a real browser, offline."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from raygen.report import tables, trials_table
from raygen.report.index import write_index
from raygen.report.page import write_report
from raygen.report.versus import write_versus
from raygen.results import Results, best_trial, load_results, ranked
from raygen.study_folder import StudyFolder
from report.chromium import CHROMIUM, DRIVER, Browser, chromium
from report.journals import (
    close,
    end,
    finals,
    make_info,
    paint,
    replicate,
    report,
    searched,
    suggest,
    write_demo,
    write_study,
    written_by_a_search,
)
from search_page import write_page

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium or no chromedriver on PATH"
)
AXE = Path(__file__).parents[2] / "build" / "axe" / "package" / "axe.min.js"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.fixture(scope="module")
def page(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(demo, tmp_path_factory.mktemp("page") / "demo.html")


# Every chart has drawn.
CHARTS = (
    "[...document.querySelectorAll('[data-figure]')].every((p) => p.querySelector('.main-svg'))"
)


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The demo report, with every chart in view and so drawn."""
    browser.size(1280, 16000)
    browser.open(page)
    browser.wait(CHARTS)
    return browser


@pytest.fixture
def quick(browser: Browser, page: Path) -> Browser:
    """The demo report as it opens, without the charts farther down."""
    browser.size(1280, 900)
    browser.open(page)
    browser.wait("document.documentElement.dataset.ready")
    return browser


def drawn_points(browser: Browser, figure: str, role: str) -> list[Any]:
    return browser.run(
        "return document.getElementById('plot-' + arguments[0]).data"
        ".filter((t) => t.meta.role === arguments[1]).flatMap((t) => t.x)",
        figure,
        role,
    )


LINKED = (
    "finalists", "progress", "curves", "budget", "parallel", "slices", "contours", "costs",
    "timeline",
)  # fmt: skip


def shown_rows(browser: Browser) -> list[int]:
    return browser.run(
        "return [...document.querySelectorAll('#trials-table tr[data-trial]')]"
        ".map((r) => Number(r.dataset.trial))"
    )


def linked_trials(browser: Browser, figure: str, faded: bool = False) -> set[int]:
    """Trials of the points in a chart that are in full colour, or pale."""
    found = browser.run(
        "return document.getElementById('plot-' + arguments[0]).data"
        ".filter((t) => arguments[1] ? t.meta.role === 'faded' : t.meta.linked)"
        ".flatMap((t) => t.customdata)",
        figure,
        faded,
    )
    return {trial for trial in found if trial is not None}


def test_the_page_opens_without_an_error_a_request_or_a_policy_violation(opened: Browser) -> None:
    assert opened.complaints() == []
    assert opened.requests() == []


def test_the_page_of_the_search_benchmark_draws_its_chart(browser: Browser, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "results" / "search_quality.json"
    figures = json.loads(file.read_text(encoding="utf-8"))
    write_page(figures, tmp_path / "search.html")

    browser.open(tmp_path / "search.html")

    browser.wait(CHARTS)
    assert browser.complaints() == []
    drawn = drawn_points(browser, "versus", "best")
    compared = [t for e in ("headline", "public") for t in figures["experiments"][e].values()]
    assert len(drawn) == sum(len(table["methods"]) - 1 for table in compared)


def test_the_browser_blocks_what_the_policy_forbids(quick: Browser) -> None:
    quick.run("const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)")

    assert quick.wait("window.__errors.find((e) => e.startsWith('CSP'))")


def test_a_click_on_a_row_selects_its_trial_in_every_chart(opened: Browser, demo: Path) -> None:
    best = best_trial(load_results(demo))

    opened.click(f"#trial-{best} td:nth-child(3)")

    assert opened.run("return location.hash") == f"#trial-{best}"
    assert opened.run("return document.querySelector('tr.selected').id") == f"trial-{best}"
    assert opened.run("return document.querySelector('#selection b').textContent").startswith(
        f"trial {best} ·"
    )
    for figure in LINKED:
        assert drawn_points(opened, figure, "selected"), figure


def test_a_second_click_lets_go_of_the_trial(quick: Browser) -> None:
    quick.click("#trial-3 td")
    quick.click("#trial-3 td")

    assert quick.run("return location.hash") == ""
    assert quick.run("return document.getElementById('selection').hidden")


def test_an_address_with_a_trial_opens_with_it_selected(browser: Browser, page: Path) -> None:
    browser.open(page, "#trial-5")

    assert browser.wait("document.querySelector('tr.selected')?.id") == "trial-5"


def test_a_view_is_in_its_address_and_opens_from_it(
    browser: Browser, page: Path, demo: Path
) -> None:
    """Text, share, states, a brush, a scale and a selection: sent to somebody else."""
    browser.open(page)
    browser.run(
        "filter.value = 'hinge'; filter.dispatchEvent(new Event('input'));"
        "const share = document.getElementById('best-share');"
        "share.value = 80; share.dispatchEvent(new Event('input'));"
        "document.querySelector('.chip[data-state=stopped]').click();"
        "const [low, high] = document.querySelectorAll('#sliders fieldset input');"
        "low.value = 0.2; low.dispatchEvent(new Event('input'));"
        "document.getElementById('log-curves').click();"
        "document.querySelector('#trials-table tbody tr').click()"
    )
    before = shown_rows(browser)
    address = browser.run("return location.hash")
    pressed = "return document.getElementById('log-curves').getAttribute('aria-pressed')"
    scale = browser.run(pressed)
    assert 0 < len(before) < len(load_results(demo).trials)
    assert address.startswith("#trial-")

    browser.open(page, address)
    browser.wait("document.querySelector('tr.selected')")

    assert shown_rows(browser) == before
    assert browser.run("return location.hash") == address
    assert browser.run(pressed) == scale
    assert (
        browser.run("return document.querySelector('tr.selected').id") == address[1:].split("&")[0]
    )
    assert browser.run("return document.getElementById('bar').open")


def test_axes_are_moved_hidden_and_rescaled_and_stay_so_in_the_address(
    opened: Browser, page: Path
) -> None:
    axes = (
        "JSON.parse(document.getElementById('data').textContent).figures.parallel.layout.meta.axes"
    )
    names = opened.run(f"return {axes}.map((a) => a.name)")
    numeric = opened.run(f"return {axes}.findIndex((a) => a.kind !== 'choice' && a.low > 0)")
    lines = (
        "return document.getElementById('plot-parallel').data.filter((t) => t.meta.linked)"
        ".flatMap((t) => t.x.map((x, k) => [t.customdata[k], x, t.y[k]]))"
        ".filter((p) => p[0] !== null)"
    )
    place = {(trial, axis): y for trial, axis, y in opened.run(lines)}
    act = (
        "document.querySelectorAll('#sliders fieldset')[{}]"
        ".querySelector('[data-act=\"{}\"]').click();"
    )

    opened.run(act.format(0, "→") + act.format(2, "hide"))
    moved = {(trial, axis): y for trial, axis, y in opened.run(lines)}

    order = [1, 0, *range(3, len(names))]
    assert moved == {
        (trial, order.index(axis)): y for (trial, axis), y in place.items() if axis in order
    }
    address = opened.run("return location.hash")
    opened.run(act.format(numeric, "log"))
    rescaled = {(trial, axis): y for trial, axis, y in opened.run(lines)}
    changed = {key[1] for key in moved if rescaled[key] != moved[key]}
    assert changed == {order.index(numeric)}

    opened.open(page, address)
    opened.wait(CHARTS)
    assert {(trial, axis): y for trial, axis, y in opened.run(lines)} == moved


def test_a_box_in_the_address_keeps_its_trials(browser: Browser, page: Path) -> None:
    box = "box=" + quote("progress x;y;0.1:0.4:0.2:0.9;0-3,7")
    browser.open(page, f"#{box}")
    browser.wait("document.documentElement.dataset.ready")

    assert sorted(shown_rows(browser)) == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("hash", ["#trial-999&best=nan&axis=x:1", "#box=a;b;c&set=x:1&hide=no"])
def test_an_address_of_another_page_changes_nothing(
    browser: Browser, page: Path, demo: Path, hash: str
) -> None:
    browser.open(page, hash)
    browser.wait("document.documentElement.dataset.ready")

    assert len(shown_rows(browser)) == len(load_results(demo).trials)
    assert browser.run("return document.querySelector('tr.selected')") is None


def test_the_slider_shows_the_steps_of_a_trial_beside_what_is_pinned(
    browser: Browser, demo: Path, tmp_path: Path
) -> None:
    study = shutil.copytree(demo, tmp_path / "steps")
    trial = StudyFolder(study).trial(best_trial(load_results(study)))
    for kimg in (2.0, 6.0):
        paint(trial.samples(kimg), 5, int(kimg))
    opened = browser
    opened.open(write_report(study, tmp_path / "steps.html"))
    shots = opened.run(
        "const trial = document.querySelector('#steps select').value;"
        'return [...document.querySelectorAll(`.strip[data-trial="${trial}"] .step img`)]'
        ".map((i) => [i.src, i.alt])"
    )
    shown = "return [...document.querySelectorAll('#steps img')].map((i) => [i.src, i.alt])"
    assert len(shots) == 3
    assert opened.run(shown)[1][1] == "real training images"

    for at in (0, len(shots) - 1):
        opened.run(
            "const s = document.querySelector('#steps input');"
            f"s.value = {at}; s.dispatchEvent(new Event('input'))"
        )
        assert opened.run(shown)[0] == shots[at]

    opened.run("document.getElementById('pin').click()")
    opened.run(
        "const s = document.querySelector('#steps input');"
        "s.value = 0; s.dispatchEvent(new Event('input'))"
    )
    assert opened.run(shown) == [shots[0], shots[-1]]


def test_an_enlarged_picture_has_a_caption_real_images_and_goes_on_by_keys(
    quick: Browser,
) -> None:
    shown = "return [...document.querySelectorAll('#lightbox img')].map((i) => i.alt)"
    quick.run("document.querySelector('.strip .step .grid').click()")
    first = quick.run(shown)
    caption = quick.run("return document.querySelector('#lightbox figcaption').textContent")
    quick.run(
        "document.getElementById('lightbox').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    )
    second = quick.run(shown)
    quick.run("document.querySelector('#lightbox button').click()")

    assert first[0] == caption
    assert first[1] == "real images"
    assert second[0] != first[0]
    assert not quick.run("return document.getElementById('lightbox').open")


def test_samples_stand_in_the_table_on_hover_and_in_the_selection(
    opened: Browser, demo: Path
) -> None:
    trial = best_trial(load_results(demo))
    opened.run(f"document.querySelector('tr[data-trial=\"{trial}\"]').click()")
    strip = opened.run("return JSON.parse(document.getElementById('data').textContent).strips")

    places = ("#selection img", f"tr[data-trial='{trial}'] img")
    sources = [opened.run(f'return document.querySelector("{place}").src') for place in places]
    assert sources == [strip[str(trial)]] * 2


def test_the_next_worse_trial_is_a_key_away(opened: Browser, demo: Path) -> None:
    order = [int(trial) for trial in ranked(load_results(demo))["trial"]]
    opened.run(f"document.querySelector('tr[data-trial=\"{order[0]}\"]').click()")
    chart = "document.getElementById('plot-progress').closest('.scroll')"
    opened.run(
        f"{chart}.focus();{chart}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowDown'}}))"
    )
    selected = "return document.querySelector('tr.selected').dataset.trial"
    assert opened.run(selected) == str(order[1])

    opened.run("document.querySelector('#selection [data-step=\"-1\"]').click()")
    assert opened.run(selected) == str(order[0])


def test_the_switch_chooses_another_scheme_than_the_system(quick: Browser) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = quick.run(colour)
    quick.run("document.getElementById('scheme').click()")
    dark = quick.run(colour)
    quick.run("document.getElementById('scheme').click()")

    assert dark != light == quick.run(colour)


def test_a_page_of_a_running_study_loads_itself_again_and_keeps_its_view(
    browser: Browser, tmp_path: Path
) -> None:
    info = make_info()
    first = [*suggest(0, {"a": 1}), report(0, 16, 3.0), end(0), *suggest(1, {"a": 2})]
    folder = write_study(tmp_path / "running", info, first)
    with written_by_a_search(folder):
        page = write_report(folder, tmp_path / "live.html", refresh=1.0)
    browser.size(1280, 700)
    browser.open(page)
    browser.run(
        "document.getElementById('bar').open = true;"
        "document.querySelector('.chip[data-state=running]').click();"
        "scrollTo({top: 900, behavior: 'instant'}); window.before = true"
    )
    write_study(folder, info, [*first, report(1, 16, 1.0), end(1)])
    with written_by_a_search(folder):
        write_report(folder, page, refresh=1.0)

    browser.wait("!window.before && document.documentElement.dataset.ready")
    browser.wait("document.querySelectorAll('#trials-table tbody tr').length === 2")
    assert browser.run("return location.hash") == "#hide=running"
    assert browser.run("return document.getElementById('bar').open")
    assert abs(browser.run("return scrollY") - 900) < 5

    write_study(folder, info, [*first, report(1, 16, 1.0), end(1), close()])
    write_report(folder, page, refresh=1.0)
    browser.wait("document.querySelector('.badge').textContent.includes('finished')")
    browser.run("window.before = true")
    time.sleep(1.5)
    assert browser.run("return window.before")  # it has ended: nothing loads it again


def test_brushing_an_axis_keeps_the_trials_that_pass_there(opened: Browser, demo: Path) -> None:
    total = len(load_results(demo).trials)
    assert opened.run("return brushed.textContent") == f"{total} of {total} selected"

    box = opened.run(
        "const p = document.getElementById('plot-parallel'); const s = p._fullLayout._size;"
        "const b = p.getBoundingClientRect(); const r = p.layout.xaxis.range;"
        "const x = b.left + s.l + s.w * (0 - r[0]) / (r[1] - r[0]);"
        "return {x, top: b.top + s.t, height: s.h}"
    )
    middle = box["top"] + box["height"] / 2
    opened.drag((box["x"], box["top"] + 4), (box["x"], middle))
    opened.wait("brushed.textContent.split(' ')[0] !== '30'")
    kept = int(opened.run("return brushed.textContent").split()[0])

    assert 0 < kept < total
    assert len(shown_rows(opened)) == kept
    assert linked_trials(opened, "curves") <= set(shown_rows(opened))
    opened.click("#clear-brushes")
    assert opened.run("return brushed.textContent") == f"{total} of {total} selected"


def test_a_slider_brushes_as_well_as_the_mouse(quick: Browser) -> None:
    quick.run(
        "const to = document.querySelectorAll('#sliders fieldset')[0].querySelectorAll('input')[1];"
        "to.value = 0.5; to.dispatchEvent(new Event('input'))"
    )

    assert int(quick.run("return brushed.textContent").split()[0]) < 30
    assert quick.run("return document.querySelector('#sliders output').textContent") != "all"


def test_the_filter_leaves_the_rows_that_contain_the_text(quick: Browser, demo: Path) -> None:
    trials = load_results(demo).trials
    expected = trials.index[trials["loss.name"] == "wasserstein"]

    quick.run("filter.value = 'Wasserstein'; filter.dispatchEvent(new Event('input'))")

    assert sorted(shown_rows(quick)) == list(trials.loc[expected, "trial"])


def test_a_state_chip_hides_its_trials(quick: Browser, demo: Path) -> None:
    completed = (load_results(demo).trials["state"] == "completed").sum()

    quick.click(".chip[data-state=completed]")

    assert quick.run("return shown.textContent") == f"{30 - completed} of 30 trials shown"


def test_sorting_by_value_puts_the_absent_last_both_ways(quick: Browser, demo: Path) -> None:
    values = load_results(demo).trials["value"]
    cells = (
        "return [...document.querySelectorAll('#trials-table tr[data-trial]')]"
        ".map((r) => Number(r.dataset.trial))"
    )
    for direction, extreme in (("ascending", values.idxmin()), ("descending", values.idxmax())):
        quick.click(".sort[data-key=value]")
        order = quick.run(cells)
        assert order[0] == extreme
        assert quick.run("return document.querySelector('[aria-sort=%s]').title" % direction)  # noqa: UP031
        assert values.isna()[order[-1]] == values.isna().any()


def test_the_log_button_switches_the_axis(opened: Browser) -> None:
    kind = "return document.getElementById('plot-curves')._fullLayout.yaxis.type"
    before = opened.run(kind)

    opened.click("#log-curves")

    assert {before, opened.run(kind)} == {"log", "linear"}


def test_progress_can_be_drawn_against_compute(opened: Browser, demo: Path) -> None:
    minutes = load_results(demo).trials["seconds"].sum() / 60

    opened.click("#compute-progress")

    assert max(drawn_points(opened, "progress", "line")) == pytest.approx(minutes, rel=1e-3)


def test_the_dark_scheme_repaints_the_charts(opened: Browser) -> None:
    paper = "return document.getElementById('plot-curves')._fullLayout.paper_bgcolor"
    opened.scheme("light")
    light = opened.run(paper)
    opened.scheme("dark")

    assert opened.wait(paper.removeprefix("return ") + f" !== '{light}'")
    opened.scheme("light")


def downloaded(browser: Browser, kind: str) -> str:
    """The text that a download button would save."""
    script = (
        "const done = arguments[arguments.length - 1]; const make = URL.createObjectURL;"
        "URL.createObjectURL = (b) => { b.text().then(done); return make(b); };"
        "document.querySelector(`[data-download=${arguments[0]}]`).click()"
    )
    return browser.call("POST", "/execute/async", {"script": script, "args": [kind]})


def test_the_csv_download_holds_every_trial(quick: Browser, demo: Path) -> None:
    text = downloaded(quick, "trials")
    trials = load_results(demo).trials

    assert text.splitlines()[0].split(",") == list(trials.columns)
    assert len(text.splitlines()) == len(trials) + 1


def test_trainings_with_new_seeds_are_filtered_selected_and_downloaded_with_their_trial(
    quick: Browser, demo: Path
) -> None:
    study = load_results(demo)
    repeated = study.replicates["of"].tolist()
    seen = "return [...document.querySelectorAll('tr[data-of]')].map((r) => Number(r.dataset.of))"
    assert sorted(quick.run(seen)) == sorted(repeated)

    quick.click("tr[data-of] td")
    of = quick.run(seen)[0]
    selected = quick.run("return document.querySelectorAll('tr.selected').length")
    assert selected == 1 + repeated.count(of)
    assert f"trial {of} ·" in quick.run("return document.querySelector('#selection').textContent")
    assert downloaded(quick, "replicates").splitlines()[0].split(",") == list(study.replicates)
    assert len(json.loads(downloaded(quick, "json"))["replicates"]) == len(repeated)

    quick.click(".chip[data-state=completed]")  # what is no finalist, and has no new seeds, is left
    assert quick.run(seen) == []
    assert json.loads(downloaded(quick, "json"))["replicates"] == []


def test_what_is_shown_can_be_downloaded_as_csv_and_json(quick: Browser, demo: Path) -> None:
    study = load_results(demo)
    quick.click(".chip[data-state=stopped]")
    kept = study.trials.loc[study.trials["state"] != "stopped", "trial"].tolist()

    rows = downloaded(quick, "csv").splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == kept
    found = json.loads(downloaded(quick, "json"))
    assert [trial["trial"] for trial in found["trials"]] == kept
    assert {report["trial"] for report in found["history"]} <= set(kept)
    assert (found["shown"], found["of"]) == (len(kept), len(study.trials))


def test_a_box_in_one_chart_filters_every_chart_table_and_picture(
    opened: Browser, demo: Path
) -> None:
    study = load_results(demo)
    for axis in ("linear", "log"):
        if (
            opened.run("return document.getElementById('plot-progress')._fullLayout.yaxis.type")
            != axis
        ):
            opened.click("#log-progress")
        middle = 15.5
        expected = set(study.trials.loc[(study.trials["trial"] > middle)
                                        & study.trials["value"].notna(), "trial"])  # fmt: skip
        box = opened.run(
            "const p = document.getElementById('plot-progress'); const s = p._fullLayout._size;"
            "const b = p.getBoundingClientRect(); const a = p._fullLayout.xaxis;"
            "return {x: b.left + s.l + a.d2p(arguments[0]), right: b.left + s.l + s.w - 2,"
            "top: b.top + s.t + 2, bottom: b.top + s.t + s.h - 2}", middle,
        )  # fmt: skip
        opened.run(
            "document.getElementById('plot-progress')"
            ".once('plotly_selected', (e) => { window.__selected = e; })"
        )
        opened.drag((box["x"], box["top"]), (box["right"], box["bottom"]))
        opened.wait("!document.getElementById('clear-all').hidden")

        assert set(shown_rows(opened)) == expected
        for figure in ("curves", "slices", "costs", "timeline"):
            assert linked_trials(opened, figure) <= expected, figure
            assert linked_trials(opened, figure, faded=True), figure
        faded = opened.run(
            "return [...document.querySelectorAll('.strip.filtered')]"
            ".map((s) => Number(s.dataset.trial))"
        )
        strips = opened.run(
            "return [...document.querySelectorAll('.strip')].map((s) => Number(s.dataset.trial))"
        )
        assert faded == [trial for trial in strips if trial not in expected]
        opened.click("#clear-all")
        assert len(shown_rows(opened)) == len(study.trials)
        # Plotly repeats a selection when it draws again; it was cleared.
        opened.run(
            "document.getElementById('plot-progress').emit('plotly_selected', window.__selected)"
        )
        assert len(shown_rows(opened)) == len(study.trials)


def test_the_best_share_keeps_as_many_of_the_best(quick: Browser, demo: Path) -> None:
    quick.run(
        "const s = document.getElementById('best-share'); s.value = 20;"
        "s.dispatchEvent(new Event('input'))"
    )
    values = load_results(demo).trials["value"].dropna()

    assert len(shown_rows(quick)) == round(0.2 * len(values))
    assert best_trial(load_results(demo)) in shown_rows(quick)


def test_a_hover_names_trial_metric_and_settings(opened: Browser, demo: Path) -> None:
    trials = load_results(demo).trials.set_index("trial")
    opened.size(1280, 900)  # farther down, no mouse is felt
    opened.run(
        "document.getElementById('plot-progress').scrollIntoView("
        "{block: 'center', behavior: 'instant'})"
    )
    at = opened.run(
        "const p = document.getElementById('plot-progress'); const s = p._fullLayout._size;"
        "const b = p.getBoundingClientRect(); const t = p.data.find((t) => t.meta.linked);"
        "return {x: b.left + s.l + p._fullLayout.xaxis.d2p(t.x[0]),"
        "y: b.top + s.t + p._fullLayout.yaxis.d2p(t.y[0]), trial: t.customdata[0]}"
    )
    opened.hover(at["x"], at["y"])
    text = opened.wait("!document.getElementById('hover').hidden && hover.textContent")

    assert text.startswith(f"trial {at['trial']} ·")
    assert "Fréchet distance" in text
    assert f"width = {trials['model.width'][at['trial']]}" in text


def test_positions_on_the_axes_are_those_that_were_drawn(opened: Browser) -> None:
    before = linked_trials(opened, "parallel")
    # Every end of every slider just inside of what the figure draws keeps all trials.
    opened.run(
        "for (const f of document.querySelectorAll('#sliders fieldset')) {"
        "const [a, b] = f.querySelectorAll('input'); a.value = -0.15; b.value = 0.99;"
        "a.dispatchEvent(new Event('input')); }"
    )
    drawn = opened.run(
        "return document.getElementById('plot-parallel').data"
        ".filter((t) => t.meta.linked || t.meta.role === 'faded')"
        ".flatMap((t) => t.customdata.map((trial, at) => [trial, t.y[at]]))"
    )
    above = {trial for trial, y in drawn if trial is not None and y > 0.99}

    assert linked_trials(opened, "parallel") == before - above


@pytest.mark.slow
def test_a_study_of_very_many_trials_says_what_it_draws_and_finds_the_others(
    browser: Browser, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_report(demo, tmp_path / "whole.html")
    monkeypatch.setattr(tables, "DRAWN", 10)
    monkeypatch.setattr(trials_table, "MOST", 10)
    path = write_demo(tmp_path / "many", trials=30, pictures=False)
    part = write_report(path, tmp_path / "many.html")
    browser.size(1280, 16000)
    browser.open(part)
    browser.wait(CHARTS)
    last = load_results(path).trials["trial"].max()

    assert len(linked_trials(browser, "progress")) <= 10 < len(shown_rows(browser)) + 1
    browser.run("location.hash = `#trial-${arguments[0]}`", int(last))
    browser.wait("document.querySelector('tr.selected')")
    text = browser.run("return document.querySelector('tr.selected').textContent")
    browser.open(whole)
    browser.wait("document.documentElement.dataset.ready")
    assert browser.run("return document.getElementById(arguments[0]).textContent",
                       f"trial-{last}") == text  # fmt: skip
    assert browser.complaints() == []


def serious(browser: Browser) -> list[str]:
    """What axe calls serious or critical, with the first element of each."""
    if not AXE.exists():
        pytest.skip(f"no {AXE}: .ci/run fetches it where npm is")
    browser.run(AXE.read_text(encoding="utf-8") + "; window.axe = axe")
    found = browser.call(
        "POST", "/execute/async",
        {"script": "const done = arguments[0];"
                   "axe.run().then((r) => done(r.violations), (e) => done(String(e)))", "args": []},
    )  # fmt: skip
    assert isinstance(found, list), found
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(browser: Browser, page: Path, scheme: str, width: int) -> None:
    browser.scheme(scheme)
    # A narrow page is longer, and a chart out of view is not drawn.
    browser.size(width, 13000 if width > 1000 else 40000)
    browser.open(page)
    browser.wait(CHARTS)
    browser.click("#trial-3 td")
    found = serious(browser)
    browser.scheme("light")

    assert found == []


@pytest.fixture(scope="module")
def two(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two studies that compare, and one that does not."""
    root = tmp_path_factory.mktemp("runs")
    for number, trials in enumerate((12, 30)):
        write_demo(root / f"gan-{number}", trials=trials, pictures=number == 0)
    other = {"name": "other", "fingerprint": "5a", "train": 10, "test": 10, "classes": []}
    write_demo(root / "other", trials=6, pictures=False, data=other, name="other-data")
    return root


def test_the_index_sorts_filters_and_asks_for_nothing(
    browser: Browser, two: Path, tmp_path: Path
) -> None:
    browser.size(1280, 900)
    browser.open(write_index(two, tmp_path / "index.html"))
    browser.click(".sort[data-key=trials]")
    counts = (
        "return [...document.querySelectorAll('.studies tbody tr')].map((r) => r.dataset.trials)"
    )

    assert browser.run(counts) == ["6", "12", "30"]
    browser.run("filter.value = 'other-data'; filter.dispatchEvent(new Event('input'))")
    assert browser.run("return shown.textContent") == "1 of 3 shown"
    assert serious(browser) == []
    assert browser.complaints() == []
    assert browser.requests() == []


def test_the_comparison_draws_every_study_and_asks_for_nothing(
    browser: Browser, two: Path, tmp_path: Path
) -> None:
    browser.size(1280, 2000)
    browser.open(write_versus([two / "gan-0", two / "gan-1"], tmp_path / "versus.html"))
    browser.wait("document.querySelector('#plot-versus .main-svg')")

    assert len(browser.run("return document.getElementById('plot-versus').data")) == 2
    assert serious(browser) == []
    assert browser.complaints() == []
    assert browser.requests() == []


# The smallest phone, both sides of each change of the layout, a laptop, and a wide screen.
WIDTHS = (360, 720, 721, 1099, 1100, 1280, 1440, 2560)


def widths_with_a_bar(browser: Browser) -> list[int]:
    """The widths of a window at which the open page has to be scrolled sideways."""
    wide = []
    for width in WIDTHS:
        browser.size(width, 1000)
        if browser.run("return document.documentElement.scrollWidth > innerWidth"):
            wide.append(width)
    return wide


def test_no_page_has_to_be_scrolled_sideways(
    browser: Browser, page: Path, two: Path, tmp_path: Path
) -> None:
    browser.size(1280, 16000)
    browser.open(page)
    browser.wait(CHARTS)
    assert widths_with_a_bar(browser) == []

    browser.open(write_versus([two / "gan-0", two / "gan-1"], tmp_path / "versus.html"))
    browser.wait("document.querySelector('#plot-versus .main-svg')")
    assert widths_with_a_bar(browser) == []

    browser.open(write_index(two, tmp_path / "index.html"))
    assert widths_with_a_bar(browser) == []


@contextmanager
def printed(browser: Browser, width: int) -> Iterator[None]:
    """The open page as it goes onto paper of a width in pixels."""
    browser.size(width, 1000)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.cdp("Emulation.setEmulatedMedia", media="print")
    try:
        yield
    finally:
        browser.cdp("Emulation.setEmulatedMedia", media="")
        browser.run("dispatchEvent(new Event('afterprint'))")


# What is wider than the paper makes a browser print the whole page smaller.
@pytest.mark.parametrize("paper", [718, 740], ids=["A4", "Letter"])
def test_no_page_is_wider_than_the_paper(
    browser: Browser, page: Path, two: Path, tmp_path: Path, paper: int
) -> None:
    versus = write_versus([two / "gan-0", two / "gan-1"], tmp_path / "versus.html")
    for path in (page, versus, write_index(two, tmp_path / "index.html")):
        browser.size(1280, 1000)
        browser.open(path)
        browser.wait("document.documentElement.dataset.ready")
        with printed(browser, paper):
            assert browser.run("return document.documentElement.scrollWidth") <= paper


def test_charts_are_printed_on_white_and_are_dark_again_after(
    browser: Browser, page: Path, two: Path, tmp_path: Path
) -> None:
    versus = write_versus([two / "gan-0", two / "gan-1"], tmp_path / "versus.html")
    browser.scheme("dark")
    for path, name in ((page, "progress"), (versus, "versus")):
        browser.size(1280, 16000)
        browser.open(path)
        browser.wait(CHARTS)
        background = f"return document.getElementById('plot-{name}')._fullLayout.paper_bgcolor"
        assert browser.run(background) == "#181c23"
        with printed(browser, 718):
            assert browser.run(background) == "#ffffff"
        browser.scheme("dark")
        browser.size(1280, 16000)
        until = f"document.getElementById('plot-{name}')._fullLayout.paper_bgcolor === '#181c23'"
        browser.wait(until)
    browser.scheme("light")


def test_settings_are_copied_with_every_digit(quick: Browser, demo: Path) -> None:
    quick.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    quick.click("#verdict .copy")
    study = load_results(demo)

    assert yaml.safe_load(quick.run("return window.copied")) == study.configs[best_trial(study)]


def test_hostile_text_stays_text(
    browser: Browser, make_study: Callable[..., Results], tmp_path: Path
) -> None:
    evil = '<img src=x onerror="window.__hit=1">\'</script><script>window.__hit=1</script>'
    records = []
    for trial in range(3):
        records += suggest(trial, {"loss": {"name": evil}, "width": trial})
        records += [report(trial, 16, 5.0 - trial), end(trial, "failed", evil)]
    parameters = [searched("loss.name", evil), searched("width", low=0, high=2)]
    study = make_study(records, folder="evil", name=evil, parameters=parameters)
    browser.size(1280, 16000)
    browser.open(write_report(study.folder.root, tmp_path / "evil.html"))
    browser.wait("document.querySelectorAll('.plot .main-svg').length >= 3")
    browser.click("#trial-1 td")

    assert browser.run("return window.__hit ?? null") is None
    assert browser.run("return document.querySelector('h1').textContent").startswith(evil)
    assert browser.complaints() == []


@pytest.mark.parametrize(
    "records",
    [
        [],
        [close("interrupted")],
        [*suggest(0, {"width": 16})],
        [*suggest(0, {"width": 16}), end(0, "failed", "boom"), close("failed")],
        [*suggest(0, {"width": 16}), report(0, 16, 4.0), end(0), close()],
        [*suggest(0, {"width": 16}), report(0, 2, None), end(0, "diverged", "NaN")],
        [*suggest(0, {"width": 16}), report(0, 16, 4.0), end(0), finals(0)],
        [
            *suggest(0, {"width": 16}),
            report(0, 16, 4.0),
            end(0),
            *replicate(1, 0, None, "diverged"),
        ],
    ],
    ids=[
        "empty",
        "interrupted",
        "running",
        "all failed",
        "one trial",
        "only NaN",
        "finals",
        "all replicates diverged",
    ],
)
def test_an_edge_case_opens_without_an_error(
    browser: Browser, make_study: Callable[..., Results], tmp_path: Path, records: list[Any]
) -> None:
    study = make_study(records, folder="edge")
    browser.open(write_report(study.folder.root, tmp_path / "edge.html"))

    assert browser.complaints() == []


def test_two_objectives_are_drawn_with_their_front_and_follow_the_selected_trial(
    browser: Browser, make_study: Callable[..., Results], tmp_path: Path
) -> None:
    both = [{"metric": "fd_classifier", "direction": "minimize"},
            {"metric": "recall", "direction": "maximize"}]  # fmt: skip
    records = []
    for trial, (value, recall) in enumerate([(5.0, 0.5), (4.0, 0.25), (6.0, 0.375)]):
        drawn = suggest(trial, {"width": 16 + trial})
        records += [*drawn, report(trial, 16, value, recall=recall), end(trial)]
    study = make_study([*records, close()], folder="both", objectives=both)
    browser.size(1280, 16000)
    browser.open(write_report(study.folder.root, tmp_path / "both.html"))
    browser.wait("document.querySelector('#plot-tradeoffs .main-svg')")
    browser.click("#trial-1 td")

    assert sorted(drawn_points(browser, "tradeoffs", "front")) == [4, 4, 5, 5]
    assert drawn_points(browser, "tradeoffs", "selected") == [4]
    assert browser.complaints() == []
