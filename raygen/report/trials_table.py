"""The table of all trials, readable without JavaScript, which sorts and filters it."""

from html import escape
from typing import Any

from raygen.report.labels import (
    STATE_LOOKS,
    duration,
    number,
    setting,
    short_metric,
    short_names,
)
from raygen.report.tables import varying
from raygen.results import Results, ranked

MOST = 1000  # rows in the page; more make a browser slow, and the page builds others when asked


def trials_table(study: Results) -> str:
    """One row per trial: state, value, cost, every setting that varied, reason."""
    settings = [parameter.name for parameter in varying(study)]
    short = short_names(settings)
    heads = [("trial", "trial"), ("state", "state"), ("value", short_metric(study.metric)),
             ("best_kimg", "best at kimg"), ("kimg", "trained kimg"), ("seconds", "time"),
             *((n, short[n]) for n in settings), ("reason", "reason")]  # fmt: skip
    top = "".join(
        f'<th scope="col" aria-sort="none" title="{escape(key)}">'
        f'<button type="button" class="sort" data-key="{escape(key)}">{escape(text)}</button></th>'
        for key, text in heads
    )
    top = top.replace("</th>", '</th><th scope="col" class="needs-js">samples</th>', 1)
    order = list(dict.fromkeys([*ranked(study)["trial"], *study.trials["trial"]]))[:MOST]
    shown = study.trials.set_index("trial", drop=False).loc[order]
    starts = int(study.info.get("start_trials") or 0)
    columns = [shown[key].tolist() for key, _ in heads]
    rows = "".join(_row(values, len(settings), starts) for values in zip(*columns, strict=True))
    return (
        '<div class="scroll tall" tabindex="0" role="group" aria-label="Table of trials">'
        f'<table class="trials" id="trials-table" data-most="{MOST}"><thead><tr>'
        f"{top}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(values: tuple[Any, ...], settings: int, starts: int) -> str:
    trial, state, value, best_kimg, kimg, seconds = values[:6]
    look = STATE_LOOKS[state]
    cells = [number(value), number(best_kimg), number(kimg), duration(seconds)]
    cells += [escape(setting(value)) for value in values[6 : 6 + settings]]
    reason = escape(str(values[-1] or ""))
    return (
        f'<tr id="trial-{trial}" data-trial="{trial}" data-state="{state}">'
        f'<td><a href="#trial-{trial}">{"⚑ " if trial < starts else ""}{trial}</a></td>'
        '<td class="strip-cell needs-js"></td>'
        f'<td class="state state-{state}"><i>{look.glyph}</i> {look.text}</td>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f'<td class="reason" title="{reason}">{reason}</td></tr>'
    )
