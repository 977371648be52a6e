"""Two or more studies compared: the best so far for the same compute, and the best."""

import math
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.errors import InputError
from raygen.files import write_text
from raygen.report.blocks import chart, html_table
from raygen.report.comparison import breakable, picture_html
from raygen.report.contrast import unpaired
from raygen.report.drawing import BEST, axis_title, layout, python_values, time_unit
from raygen.report.embedded_pictures import sample_picture
from raygen.report.frame import document, figure_data
from raygen.report.gains import gain
from raygen.report.labels import ABSENT, listed, number, setting, short_metric
from raygen.report.summary import StudySummary, best_so_far, groups, summarize, warnings
from raygen.results import Results, load_results
from raygen.words import counted, duration

DASHES = ["solid", "dash", "dot", "dashdot", "longdash"]


def write_versus(paths: list[Path], output: Path | None = None) -> Path:
    """Write the comparison of studies and return where; default reports/A-B.html.

    Raises:
        InputError: fewer than two studies, one of them twice, or one that cannot be read.
    """
    if len(paths) < 2:
        raise InputError("a comparison needs two studies or more")
    for place, path in enumerate(paths):
        if path.resolve() in [earlier.resolve() for earlier in paths[:place]]:
            raise InputError(f"{path}: is given twice; compare it with another study")
    summaries = [summarize(load_results(path)) for path in paths]
    name = "-".join(path.resolve().name for path in paths)
    target = output or Path("reports") / f"{name}.html"
    write_text(target, render_comparison(summaries))
    return target


def render_comparison(summaries: list[StudySummary]) -> str:
    """The whole page."""
    names = _names(summaries)
    kinds = groups([summary.study for summary in summaries if summary.best is not None])
    notes = "".join(f'<p class="warning">! {escape(text)}</p>' for text in warnings(kinds))
    lead = _lead(summaries, names, comparable=len(kinds) < 2)
    figure = versus_figure(_steps(summaries, names), summaries[0].study.info)
    parts = [
        ("progress", "Best so far against compute", _progress_lead(summaries, names),
         chart("versus", "Best so far against compute", lead)),
        ("facts", "In numbers", "What each study found and cost.", _facts(summaries, names)),
        ("best", "Best configurations", _differ(summaries), _configurations(summaries, names)),
    ]  # fmt: skip
    body = "".join(
        f'<section id="{key}" aria-labelledby="title-{key}"><h2 id="title-{key}">{title}</h2>'
        f'<p class="lead">{escape(text)}</p>{html}</section>'
        for key, title, text, html in parts
    )
    title = " vs ".join(names)
    main = (
        '<main class="versus"><header><p class="kicker">raygen comparison</p>'
        f"<h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(lead)}</p>{notes}</header>{body}</main>'
        '<dialog id="lightbox" aria-label="enlarged picture"></dialog>'
    )
    data = {"figures": {"versus": figure_data(figure)}}
    return document(title, main, ("versus",), data, charts=True)


def versus_figure(steps: pd.DataFrame, info: dict[str, Any]) -> go.Figure:
    """`steps`: name, seconds, best, trial; one staircase per name."""
    figure = go.Figure()
    size, unit = time_unit(steps["seconds"])
    for place, name in enumerate(dict.fromkeys(steps["name"])):
        some = steps[steps["name"] == name]
        figure.add_trace(
            go.Scatter(
                x=python_values((some["seconds"] / size).round(4)),
                y=python_values(some["best"]),
                customdata=[int(trial) for trial in some["trial"]],
                mode="lines+markers",
                name=escape(str(name), quote=False),
                line={"shape": "hv", "width": 2.5, "color": BEST[place % len(BEST)],
                      "dash": DASHES[place % len(DASHES)]},
                marker={"size": 6, "color": BEST[place % len(BEST)]},
                hovertemplate="trial %{customdata}: %{y:.4g}<extra></extra>",
                meta={"role": f"best-{place % len(BEST)}"},
            )
        )  # fmt: skip
    metric = axis_title(short_metric(info["objective"]["metric"]), info)
    layout(figure, f"training time of all trials so far ({unit})", f"best {metric}", None, 420)
    values = steps["best"].astype(float)
    if len(values) and values.min() > 0 and values.max() / values.min() > 10:
        figure.update_yaxes(type="log", dtick="D2", tickformat=",.3~r")
    return figure


