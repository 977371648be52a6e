"""The table of a running search: the best, running and ended trials, and the time left."""

import math
import time

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raygen.document import flatten
from raygen.progress.board import Board, Running
from raygen.words import counted, duration

ROWS = 12  # running trials that are shown
BLOCKS = "▁▂▃▄▅▆▇█"
TREND = 24  # of the values that were the best so far


def live_table(board: Board) -> RenderableType:
    """Everything at a glance; fits a terminal of 80 columns and 24 lines."""
    now = time.monotonic()
    lines: list[RenderableType] = [_head(board, now)]
    best = _best(board)
    if best is not None:
        lines.append(best)
    lines.append(Text(f"trials  {counts(board)}"))
    if board.machines:
        lines.append(Text(f"on      {board.machines}", style="dim"))
    if board.running:
        lines.append(_running(board, now))
    elif board.phase:
        lines.append(Text(board.phase, style="dim"))
    return Group(*lines)


def block_sparkline(values: list[float], minimise: bool) -> str:
    """One block per value; the tallest is the best."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    heights = [(high - v if minimise else v - low) / span for v in values[-TREND:]]
    return "".join(BLOCKS[round(height * (len(BLOCKS) - 1))] for height in heights)


def counts(board: Board) -> str:
    """Trials by state, and diverged ones by reason."""
    copies = board.trials.copies
    parts = [f"{board.ended}/{board.spec.budget.trials} ended"]
    parts += [f" ({counted(copies, 'copy', 'copies')})"] if copies else []
    counts = [f"{count} {state.replace('_', ' ')}" for state, count in board.states.most_common()]
    reasons = ", ".join(f"{count} {reason}" for reason, count in board.reasons.most_common(3))
    if counts:
        parts.append(": " + ", ".join(counts) + (f" ({reasons})" if reasons else ""))
    again = sum(row.of is not None for row in board.running.values())
    running = f"; {len(board.running)} running" if board.running else ""
    return "".join(parts) + running + (f" ({again} with new seeds)" if again else "")


def left(board: Board) -> str:
    """The time left, by trend and by budget; "" while unknown."""
    trend, budget = board.left(), board.budget_left()
    estimates = [] if trend is None else [f"about {duration(trend)} left"]
    estimates += [] if budget is None else [f"{duration(budget)} by budget"]
    return ", ".join(estimates)


def _head(board: Board, now: float) -> Text:
    arrow = "↓" if board.minimise else "↑"
    text = Text(f"{board.spec.family}  {board.metric} {arrow}  ", style="bold")
    text.append(duration(now - board.began), style="not bold")
    estimate = left(board)
    text.append(f"  {estimate}" if estimate else "", style="dim not bold")
    return text


def _best(board: Board) -> Text | None:
    best = board.best()
    if best is None:
        return None
    trial, value = best
    kind = " over new seeds" if board.means else board.provisional
    text = Text(f"best    {value:.5g}", style="green")
    text.append(f"  trial {trial}{kind}  {block_sparkline(board.trend, board.minimise)}")
    settings = flatten(board.trials[trial].config)
    suggested = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items()
        if any(parameter.setting == key for parameter in board.study.parameters)
    )
    text.append(f"\n        {suggested}" if suggested else "", style="dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _running(board: Board, now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("trial", justify="right")
    table.add_column("rung", justify="right")
    table.add_column("kimg", justify="right")
    table.add_column("")
    table.add_column("img/s", justify="right")
    table.add_column(board.metric if len(board.metric) < 18 else "value", justify="right")
    table.add_column("for", justify="right")
    shown = sorted(board.running.values(), key=lambda row: -row.kimg)
    for row in shown[:ROWS]:
        table.add_row(*_row(board, row, now))
    if len(shown) > ROWS:
        table.add_row("", "", f"and {len(shown) - ROWS} more")
    return table


def _row(board: Board, running: Running, now: float) -> tuple[str, ...]:
    full = board.spec.budget.kimg
    done = round(8 * min(running.kimg / full, 1.0))
    speed = "" if math.isnan(running.speed) else f"{running.speed:,.0f}"
    value = "" if running.value is None else f"{running.value:.5g}"
    name = str(running.trial) if running.of is None else f"{running.trial} (of {running.of})"
    return (
        name,
        f"{running.rung}/{len(board.spec.rungs)}",
        f"{running.kimg:.4g}/{full:g}",
        "━" * done + "·" * (8 - done),
        speed,
        value,
        duration(now - running.since),
    )
