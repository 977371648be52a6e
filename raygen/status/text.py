"""The progress of a study, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from raygen.words import counted, duration, kimg_text


def status_text(facts: Mapping[str, Any]) -> str:
    """What `status` returned, for a terminal."""
    metric = facts["objective"]["metric"]
    session = f", session {facts['sessions']}" if facts["sessions"] > 1 else ""
    reason = f": {facts['reason']}" if facts["reason"] else ""
    rows = [(facts["study"], [f"{facts['state']}, {duration(facts['seconds'])}{session}{reason}"])]
    rows.append(("trials", [states_text(facts["trials"]) or "none yet"]))
    word = "running" if facts["state"] == "running" else "unfinished"
    rows.append((word, [_running_line(trial) for trial in facts["running"]]))
    if facts["best"]:
        rows.append(("best", [_best_line(metric, facts["best"])]))
    if facts["model"]:
        rows.append(("model", [_model_line(metric, facts["model"])]))
    if facts["front"] is not None:
        rows.append(("front", [", ".join(f"trial {trial}" for trial in facts["front"]) or "none"]))
    limits = [
        f"{name} {_amount(name, limit['used'])} of {_amount(name, limit['limit'])}"
        for name, limit in facts["budget"].items()
    ]
    rows.append(("budget", [", ".join(limits)] if limits else []))
    if facts["evaluating"] is not None:
        rows.append(("evaluations", [f"{facts['evaluating']:.0%} of the training time"]))
    retries = facts["retries"]
    if retries["used"]:
        row = retries["in_a_row"]
        most = f", at most {row} in a row for one trial" if row else ""
        rows.append(("retries", [f"{retries['used']}{most}"]))
    if facts["moved"]:
        rows.append(("moved", [f"{counted(facts['moved'], 'time')}, saved"]))
    rows.append(("finalists", _finalist_lines(facts["finalists"])))
    if facts["advice"]:
        rows.append(("early values", [line for line in facts["advice"].values() if line]))
    if facts["command"]:
        rows.append(("resume with", [facts["command"]]))
    width = max(12, *(len(name) for name, lines in rows if lines)) + 2
    return "\n".join(
        f"{name if first else '':<{width}}{line}"
        for name, lines in rows
        for first, line in ((place == 0, line) for place, line in enumerate(lines))
    )


def _amount(budget: str, amount: float | None) -> str:
    return duration(3600 * amount) if budget == "hours" and amount else five_digits(amount)


def _running_line(trial: Mapping[str, Any]) -> str:
    full = f"/{trial['budget']:g}" if trial["budget"] else ""
    repeats = f" (replicate of {trial['of']})" if trial["of"] is not None else ""
    attempt = f", attempt {trial['attempt']}" if trial["attempt"] > 1 else ""
    node = f" on {trial['node']}" if trial["node"] else ""
    return (
        f"trial {trial['trial']}{repeats}  {kimg_text(trial['kimg'])}{full} kimg{node}{attempt}, "
        f"last seen {duration(trial['silent'])} ago"
    )


def _best_line(metric: str, best: Mapping[str, Any]) -> str:
    if "mean" in best:
        seeds = counted(best["seeds"], "new seed")
        return (
            f"{metric} {five_digits(best['mean'])} by trial {best['trial']}, mean over {seeds} "
            f"({five_digits(best['value'])} in the search)"
        )
    early = "" if best["state"] == "completed" else f" ({best['state']})"
    value, place = five_digits(best["value"]), f"at {kimg_text(best['kimg'])} kimg"
    return f"{metric} {value} by trial {best['trial']} {place}{early}"


def _model_line(metric: str, model: Mapping[str, Any]) -> str:
    text = f"{model['words']}: {metric} {five_digits(model['value'])} during training"
    if model["afresh"] is not None:
        text += f", {five_digits(model['afresh'])} on new samples"
        text += "".join(f"; not measured: {reason}" for reason in model["left_out"].values())
    return text + (f"; do not use it: it {model['failed']}" if model["failed"] else "")


def _finalist_lines(finalists: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_finalist_line(finalist, alone=len(finalists) == 1) for finalist in finalists]


def _finalist_line(finalist: Mapping[str, Any], alone: bool) -> str:
    text = f"trial {finalist['trial']}  {five_digits(finalist['single'])} in the search"
    if not finalist["seeds"]:
        return f"{text}, no new seed yet"
    text += f", {five_digits(finalist['mean'])} over {counted(finalist['seeds'], 'new seed')}"
    if finalist["low"] is not None:
        text += f" (95%: {five_digits(finalist['low'])} to {five_digits(finalist['high'])})"
    if finalist["best"] is not None and not alone:
        text += f", the best with probability {finalist['best']:.2f}"
    return text + (f", {finalist['collapsed']:.0%} diverged" if finalist["collapsed"] else "")


def measured(values: Mapping[str, Mapping[str, Any]]) -> str:
    """A finalist's best weights, measured in full."""
    parts = []
    for metric, measured in values.items():
        error = f" ± {measured['sd']:.2g}" if measured["sd"] else ""
        value = "not finite" if measured["value"] is None else five_digits(measured["value"])
        parts.append(f"{metric} {value}{error}")
    draws = max(len(measured["each"]) for measured in values.values())
    return f"{', '.join(parts)} over {counted(draws, 'draw')} of samples"


def states_text(states: Mapping[Any, int]) -> str:
    """How many trials are in each state."""
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())


def five_digits(value: Any) -> str:
    """A value from the journal in five digits."""
    if isinstance(value, list):
        return " / ".join(map(five_digits, value))
    if isinstance(value, float):
        return f"{value:.5g}"
    return "—" if value is None else str(value)
