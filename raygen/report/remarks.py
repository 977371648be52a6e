"""What charts say about trials that they leave out; "" where they leave out none."""

from raygen.report.tables import DRAWN, drawn
from raygen.results import Results
from raygen.words import counted


def thinned(study: Results, most: int | None = None) -> str:
    """Which trials a chart draws, if not all."""
    shown = len(drawn(study, most))
    if shown == len(study.trials):
        return ""
    return (
        f"{shown:,} of {len(study.trials):,} trials are drawn: the best {(most or DRAWN) // 2} and "
        "an even sample of the others. Filters, the table and downloads use all."
    )


def unseen(study: Results) -> str:
    """How many trials have no value to draw."""
    missing = int(study.trials["value"].isna().sum())
    if not missing:
        return ""
    return f"Not shown: {counted(missing, 'trial')} without a value."
