"""The page as a file: complete, self-contained, the same every time."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from raygen.document import flatten
from raygen.errors import InputError
from raygen.files import json_values
from raygen.report.charts import CHARTS
from raygen.report.frame import embed
from raygen.report.page import page_data, render_page, write_report
from raygen.report.sections import SECTIONS
from raygen.results import Results, best_trial, load_results, ranked
from report.journals import (
    START,
    at,
    close,
    end,
    finals,
    make_info,
    race,
    reopen,
    replicate,
    report,
    retry,
    searched,
    simulate,
    start,
    suggest,
    warm,
    write_demo,
    write_study,
    written_by_a_search,
)

Make = Callable[..., Results]


class Outline(HTMLParser):
    """Tags with attributes, the text outside scripts, and the data block of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.inside = ""
        self.text = ""
        self.data = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("type") or "code" if tag == "script" else ""
        self.inside = "code" if tag == "style" else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.text += data
        elif self.inside == "application/json":
            self.data += data

    def all(self, name: str) -> list[dict[str, Any]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def html(demo: Path) -> str:
    return render_page(load_results(demo))


def words(study: Results) -> str:
    return re.sub(r"\s+", " ", Outline(render_page(study)).text)


def test_the_same_folder_gives_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    first = write_report(demo, tmp_path / "a.html").read_bytes()

    assert write_report(demo, tmp_path / "b.html").read_bytes() == first


def test_the_report_lands_in_reports_under_the_folder_s_name(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    path = write_report(demo)

    assert path == Path("reports") / "shapes-gan.html"
    assert [file.name for file in path.parent.iterdir()] == ["shapes-gan.html"]


def test_a_folder_that_is_no_study_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_report(tmp_path, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_every_section_is_there_in_order_with_its_sentence(html: str) -> None:
    outline = Outline(html)

    assert [section["id"] for section in outline.all("section")] == [part.key for part in SECTIONS]
    assert html.count('<p class="lead">') == len(SECTIONS) + 1


def test_the_page_refers_to_nothing_outside_itself(html: str) -> None:
    outline = Outline(html)
    links = [tag.get("href", "") for tag in outline.all("a")]

    assert all(link.startswith("#") for link in links)
    pictures = [image["src"] for image in outline.all("img") if "src" in image]
    assert len(pictures) > 5
    assert all(source.startswith("data:image/") for source in pictures)
    assert not outline.all("link")
    assert all("src" not in script for script in outline.all("script"))
    assert "default-src 'none'" in outline.all("meta")[1]["content"]


def test_plotly_is_in_the_page_once(html: str) -> None:
    assert html.count("plotly.js v") == 1


def test_every_id_is_unique_and_every_anchor_has_its_target(html: str) -> None:
    outline = Outline(html)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]

    assert len(ids) == len(set(ids))
    assert {tag["href"][1:] for tag in outline.all("a")} <= set(ids)


def test_the_table_shows_every_trial_without_javascript(html: str, demo: Path) -> None:
    rows = [row for row in Outline(html).all("tr") if "data-trial" in row]

    study = load_results(demo)
    order = [int(trial) for trial in ranked(study)["trial"]]
    trials = [int(row["data-trial"]) for row in rows]
    assert trials[: len(order)] == order  # the best first
    assert sorted(trials) == list(study.trials["trial"])


def test_under_a_finalist_stand_its_trainings_with_new_seeds(html: str, demo: Path) -> None:
    rows = re.findall(r'<tr [^>]*data-(trial|of)="(\d+)"[^>]*>(.*?)</tr>', html)
    groups: dict[int, list[str]] = {}
    for kind, trial, cells in rows:
        groups.setdefault(int(trial), []).extend([cells] if kind == "of" else [])
        assert kind == "trial" or list(groups)[-1] == int(trial)  # right under it

    for trial, table in load_results(demo).replicates.groupby("of"):
        values = table["value"].tolist()
        shown = groups.pop(int(trial))  # pyright: ignore[reportArgumentType]
        written = [float(re.findall("<td>([^<]*)</td>", cells)[0]) for cells in shown]
        assert written == pytest.approx(values, rel=1e-3)
    assert not any(groups.values())


def test_the_embedded_tables_are_exact(html: str, demo: Path) -> None:
    study = load_results(demo)
    data = json.loads(Outline(html).data)

    assert data["trials"]["columns"] == list(study.trials.columns)
    values = [row[data["trials"]["columns"].index("value")] for row in data["trials"]["rows"]]
    assert values == json_values(study.trials["value"].tolist())
    assert len(data["history"]["rows"]) == len(study.history)


def test_the_best_configuration_is_copied_exactly_and_shown_with_four_digits(
    html: str, demo: Path
) -> None:
    best = best_trial(load_results(demo))
    ((exact, shown),) = re.findall(r'<code data-exact="(.*?)">(.*?)</code>', html, re.DOTALL)
    records = [json.loads(line) for line in (demo / "journal.jsonl").read_text().splitlines()]
    asked = next(r for r in records if r["kind"] == "suggest" and r["trial"] == best)

    assert yaml.safe_load(exact) == asked["config"]
    assert not re.search(r"[1-9]\d{4}", shown)
    rounded, settings = flatten(yaml.safe_load(shown)), flatten(asked["config"])
    assert rounded.keys() == settings.keys()
    for name, value in settings.items():
        assert rounded[name] == (
            pytest.approx(value, rel=1e-3) if value == 0 or type(value) is float else value
        )


def test_the_best_pictures_and_the_real_ones_are_in_the_page(html: str) -> None:
    labels = [image["alt"] for image in Outline(html.partition('id="finalists"')[0]).all("img")]

    assert labels[0].startswith("samples of trial ")
    assert labels[1:3] == ["real images", "training images"]
    assert len(labels) == len(re.findall(r'class="rank"', html)) + 3


def test_missing_pictures_leave_a_note(tmp_path: Path) -> None:
    path = write_demo(tmp_path / "bare", trials=6, pictures=False)
    (path / "real.png").write_bytes(b"not a picture")
    html = render_page(load_results(path))

    assert not Outline(html).all("img")
    assert "no picture" in html


def test_hostile_text_is_escaped_everywhere(make_study: Make) -> None:
    evil = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>"
    records = [*suggest(0, {evil: evil}), report(0, 16, 1.0), end(0, "failed", evil)]
    records += [*suggest(1, {evil: "y"}), report(1, 16, 2.0), end(1)]
    parameters = [searched(evil, evil, "y")]
    study = make_study(records, name=evil, parameters=parameters, command=evil, space_hash=evil)
    outline = Outline(render_page(study))

    assert len(outline.all("script")) == 3
    assert not outline.all("img")
    assert json.loads(outline.data)["name"] == evil
    assert outline.text.count(evil) >= 4


def test_embedded_json_cannot_end_its_script() -> None:
    assert "<" not in embed({"a": "</script><!--"})
    assert json.loads(embed({"a": "</script><!--"})) == {"a": "</script><!--"}


def test_an_empty_study_says_so(make_study: Make) -> None:
    text = words(make_study([]))

    assert "No trial has started. The study has crashed." in text


def test_a_search_that_failed_says_why_and_claims_no_result_that_it_does_not_have(
    make_study: Make,
) -> None:
    ended = {**close("failed"), "reason": "the disk is full"}
    text = words(make_study([*suggest(0, {"a": 1}), end(0, "failed", "boom"), ended]))

    assert "The study has failed (the disk is full) with 1 of 30 trials." in text
    assert "learning rates" not in text


def test_the_only_trial_is_not_said_to_have_beaten_a_starting_point_nor_to_lack_one(
    make_study: Make,
) -> None:
    text = words(make_study([*suggest(0, {"a": 1}), report(0, 16, 3.0), end(0), close()]))

    assert "it is the only trial with a value" in text
    assert "no starting point has a value" not in text


def test_a_study_whose_trials_all_failed_points_to_the_reasons(make_study: Make) -> None:
    study = make_study([*suggest(0, {"a": 1}), end(0, "failed", "boom"), close("failed")])

    assert "Nothing to use: no trial has a value (1 failed); see the reasons" in words(study)
    assert "boom" in words(study)


def test_a_running_study_warns_that_its_best_is_provisional(make_study: Make) -> None:
    study = make_study([*suggest(0, {"a": 1}), report(0, 2, 3.0)])
    with written_by_a_search(study.folder.root):
        text = words(load_results(study.folder.root))

    assert "Provisional: no trial has completed the full budget" in text
    assert "not finished" in text
    assert "The study is running with 1" in text


def test_a_crashed_study_says_so_and_how_to_go_on(make_study: Make) -> None:
    under_way = [*suggest(1, {"a": 2}), report(1, 2, 5.0)]
    study = make_study(
        [*suggest(0, {"a": 1}), report(0, 16, 3.0), end(0), *under_way],
        resume_command="raygen tune x.yaml",
    )
    text = words(study)

    assert "✕ crashed" in text
    assert "The study has crashed; this can still change." in text
    assert "The study has crashed with 2" in text
    assert "1 interrupted" in text
    assert "Resume with: raygen tune x.yaml" in text
    assert "running" not in text


def test_an_interrupted_study_says_that_this_can_change(make_study: Make) -> None:
    study = make_study([*suggest(0, {"a": 1}), report(0, 16, 3.0), end(0), close("interrupted")])

    assert "The study was interrupted; this can still change." in words(study)


def test_a_maximised_metric_points_up(make_study: Make) -> None:
    objective = {"metric": "elbo", "direction": "maximize"}
    records = []
    for trial, value in enumerate([-1500.0, -1200.0]):
        records += [*suggest(trial, {"a": trial}), report(trial, 16, value, metric="elbo")]
        records += [end(trial)]
    text = words(make_study(records, family="vae", objective=objective, directions={}))

    assert "ELBO (nats per image) ↑" in text
    assert "higher is better" in text
    assert "Trial 1 leads with ELBO -1,200 at 16 kimg, 300 higher" in text
    assert "300 higher than the starting point (one seed each)." in text


def test_the_finalists_are_judged_in_words_and_in_a_table(make_study: Make) -> None:
    records = [*suggest(0, {"a": 1}), report(0, 16, 2.0), end(0)]
    records += [*suggest(1, {"a": 2}), report(1, 16, 3.0), end(1), finals(0, 1)]
    records += [*replicate(2, 0, 4.0), *replicate(3, 0, 6.0), *replicate(4, 1, 8.0)]
    records += [*replicate(5, 1, 9.0, "diverged"), race({0: 5.0, 1: 8.0}, {0: 0.9, 1: 0.1})]
    text = words(make_study([*records, close()], start_trials=0))

    assert "The best model, of trial 0, had Fréchet distance 2 during training" in text
    assert "Trials 0 and 1 are tied for the best settings" in text
    assert "Fréchet distance during training, not measured on new samples" in text
    assert "With new seeds, trial 0 is the best of 2 finalists: 5 over 2 seeds" in text
    assert "150% worse than its 2 in the search" in text
    assert "best with probability 90%; 1 run of 4 diverged. The race is not over." in text
    assert "with one seed" not in text


def test_a_study_without_finalists_says_that_its_verdict_is_one_seed(make_study: Make) -> None:
    text = words(make_study([*suggest(0, {"a": 1}), report(0, 16, 2.0), end(0), close()]))

    assert "Trial 0 leads with Fréchet distance 2 at 16 kimg, with one seed." in text
    assert "It is the starting point." in text
    assert "Its model is not measured on new samples." in text
    assert "No trial was retrained with new seeds: every value is one seed." in text
    assert "Every trial cost the same" in text


def test_finalists_that_are_still_trained_again_say_so(make_study: Make) -> None:
    records = [*suggest(0, {"a": 1}), report(0, 16, 2.0), end(0), finals(0)]
    text = words(make_study([*records, *suggest(1, {"a": 1}, of=0, by="finalist")]))

    assert "1 finalist to be retrained with new seeds; no run has finished yet." in text


def test_several_objectives_have_a_front_in_the_verdict_and_a_section(make_study: Make) -> None:
    both = [{"metric": "fd_classifier", "direction": "minimize"},
            {"metric": "recall", "direction": "maximize"}]  # fmt: skip
    records = []
    for trial, (value, recall) in enumerate([(5.0, 0.5), (4.0, 0.25), (6.0, 0.375)]):
        drawn = suggest(trial, {"a": trial})
        records += [*drawn, report(trial, 16, value, recall=recall), end(trial)]
    text = words(make_study([*records, close()], objectives=both))

    assert "traded off against recall" in text
    assert "No single best: trials 1 and 0 trade off Fréchet distance and recall." in text
    assert "Trial 1 has the lowest Fréchet distance: 4, 20% lower than the starting point" in text
    assert "Pareto front of Fréchet distance and recall: 2 of 3 completed trials" in text
    assert "lowest Fréchet distance 4 (trial 1) and highest recall 0.5 (trial 0)" in text


def test_a_resumed_study_tells_of_its_sessions_and_what_changed(make_study: Make) -> None:
    info = make_info()
    records = [
        *suggest(0, {"a": 1}), retry(0, 2, 0.0), start(0, 2), close("interrupted", 60.0),
        *at(900, reopen(info, budget=[{"trials": 4, "kimg": 16.0}, {"trials": 8, "kimg": 16.0}])),
        report(0, 16, 2.0), end(0),
        {**close("finished", 30.0), "reason": "the budget of 1 hour is spent"},
        warm("older", 3, {}, [1.0]),
    ]  # fmt: skip
    text = words(make_study(records))

    assert "1 min 30 s wall time in 2 sessions" in text
    assert "resumed 1 time (earlier sessions: interrupted)" in text
    assert "lost and retried: 1 time" in text
    assert "the budget of 1 hour is spent" in text
    assert "budget.trials 4 → 8" in text
    assert "kimg 16 → 16" not in text
    assert "older (1 trial used, 0 tried again)" in text
    assert f"{START}" not in text


def test_a_value_is_shown_with_its_standard_error(make_study: Make) -> None:
    measured = {**report(0, 16, 2.0), "sd": {"fd_classifier": 0.125}}
    html = render_page(make_study([*suggest(0, {"a": 1}), measured, end(0)]))

    assert "2 ± 0.12" in html
    assert "fd_classifier.sd</th>" not in html


def test_values_of_growing_samples_are_said_to_be_no_curve_of_one_trial(make_study: Make) -> None:
    records = [*suggest(0, {"width": 32}), report(0, 2.0, 9.0), end(0)]
    grows = {"samples": 900, "first_samples": 400}
    words = "on 400 to 900 samples, more at each rung"

    assert words in render_page(make_study(records, evaluation=grows))
    assert words not in render_page(make_study(records, folder="all", evaluation={"samples": 900}))


def test_a_study_without_optional_facts_still_makes_a_page(tmp_path: Path) -> None:
    info = {
        "name": "old",
        "objective": {"metric": "fid", "direction": "minimize"},
    }
    records = [*suggest(0, {"a": 1}), report(0, 16, 3.0, metric="fid"), end(0), close()]

    assert "FID 3 at 16 kimg" in words(load_results(write_study(tmp_path / "old", info, records)))


def test_400_trials_fit_into_eight_megabytes(tmp_path: Path) -> None:
    info = make_info(budget={"trials": 400, "kimg": 16.0})
    path = write_study(tmp_path / "big", info, [*simulate(400, 6), close()])

    assert write_report(path, tmp_path / "big.html").stat().st_size < 8_000_000


def fail(*_: Any) -> Any:
    raise TypeError("unsupported format string passed to NoneType.__format__")


@pytest.mark.parametrize("number", range(len(SECTIONS)), ids=[part.key for part in SECTIONS])
def test_a_section_that_fails_says_so_and_takes_nothing_with_it(
    make_study: Make, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    study = make_study([*suggest(0, {"a": 1}), report(0, 16, 2.0), end(0), close()])
    broken = [*SECTIONS]
    broken[number] = broken[number]._replace(html=fail)
    monkeypatch.setattr("raygen.report.page.SECTIONS", broken)

    text = words(study)

    assert text.count("This part could not be drawn: TypeError: unsupported format string") == 1
    assert all(part.title in text for part in SECTIONS)


@pytest.mark.parametrize("part", ["header", "filter_bar"])
def test_a_head_that_fails_takes_no_page_with_it(
    make_study: Make, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    study = make_study([*suggest(0, {"a": 1}), report(0, 16, 2.0), end(0), close()])
    monkeypatch.setattr(f"raygen.report.page.{part}", fail)

    text = words(study)

    assert "This part could not be drawn: TypeError" in text
    assert "Trial 0 leads with Fréchet distance 2" in text


def test_a_figure_that_fails_leaves_its_reason_in_its_place(
    make_study: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study([*suggest(0, {"a": 1}), report(0, 16, 2.0), end(0), close()])
    broken = [chart._replace(draw=fail) if chart.name == "curves" else chart for chart in CHARTS]
    monkeypatch.setattr("raygen.report.page.CHARTS", broken)

    figures = page_data(study)["figures"]

    assert "could not be drawn" in figures["curves"]["layout"]["annotations"][0]["text"]
    assert figures["progress"]["data"]


def test_a_population_counts_its_trials_and_their_copies_apart(make_study: Make) -> None:
    course = {"a": {"schedule": "steps", "values": [1, 2], "at": [0.5]}}
    copied = {**suggest(2, course)[0], "by": "pbt", "parent": 0, "from_kimg": 8.0, "replaces": 1}
    records = [
        *suggest(0, {"a": 1}), report(0, 8, 3.0), *suggest(1, {"a": 3}), report(1, 8, 9.0),
        copied, *suggest(2, {"a": 2})[1:], end(1, "stopped"), report(2, 16, 2.0), end(2),
        report(0, 16, 2.5), end(0), close(),
    ]  # fmt: skip
    study = make_study(records, budget={"trials": 2, "kimg": 16})

    assert "The study finished with 2 of 2 trials and 1 trial that began as copies." in words(study)
    assert "2 + 1 copy" in words(study)
    assert study.spent("kimg") == 16 + 8 + 8
    assert re.search(r"<code>a</code>.*?<span>1 → 2</span>", render_page(study), re.DOTALL)
