"""How much better one value of the objective is than another, in words."""

from raygen.report.labels import number, percent
from raygen.results import Results


def gain(study: Results, value: float, other: float) -> str:
    """How much better `value` is than `other`: "73% lower", "45.2 higher", "5% worse"."""
    difference = other - value if study.minimise else value - other
    if difference == 0:
        return "no difference"
    # A share of a metric that can be negative (elbo) means nothing.
    share = value > 0 and other > 0
    size = percent(abs(difference) / other) if share else number(abs(difference))
    if difference < 0:
        return f"{size} worse"
    return f"{size} {'lower' if study.minimise else 'higher'}"


def against(study: Results, value: float, other: float, name: str) -> str:
    """The gain with what it is measured against: "73% lower than the default"."""
    words = gain(study, value, other)
    return f"{words} {'from' if words == 'no difference' else 'than'} {name}"
