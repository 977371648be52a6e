"""The table of all trials, readable without JavaScript, which sorts and filters it."""

from html import escape
from typing import Any

from raygen.report.labels import STATE_LOOKS, number, setting, short_metric, short_names
from raygen.report.tables import varying
from raygen.results import Results, ranked
from raygen.words import duration

MOST = 1000  # rows in the page; more make a browser slow, and the page builds others when asked


def trials_table(study: Results) -> str:
    """One row per trial: state, value, cost, every setting that varied, reason.

    Under a finalist is a row for each of its trainings with a new seed.
    """
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
    again = _replicate_rows(study, len(settings))
    rows = "".join(
        _row(values, len(settings), starts) + again.get(values[0], "")
        for values in zip(*columns, strict=True)
    )
    return (
        '<div class="scroll tall" tabindex="0" role="group" aria-label="Table of trials">'
        f'<table class="trials" id="trials-table" data-most="{MOST}"><thead><tr>'
        f"{top}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(values: tuple[Any, ...], settings: int, starts: int) -> str:
    trial, state, *numbers = values[:6]
    searched = "".join(f"<td>{escape(setting(value))}</td>" for value in values[6 : 6 + settings])
    return (
        f'<tr id="trial-{trial}" data-trial="{trial}" data-state="{state}">'
        f'<td><a href="#trial-{trial}">{"⚑ " if trial < starts else ""}{trial}</a></td>'
        f'<td class="strip-cell needs-js"></td>{_result(state, *numbers)}{searched}'
        f"{_reason(values[-1])}</tr>"
    )


def _replicate_rows(study: Results, settings: int) -> dict[int, str]:
    """The rows of the trainings with new seeds, by the finalist whose settings they have."""
    rows: dict[int, list[str]] = {}
    for row in study.replicates.to_dict("records"):
        of, trial, seed = (int(row[key]) for key in ("of", "trial", "seed"))
        numbers = [float(row[key]) for key in ("value", "best_kimg", "kimg", "seconds")]
        same = f'<td colspan="{settings}" class="as">settings of trial {of}</td>'
        place = len(rows.setdefault(of, [])) + 1
        rows[of].append(
            f'<tr class="replicate" data-of="{of}">'
            f'<td title="trial {trial}, seed {seed}">↳ new seed {place}</td>'
            f'<td class="needs-js"></td>{_result(str(row["state"]), *numbers)}'
            f"{same if settings else ''}{_reason(row['reason'])}</tr>"
        )
    return {of: "".join(these) for of, these in rows.items()}


def _result(state: str, value: float, best_kimg: float, kimg: float, seconds: float) -> str:
    look = STATE_LOOKS[state]
    cells = [number(value), number(best_kimg), number(kimg), duration(seconds)]
    return f'<td class="state state-{state}"><i>{look.glyph}</i> {look.text}</td>' + "".join(
        f"<td>{cell}</td>" for cell in cells
    )


def _reason(reason: Any) -> str:
    text = escape(str(reason or ""))
    return f'<td class="reason" title="{text}">{text}</td>'
