"""One page over all studies of a folder: pictures, best so far, cost, and what compares."""

from datetime import UTC, datetime
from html import escape
from pathlib import Path

from raygen.errors import InputError, our_bug
from raygen.files import write_text
from raygen.report.embedded_pictures import nearest_milestone, tiles_picture
from raygen.report.frame import document
from raygen.report.header import badge
from raygen.report.labels import ABSENT, STATE_LOOKS, arrow, listed, number, short_metric
from raygen.report.page import write_report
from raygen.report.summary import (
    StudyGroup,
    StudySummary,
    best_so_far,
    groups,
    meaning,
    summarize,
    warnings,
)
from raygen.report.tables import state_counts
from raygen.results import load_results
from raygen.results.liveness import cut_short
from raygen.study_folder import StudyFolder
from raygen.words import counted, duration

WIDTH, HEIGHT = 130, 34  # of a sparkline


def write_index(root: Path, output: Path | None = None) -> Path:
    """Write the page over the studies in a folder, and their own pages beside it; return where.

    A study's page is built if it is missing or older than the study's journal.

    Raises:
        InputError: the folder does not exist or holds no study.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    target = output or Path("reports") / "index.html"
    folders = sorted(path for path in root.iterdir() if StudyFolder(path).journal.is_file())
    if not folders:
        raise InputError(
            f"{root}: holds no study (no folder with a {StudyFolder(root).journal.name})"
        )
    summaries: list[StudySummary] = []
    broken: dict[str, str] = {}
    pages: dict[Path, str] = {}
    for folder in folders:
        try:
            summaries.append(summarize(cut_short(load_results(folder))))
            page = target.parent / f"{folder.name}.html"
            changed = StudyFolder(folder).journal.stat().st_mtime
            if not page.exists() or page.stat().st_mtime < changed:
                write_report(folder, page)
            pages[folder] = page.name
        except InputError as error:
            broken[folder.name] = str(error)
        except Exception as error:  # a bug of ours with one study must not hide the others
            broken[folder.name] = our_bug(error)
    summaries.sort(key=lambda summary: -float(summary.study.info.get("started") or 0))
    write_text(target, render_index(summaries, broken, pages))
    return target


def render_index(
    summaries: list[StudySummary], broken: dict[str, str], pages: dict[Path, str]
) -> str:
    """The whole page; `broken`: why studies could not be read, by name; `pages`: the addresses of
    the studies' own, by folder.
    """
    kinds = groups([summary.study for summary in summaries])
    letters = {group.key: group for group in kinds}
    rows = "".join(_row(summary, letters[meaning(summary.study)], pages) for summary in summaries)
    heads = [
        ("study", "Study"), ("", "Samples"), ("state", "State"), ("trials", "Trials"),
        ("value", "Best"), ("", "Best so far"), ("seconds", "Training"), ("started", "Started"),
    ]  # fmt: skip
    top = "".join(
        f'<th scope="col" aria-sort="none"><button type="button" class="sort" data-key="{key}">'
        f"{text}</button></th>"
        if key
        else f'<th scope="col"><span>{text}</span></th>'
        for key, text in heads
    )
    notes = "".join(f'<p class="warning">! {escape(text)}</p>' for text in warnings(kinds))
    rows += "".join(
        f'<tr data-study="{escape(name)}" data-state="unreadable"><th scope="row">{escape(name)}'
        f'</th><td></td><td>{badge("unreadable")}</td><td colspan="5">{escape(text)}</td></tr>'
        for name, text in broken.items()
    )
    body = (
        '<main class="index"><header><p class="kicker">raygen studies</p><h1>Studies</h1>'
        f'<p class="lead">{escape(_lead(summaries))}</p></header><section>'
        f"{notes}{_legend(kinds)}"
        '<p class="controls needs-js"><input type="search" id="filter" placeholder="filter" '
        'aria-label="filter studies"><output id="shown" class="count" aria-live="polite"></output>'
        '</p><div class="scroll" tabindex="0" role="group" aria-label="Table of studies">'
        f'<table class="studies"><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</section></main>"
    )
    return document("studies", body, ("index",), {}, charts=False)


def svg_sparkline(summary: StudySummary) -> str:
    """The best so far against training time, as an inline picture; "" below two steps."""
    table = best_so_far(summary.study)
    if len(table) < 2 or table["best"].nunique() < 2:
        return ABSENT
    x, y = table["seconds"].astype(float), table["best"].astype(float)
    across = (x - x.min()) / ((x.max() - x.min()) or 1) * (WIDTH - 4) + 2
    down = (y.max() - y) / (y.max() - y.min()) * (HEIGHT - 6) + 3
    path, before = "", None
    for left, top in zip(across, down, strict=True):
        path += f"M{left:.1f} {top:.1f}" if before is None else f"H{left:.1f}V{top:.1f}"
        before = left
    words = f"best so far: {number(y.iloc[0])} to {number(y.iloc[-1])}"
    return (
        f'<svg class="spark" role="img" aria-label="{words}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}"><path d="{path}"/></svg>'
    )


def _lead(summaries: list[StudySummary]) -> str:
    if not summaries:
        return "No study could be read."
    states = [summary.study.info["state"] for summary in summaries]
    counts = listed(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    spent = sum(summary.seconds for summary in summaries)
    trials = sum(len(summary.study.trials) for summary in summaries)
    count = counted(len(summaries), "studie").replace("1 studie", "1 study")
    return f"{count} ({counts}) with {counted(trials, 'trial')} and {duration(spent)} of training."


def _legend(kinds: list[StudyGroup]) -> str:
    if len(kinds) < 2:
        return ""
    lines = "".join(
        f"<li><b>{group.letter}</b> {escape(short_metric(group.key[0]))}, protocol "
        f"<code>{escape(group.key[1])}</code>, data <code>{escape(group.key[2])}</code></li>"
        for group in kinds
    )
    return f'<ul class="groups">{lines}</ul>'


def _row(summary: StudySummary, group: StudyGroup, pages: dict[Path, str]) -> str:
    study, info = summary.study, summary.study.info
    page = pages.get(study.folder.root)
    name = escape(summary.name)
    link = f'<a href="{escape(page)}">{name}</a>' if page else name
    data = info["data"].get("name", "")
    family = {"gan": "GAN", "vae": "VAE"}.get(str(info.get("family")), "model")
    states = " ".join(
        f'<span class="state state-{state}"><i>{STATE_LOOKS[str(state)].glyph}</i>{count} '
        f"{STATE_LOOKS[str(state)].text}</span>"
        for state, count in state_counts(study).items()
    )
    state, started = str(info["state"]), info.get("started")
    when = f"{datetime.fromtimestamp(started, UTC):%Y-%m-%d<br> %H:%M}" if started else ABSENT
    sign = arrow(info["objective"]["direction"])
    basis = f"mean over {counted(summary.seeds, 'new seed')}" if summary.seeds else "one seed"
    spread = f" ± {number(summary.sd, 2)}" if summary.sd == summary.sd else ""
    best = (
        f"<strong>{number(summary.value)}</strong>{spread}" if summary.best is not None else ABSENT
    )
    where = f"trial {summary.best}, {basis}" if summary.best is not None else "no value yet"
    cells = [
        f"{link}<small>{family} on {escape(str(data))}</small>",
        _thumbnail(summary),
        badge(state),
        f"{len(study.trials)}<small>{states}</small>",
        f"{best}<small>{escape(short_metric(study.metric))} {sign} <b>{group.letter}</b>, {where}"
        "</small>",
        svg_sparkline(summary),
        f'<span class="whole">{duration(summary.seconds)}</span>'
        f"<small>{number(summary.kimg)} kimg</small>",
        f'<span class="whole">{when}</span>',
    ]
    keys = {
        "study": summary.name, "state": state, "trials": len(study.trials),
        "value": summary.value, "seconds": summary.seconds, "started": started or 0,
    }  # fmt: skip
    attributes = "".join(
        f' data-{key}="{escape(str(value))}"'
        for key, value in keys.items()
        if value is not None and str(value) != "nan"
    )
    # A phone has no head above the cells.
    labels = {3: "Trials", 4: "Best", 6: "Training", 7: "Started"}
    body = "".join(
        f'<td data-label="{labels[at]}">{cell}</td>'
        if at in labels
        else f"<td{' class=blank' if cell == ABSENT else ''}>{cell}</td>"
        for at, cell in enumerate(cells)
        if at
    )
    return f'<tr{attributes}><th scope="row">{cells[0]}</th>{body}</tr>'


def _thumbnail(summary: StudySummary) -> str:
    grids = (
        summary.study.folder.trial(summary.best).all_samples() if summary.best is not None else {}
    )
    if not grids:
        return ABSENT
    at = float(summary.study.trials.set_index("trial")["best_kimg"].to_dict()[summary.best])
    kimg = nearest_milestone(grids, at)
    picture = tiles_picture(grids[kimg], 4)
    if picture is None:
        return ABSENT
    alt = f"samples of trial {summary.best} of {summary.name}"
    return f'<img class="thumb" alt="{escape(alt)}" src="{picture.uri}" width="128" height="64">'
