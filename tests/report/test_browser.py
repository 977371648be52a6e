"""The page in a real browser, offline: chromium driven by chromedriver over plain HTTP."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report.journals import close, end, finals, replicate, report, suggest

from raygen.report.page import write_report
from raygen.results import Study, best_trial, load_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium or no chromedriver on PATH"
)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
]  # fmt: skip
# Errors and policy violations, collected from before the first script of the page.
WATCH = """
window.__errors = [];
addEventListener('error', (e) => __errors.push(String(e.message)));
addEventListener('unhandledrejection', (e) => __errors.push(String(e.reason)));
document.addEventListener('securitypolicyviolation', (e) => __errors.push('CSP ' + e.blockedURI));
"""


class Browser:
    """A WebDriver session: just the calls that these tests need."""

    def __init__(self, port: int, profile: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{answer['sessionId']}"
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:600]) from error

    def cdp(self, command: str, **params: Any) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", **metrics)

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def open(self, path: Path, fragment: str = "") -> None:
        self.call("POST", "/url", {"url": "about:blank"})
        self.log("browser")
        self.log("performance")
        self.call("POST", "/url", {"url": path.resolve().as_uri() + fragment})

    def run(self, script: str, *args: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": args})

    def wait(self, expression: str, seconds: float = 10) -> Any:
        until = time.monotonic() + seconds
        while not (found := self.run(f"return {expression}")):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def drag(self, start: tuple[int, int], stop: tuple[int, int]) -> None:
        moves = [
            {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 60}
            for x, y in (start, start, stop)
        ]
        steps = [moves[0], {"type": "pointerDown", "button": 0}, moves[1], moves[2],
                 {"type": "pointerUp", "button": 0}]  # fmt: skip
        mouse = {"type": "pointer", "id": "mouse", "actions": steps}
        self.call("POST", "/actions", {"actions": [mouse]})

    def log(self, kind: str) -> list[dict[str, Any]]:
        return self.call("POST", "/se/log", {"type": kind})

    def complaints(self) -> list[str]:
        severe = [entry["message"] for entry in self.log("browser") if entry["level"] != "INFO"]
        return severe + self.run("return window.__errors")

    def requests(self) -> list[str]:
        """Every address asked for since open(), the page itself left out."""
        asked = []
        for entry in self.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        resources = "return performance.getEntriesByType('resource').map((r) => r.name)"
        return [url for url in asked + self.run(resources) if url.split(":")[0] not in OFFLINE]


OFFLINE = ("file", "data", "blob", "about")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    session = None
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        session = Browser(port, tmp_path_factory.mktemp("profile"))
        yield session
    finally:
        if session:
            session.call("DELETE", "")
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def page(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(demo, tmp_path_factory.mktemp("page") / "demo.html")


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The demo report, with every chart in view and so drawn."""
    browser.size(1280, 6500)
    browser.open(page)
    browser.wait("document.querySelectorAll('.plot .main-svg').length >= 8")
    return browser


def drawn_points(browser: Browser, figure: str, role: str) -> list[Any]:
    return browser.run(
        "return document.getElementById('plot-' + arguments[0]).data"
        ".filter((t) => t.meta.role === arguments[1]).flatMap((t) => t.x)",
        figure,
        role,
    )


def test_the_page_opens_without_an_error_a_request_or_a_policy_violation(opened: Browser) -> None:
    assert opened.complaints() == []
    assert opened.requests() == []


def test_the_browser_blocks_what_the_policy_forbids(opened: Browser) -> None:
    opened.run("const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)")

    assert opened.wait("window.__errors.find((e) => e.startsWith('CSP'))")


def test_a_click_on_a_row_selects_its_trial_in_every_chart(opened: Browser, demo: Path) -> None:
    best = best_trial(load_study(demo))

    opened.click(f"#trial-{best} td:nth-child(3)")

    assert opened.run("return location.hash") == f"#trial-{best}"
    assert opened.run("return document.querySelector('tr.selected').id") == f"trial-{best}"
    assert opened.run("return document.querySelector('#selection b').textContent").startswith(
        f"trial {best} ·"
    )
    for figure in ("finalists", "curves", "progress", "parallel"):
        assert drawn_points(opened, figure, "selected"), figure


def test_a_second_click_lets_go_of_the_trial(opened: Browser) -> None:
    opened.click("#trial-3 td")
    opened.click("#trial-3 td")

    assert opened.run("return location.hash") == ""
    assert opened.run("return document.getElementById('selection').hidden")


def test_an_address_with_a_trial_opens_with_it_selected(browser: Browser, page: Path) -> None:
    browser.open(page, "#trial-5")

    assert browser.wait("document.querySelector('tr.selected')?.id") == "trial-5"


def test_brushing_an_axis_keeps_the_trials_that_pass_there(opened: Browser, demo: Path) -> None:
    total = len(load_study(demo).trials)
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

    shown = opened.run(
        "return [...document.querySelectorAll('#trials-table tbody tr')]"
        ".filter((r) => !r.hidden).length"
    )
    assert 0 < kept < total
    assert shown == kept
    opened.click("#clear-brushes")
    assert opened.run("return brushed.textContent") == f"{total} of {total} selected"


