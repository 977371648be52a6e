"""How a study stands, in words."""

from collections.abc import Mapping
from typing import Any

from raygen.words import elapsed


def status_text(found: Mapping[str, Any]) -> str:
    """What `status` returned, for a terminal."""
    metric = found["objective"]["metric"]
    session = f", session {found['sessions']}" if found["sessions"] > 1 else ""
    reason = f": {found['reason']}" if found["reason"] else ""
    rows = [(found["study"], [f"{found['state']}, {elapsed(found['seconds'])}{session}{reason}"])]
    rows.append(("trials", [counted(found["trials"]) or "none yet"]))
    word = "running" if found["state"] == "running" else "unfinished"
    rows.append((word, [_running_line(each) for each in found["running"]]))
    if found["best"]:
        rows.append(("best", [_best_line(metric, found["best"])]))
    if found["model"]:
        rows.append(("model", [_model_line(metric, found["model"])]))
    if found["front"] is not None:
        rows.append(("front", [", ".join(f"trial {trial}" for trial in found["front"]) or "none"]))
    limits = [f"{n} {short(b['used'])} of {short(b['limit'])}" for n, b in found["budget"].items()]
    rows.append(("budget", [", ".join(limits)] if limits else []))
    retries = found["retries"]
    if retries["used"]:
        row = retries["in_a_row"]
        most = f", of one trial at most {row} in a row" if row else ""
        rows.append(("retries", [f"{retries['used']}{most}"]))
    rows.append(("finalists", [_finalist_line(each) for each in found["finalists"]]))
    if found["advice"]:
        rows.append(("early values", [line for line in found["advice"].values() if line]))
    if found["command"]:
        rows.append(("go on with", [found["command"]]))
    width = max(12, *(len(name) for name, lines in rows if lines)) + 2
    return "\n".join(
        f"{name if first else '':<{width}}{line}"
        for name, lines in rows
        for first, line in ((place == 0, line) for place, line in enumerate(lines))
    )


def _running_line(each: Mapping[str, Any]) -> str:
    full = f"/{each['budget']:g}" if each["budget"] else ""
    repeats = f" (repeats trial {each['of']})" if each["of"] is not None else ""
    attempt = f", attempt {each['attempt']}" if each["attempt"] > 1 else ""
    node = f" on {each['node']}" if each["node"] else ""
    return (
        f"trial {each['trial']}{repeats}  {each['kimg']:g}{full} kimg{node}{attempt}, "
        f"last heard of {elapsed(each['silent'])} ago"
    )


def _best_line(metric: str, best: Mapping[str, Any]) -> str:
    if "mean" in best:
        seeds = f"{best['seeds']} other seed{'s' if best['seeds'] > 1 else ''}"
        return (
            f"{metric} {short(best['mean'])} by trial {best['trial']}, mean of {seeds} "
            f"({short(best['value'])} in the search)"
        )
    early = "" if best["state"] == "completed" else f" ({best['state']})"
    return (
        f"{metric} {short(best['value'])} by trial {best['trial']} at {best['kimg']:g} kimg{early}"
    )


def _model_line(metric: str, model: Mapping[str, Any]) -> str:
    text = f"{model['words']}: {metric} {short(model['value'])} when chosen"
    if model["afresh"] is not None:
        text += f", {short(model['afresh'])} measured afresh"
    return text + (f"; do not use it: it {model['failed']}" if model["failed"] else "")


def _finalist_line(each: Mapping[str, Any]) -> str:
    text = f"trial {each['trial']}  {short(each['single'])} in the search"
    if not each["seeds"]:
        return f"{text}, no other seed yet"
    text += f", {short(each['mean'])} over {each['seeds']} other seeds"
    if each["low"] is not None:
        text += f" (95 %: {short(each['low'])} to {short(each['high'])})"
    if each["best"] is not None:
        text += f", the best with probability {each['best']:.2f}"
    return text + (f", {each['collapsed']:.0%} diverged" if each["collapsed"] else "")


def measured(values: Mapping[str, Mapping[str, Any]]) -> str:
    """What a finalist's best weights are worth, measured in full."""
    parts = []
    for metric, found in values.items():
        error = f" ± {found['sd']:.2g}" if found["sd"] else ""
        value = "not finite" if found["value"] is None else short(found["value"])
        parts.append(f"{metric} {value}{error}")
    draws = max(len(found["each"]) for found in values.values())
    return f"{', '.join(parts)} over {draws} draw{'s' if draws > 1 else ''} of samples"


def counted(states: Mapping[Any, int]) -> str:
    """How many trials are in each state."""
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())


def short(value: Any) -> str:
    """A value of the journal in five digits."""
    if isinstance(value, list):
        return " / ".join(map(short, value))
    if isinstance(value, float):
        return f"{value:.5g}"
    return "—" if value is None else str(value)
