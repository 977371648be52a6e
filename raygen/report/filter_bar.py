"""The bar that filters every chart, picture and table of the page at once."""

from raygen.report.labels import STATE_LOOKS
from raygen.report.tables import state_counts
from raygen.results import Results


def filter_bar(study: Results) -> str:
    """States, the best share, a text; what is left, and its download. "" without trials."""
    if study.trials.empty:
        return ""
    chips = "".join(
        f'<button type="button" class="chip state-{state}" data-state="{state}" '
        f'aria-pressed="true"><i>{STATE_LOOKS[str(state)].glyph}</i> '
        f"{STATE_LOOKS[str(state)].text} <b>{count}</b></button>"
        for state, count in state_counts(study).items()
    )
    return (
        '<details id="bar" class="needs-js"><summary>Filter: '
        '<output id="shown" class="count" aria-live="polite"></output></summary>'
        '<div role="search" aria-label="Filter trials">'
        f'<span class="chips">{chips}</span>'
        '<label class="top">best <input type="range" id="best-share" min="1" max="100" value="100">'
        '<output id="best-share-text">all</output></label>'
        '<input type="search" id="filter" placeholder="search trials" '
        'aria-label="search trials in every column">'
        '<button type="button" id="clear-all" class="unused">clear all</button>'
        '<span class="end"><button type="button" class="toggle-button" id="drag-zoom" '
        'aria-pressed="false" title="when off, dragging in a chart filters">drag to zoom</button>'
        '<button type="button" data-download="csv" title="download the trials shown">CSV</button>'
        '<button type="button" data-download="json" title="the same with reports">JSON</button>'
        "</span></div></details>"
    )
