"""Human names of metrics, states and settings, and how numbers are written."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from raygen.metrics import METRICS
from raygen.words import ABSENT as ABSENT


class StateLook(NamedTuple):
    """How a trial state is shown: never by colour alone."""

    text: str
    glyph: str  # in tables and chips
    symbol: str  # the same shape, by its plotly name
    colour: str  # Okabe and Ito 2008; page.css overrides it for the dark scheme


STATE_LOOKS = {
    "completed": StateLook("completed", "●", "circle", "#0072B2"),
    "stopped": StateLook("stopped early", "✕", "x", "#E69F00"),
    "diverged": StateLook("diverged", "▲", "triangle-up", "#D55E00"),
    "out_of_memory": StateLook("out of memory", "■", "square", "#CC79A7"),
    "failed": StateLook("failed", "◆", "diamond", "#000000"),
    "lost": StateLook("lost", "▼", "triangle-down", "#56B4E9"),
    "interrupted": StateLook("interrupted", "◀", "triangle-left", "#8C7A00"),
    "paused": StateLook("paused at a rung", "⧗", "hourglass", "#7A5195"),
    "running": StateLook("running", "○", "circle-open", "#009E73"),
}


def metric_label(name: str) -> str:
    """Full human name of a metric; an unknown name is shown as it is."""
    return METRICS[name].label if name in METRICS else name


def short_metric(name: str) -> str:
    """Name of a metric for a table column."""
    return (METRICS[name].short or METRICS[name].label) if name in METRICS else name


def arrow(direction: str | None) -> str:
    """Return ↓ when lower is better, ↑ when higher is, nothing if unknown."""
    return {"minimize": "↓", "maximize": "↑"}.get(direction or "", "")


def direction_words(direction: str) -> str:
    """Words for a direction."""
    return "lower is better" if direction == "minimize" else "higher is better"


def number(value: float | None, digits: int = 4) -> str:
    """A number with sensible significant digits: 0.00021, 12.34, 20,480, 1e-5."""
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-3:
        mantissa, exponent = f"{value:.{digits - 2}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}"
    if size >= 10 ** (digits - 1) or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def setting(value: Any) -> str:
    """A setting's value as text; absent in this branch of the space -> "—"."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    # numpy's bool is not a Python bool
    if type(value).__name__ in ("bool", "bool_"):
        return "true" if value else "false"
    if hasattr(value, "__float__") and not isinstance(value, str):
        return number(float(value)).replace(",", "")
    return str(value)


def percent(share: float) -> str:
    """0.413 -> "41%"; a small share keeps one decimal."""
    return f"{100 * share:.1f}%" if 0 < share < 0.0995 else f"{100 * share:.0f}%"


def interval_words(low: float, high: float) -> str:
    """The interval of a mean, to append to it; "" if it is unknown."""
    if math.isnan(low):
        return ""
    return f" (95% interval {number(low)} to {number(high)})"


def listed(items: Iterable[str]) -> str:
    """a, b and c."""
    words = list(items)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}"


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Shortest unambiguous ending of each dotted name; a bare ".name" keeps its parent."""
    full = list(names)
    short: dict[str, str] = {}
    for name in full:
        parts = name.split(".")
        for length in range(2 if parts[-1] == "name" else 1, len(parts) + 1):
            ending = parts[-length:]
            if sum(other.split(".")[-length:] == ending for other in full) == 1:
                break
        else:
            ending = parts
        short[name] = ".".join(ending)
    return short


def state_words(state: str) -> str:
    """The state of a study as a predicate: "is running", "was interrupted", "has crashed"."""
    verb = {"crashed": "has", "failed": "has", "interrupted": "was"}.get(state, "is")
    return f"{verb} {state}"
