"""What the page needs to know of a chart: its name, and how to draw it from a study."""

from collections.abc import Callable
from typing import NamedTuple

import plotly.graph_objects as go

from raygen.results import Results


class Chart(NamedTuple):
    """One chart; `name` is what a section calls it: `blocks.chart(name, …)` is its place."""

    name: str
    draw: Callable[[Results], go.Figure]