def test_a_slider_brushes_as_well_as_the_mouse(opened: Browser) -> None:
    opened.run(
        "const to = document.querySelectorAll('#sliders fieldset')[0].querySelectorAll('input')[1];"
        "to.value = 0.5; to.dispatchEvent(new Event('input'))"
    )

    assert int(opened.run("return brushed.textContent").split()[0]) < 30
    assert opened.run("return document.querySelector('#sliders output').textContent") != "all"


def test_the_filter_leaves_the_rows_that_contain_the_text(opened: Browser, demo: Path) -> None:
    trials = load_study(demo).trials
    expected = trials.index[trials["loss.name"] == "wasserstein"]

    opened.run("filter.value = 'Wasserstein'; filter.dispatchEvent(new Event('input'))")
    rows = opened.run(
        "return [...document.querySelectorAll('#trials-table tbody tr')]"
        ".filter((r) => !r.hidden).map((r) => Number(r.dataset.trial))"
    )

    assert rows == list(trials.loc[expected, "trial"])


def test_a_state_chip_hides_its_trials(opened: Browser, demo: Path) -> None:
    completed = (load_study(demo).trials["state"] == "completed").sum()

    opened.click(".chip[data-state=completed]")

    assert opened.run("return shown.textContent") == f"{30 - completed} of 30 shown"


def test_sorting_by_value_puts_the_absent_last_both_ways(opened: Browser, demo: Path) -> None:
    values = load_study(demo).trials["value"]
    cells = (
        "return [...document.querySelectorAll('#trials-table tbody tr')]"
        ".map((r) => Number(r.dataset.trial))"
    )
    for direction, extreme in (("ascending", values.idxmin()), ("descending", values.idxmax())):
        opened.click(".sort[data-key=value]")
        order = opened.run(cells)
        assert order[0] == extreme
        assert opened.run("return document.querySelector('[aria-sort=%s]').title" % direction)  # noqa: UP031
        assert values.isna()[order[-1]] == values.isna().any()


def test_the_log_button_switches_the_axis(opened: Browser) -> None:
    kind = "return document.getElementById('plot-curves')._fullLayout.yaxis.type"
    before = opened.run(kind)

    opened.click("#log-curves")

    assert {before, opened.run(kind)} == {"log", "linear"}


def test_progress_can_be_drawn_against_compute(opened: Browser, demo: Path) -> None:
    minutes = load_study(demo).trials["seconds"].sum() / 60

    opened.click("#compute-progress")

    assert max(drawn_points(opened, "progress", "line")) == pytest.approx(minutes, rel=1e-3)


def test_the_dark_scheme_repaints_the_charts(opened: Browser) -> None:
    paper = "return document.getElementById('plot-curves')._fullLayout.paper_bgcolor"
    opened.scheme("light")
    light = opened.run(paper)
    opened.scheme("dark")

    assert opened.wait(paper.removeprefix("return ") + f" !== '{light}'")
    opened.scheme("light")


def test_the_csv_download_holds_every_trial(opened: Browser, demo: Path) -> None:
    text = opened.call(
        "POST",
        "/execute/async",
        {
            "script": "const done = arguments[0]; const make = URL.createObjectURL;"
            "URL.createObjectURL = (b) => { b.text().then(done); return make(b); };"
            "document.querySelector('[data-download=trials]').click()",
            "args": [],
        },
    )
    trials = load_study(demo).trials

    assert text.splitlines()[0].split(",") == list(trials.columns)
    assert len(text.splitlines()) == len(trials) + 1


def test_nothing_is_wider_than_a_phone(browser: Browser, page: Path) -> None:
    browser.size(400, 900)
    browser.open(page)

    assert browser.run("return document.documentElement.scrollWidth") <= 400


def test_hostile_text_stays_text(
    browser: Browser, make_study: Callable[..., Study], tmp_path: Path
) -> None:
    evil = '<img src=x onerror="window.__hit=1">\'</script><script>window.__hit=1</script>'
    records = []
    for trial in range(3):
        records += suggest(trial, {"loss": {"name": evil}, "width": trial})
        records += [report(trial, 16, 5.0 - trial), end(trial, "failed", evil)]
    study = make_study(records, folder="evil", name=evil, parameters=[])
    browser.size(1280, 6500)
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
    browser: Browser, make_study: Callable[..., Study], tmp_path: Path, records: list[Any]
) -> None:
    study = make_study(records, folder="edge")
    browser.open(write_report(study.folder.root, tmp_path / "edge.html"))

    assert browser.complaints() == []


def test_two_objectives_are_drawn_with_their_front_and_follow_the_selected_trial(
    browser: Browser, make_study: Callable[..., Study], tmp_path: Path
) -> None:
    both = [{"metric": "fd_classifier", "direction": "minimize"},
            {"metric": "recall", "direction": "maximize"}]  # fmt: skip
    records = []
    for trial, (value, recall) in enumerate([(5.0, 0.5), (4.0, 0.25), (6.0, 0.375)]):
        drawn = suggest(trial, {"width": 16 + trial})
        records += [*drawn, report(trial, 16, value, recall=recall), end(trial)]
    study = make_study([*records, close()], folder="both", objectives=both)
    browser.size(1280, 6500)
    browser.open(write_report(study.folder.root, tmp_path / "both.html"))
    browser.wait("document.querySelector('#plot-tradeoffs .main-svg')")
    browser.click("#trial-1 td")

    assert sorted(drawn_points(browser, "tradeoffs", "front")) == [4, 4, 5, 5]
    assert drawn_points(browser, "tradeoffs", "selected") == [4]
    assert browser.complaints() == []