def _names(summaries: list[StudySummary]) -> list[str]:
    """The names of the studies, with the folder where two are called the same."""
    names = [summary.name for summary in summaries]
    roots = [summary.study.folder.root for summary in summaries]
    short = len({root.name for root in roots}) == len(roots)
    return [
        f"{name} ({root.name if short else root})" if names.count(name) > 1 else name
        for name, root in zip(names, roots, strict=True)
    ]


def _steps(summaries: list[StudySummary], names: list[str]) -> pd.DataFrame:
    """Steps of all studies with the first one's metric."""
    parts = [
        best_so_far(summary.study).assign(name=name)
        for summary, name in zip(summaries, names, strict=True)
        if summary.study.metric == summaries[0].study.metric
    ]
    return pd.concat(parts, ignore_index=True)


def _lead(summaries: list[StudySummary], names: list[str], comparable: bool) -> str:
    if not comparable:
        return "These studies measured different things: their values are not comparable."
    valued = [
        (summary, name)
        for summary, name in zip(summaries, names, strict=True)
        if summary.best is not None
    ]
    if len(valued) < 2:
        return "Fewer than two of these studies have a value: nothing to compare yet."
    first = summaries[0].study
    if len({_configuration(summary) for summary, _ in valued}) == 1:
        values = ", ".join(f"{name} {_value(summary)}" for summary, name in valued)
        who = "All" if len(valued) == len(summaries) else listed(name for _, name in valued)
        return f"{who} found the same configuration; {short_metric(first.metric)}: {values}."
    replicated = all(summary.seeds for summary, _ in valued)
    level = {name: summary.value if replicated else summary.single for summary, name in valued}
    order = sorted(valued, key=lambda pair: level[pair[1]], reverse=not first.minimise)
    (best, name), (other, second) = order[:2]
    metric = short_metric(first.metric)
    values = f"{metric} {number(level[name])} vs {number(level[second])} for {second}"
    if not replicated:
        basis = "each the best single seed of its search"
        if level[name] == level[second]:
            others = [f"{other} {number(level[other])}" for _, other in order[2:]]
            behind = f"; behind them {listed(others)}" if others else ""
            text = f"{name} and {second} are level: {metric} {number(level[name])}, {basis}"
            return f"{text}{behind}."
        return f"{name} is ahead: {values}; {basis}, so the order may be chance."
    low, high = unpaired(best.seed_values, other.seed_values)
    if low > 0 or high < 0:
        better = gain(first, level[name], level[second])
        span = f"95% interval of the difference {number(low)} to {number(high)}"
        return f"{name} found the better configuration: {values}, {better} ({span})."
    if not math.isnan(low):
        span = f"the 95% interval of the difference is {number(low)} to {number(high)}"
        return f"{name} and {second} cannot be told apart: {values}; {span}."
    return f"{name} is ahead: {values}; too few seeds to tell whether that is chance."


def _configuration(summary: StudySummary) -> tuple[str, ...]:
    """The settings of the best trial as text, equal for equal configurations."""
    return tuple(
        f"{name}={_read(summary.study, summary.best, name)}"
        for name in sorted(summary.study.settings)
    )


def _progress_lead(summaries: list[StudySummary], names: list[str]) -> str:
    """Who was ahead when the one that trained least had spent its time."""
    minimise, metric = summaries[0].study.minimise, summaries[0].study.metric
    same = [pair for pair in zip(summaries, names, strict=True) if pair[0].study.metric == metric]
    ends = {name: best_so_far(summary.study) for summary, name in same}
    ends = {name: steps for name, steps in ends.items() if len(steps)}
    if len(ends) < 2:
        return "Fewer than two of these studies have a value."
    spent = min(float(steps["seconds"].iloc[-1]) for steps in ends.values())
    seen = {}
    for name, steps in ends.items():
        before = steps[steps["seconds"] <= spent]
        seen[name] = float(before["best"].iloc[-1]) if len(before) else math.nan
    valued = {name: value for name, value in seen.items() if not math.isnan(value)}
    if not valued:
        return f"None had a value after {duration(spent)} of training."
    best = (min if minimise else max)(valued.values())
    first = [name for name, value in valued.items() if value == best]
    values = ", ".join(f"{name} {number(value)}" for name, value in seen.items())
    if len(first) > 1:
        return f"After {duration(spent)} of training {listed(first)} were level: {values}."
    return f"After {duration(spent)} of training, {first[0]} was ahead: {values}."


def _value(summary: StudySummary) -> str:
    spread = f" ± {number(summary.sd, 2)}" if summary.sd == summary.sd else ""
    return f"{number(summary.value)}{spread}"


def _basis(summary: StudySummary) -> str:
    if summary.best is None:
        return ABSENT
    return counted(summary.seeds, "new seed") if summary.seeds else "one seed"


def _facts(summaries: list[StudySummary], names: list[str]) -> str:
    facts = {
        "state": lambda summary: str(summary.study.info["state"]),
        "metric": lambda summary: short_metric(summary.study.metric),
        "protocol": lambda summary: str(
            summary.study.info["protocol_of"].get(summary.study.metric, ABSENT)
        ),
        "data": lambda summary: str(summary.study.info["data"].get("name", ABSENT)),
        "sampler": lambda summary: str(summary.study.info["sampler"].get("name", ABSENT)),
        "scheduler": lambda summary: str(summary.study.info["scheduler"].get("name", ABSENT)),
        "trials": lambda summary: str(len(summary.study.trials)),
        "completed": lambda summary: str(int((summary.study.trials["state"] == "completed").sum())),
        "training time": lambda summary: duration(summary.seconds),
        "images (kimg)": lambda summary: number(summary.kimg),
        "default": lambda summary: number(summary.default),
        "best": _value,
        "basis": _basis,
    }
    rows = [[name, *(read(summary) for summary in summaries)] for name, read in facts.items()]
    return html_table(["", *names], rows)


def _differ(summaries: list[StudySummary]) -> str:
    valued = [summary for summary in summaries if summary.best is not None]
    if len(valued) < 2:
        return "Fewer than two of these studies have a value: nothing to compare yet."
    names = _settings(valued)
    differ = sum(len(set(values)) > 1 for values in names.values())
    if not differ:
        return "The best trials have the same settings."
    return f"The best trials differ in {differ} of {counted(len(names), 'setting')}."


def _configurations(summaries: list[StudySummary], names: list[str]) -> str:
    heads, pictures = "", ""
    for summary, name in zip(summaries, names, strict=True):
        trial = "no value" if summary.best is None else f"trial {summary.best}"
        heads += f'<th scope="col">{escape(name)}<span class="rank">{trial}</span></th>'
        pictures += f"<td>{picture_html(_best_picture(summary), f'{name}, {trial}')}</td>"
    rows = "".join(
        f'<tr><th scope="row"><code>{breakable(key)}</code></th>'
        + "".join(f"<td>{escape(value)}</td>" for value in values)
        + "</tr>"
        for key, values in _settings(summaries).items()
        if len(set(values)) > 1
    )
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="Best configurations">'
        f'<table class="compare"><thead><tr><td></td>{heads}</tr></thead><tbody>'
        f'<tr class="pictures"><th scope="row">samples</th>{pictures}</tr>{rows}'
        "</tbody></table></div>"
    )


def _best_picture(summary: StudySummary) -> Any:
    if summary.best is None:
        return None
    at = summary.study.trials.set_index("trial")["best_kimg"].to_dict()[summary.best]
    return sample_picture(summary.study, summary.best, float(at))


def _settings(summaries: list[StudySummary]) -> dict[str, list[str]]:
    """Every setting of any best trial, as text in each."""
    names = dict.fromkeys(name for summary in summaries for name in summary.study.settings)
    return {
        name: [_read(summary.study, summary.best, name) for summary in summaries] for name in names
    }


def _read(study: Results, trial: int | None, name: str) -> str:
    if trial is None or name not in study.settings:
        return ABSENT
    return setting(study.trials.set_index("trial")[name].to_dict()[trial])
