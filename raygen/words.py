"""Numbers as a user writes and reads them: durations (90s, 1h30m, 2 d 4 h) and kimg."""

import math
import re

from raygen.errors import InputError

ABSENT = "—"  # where a value is not known
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
PART = r"(\d+(?:\.\d+)?) ?(s|min|m|h|d) ?"


def counted(n: int, noun: str, plural: str = "") -> str:
    """1 trial, 3 trials; 2 copies where the plural is given."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {plural or f'{noun}s'}"


def kimg_text(kimg: float) -> str:
    """Return kimg as a person would say it: 24, 0.222, 2.67, 133.3, 1333."""
    return f"{kimg:.3g}" if kimg < 100 else f"{kimg:.4g}" if kimg < 1000 else f"{kimg:.0f}"


def seconds_in(text: str) -> float | None:
    """Return the seconds in "90s", "1h30m", "1.5h" or "2 d 4 h"; None if it is not a duration."""
    if not re.fullmatch(f"(?:{PART})+", text):
        return None
    seconds = sum(float(number) * UNITS[unit] for number, unit in re.findall(PART, text))
    return seconds if math.isfinite(seconds) else None


def parse_duration(text: str) -> float:
    """Return the seconds in the value of `--time`.

    Raises:
        InputError: it is not a duration.
    """
    seconds = seconds_in(text)
    if seconds is None:
        raise InputError(f"--time {text}: is not a duration such as 90s, 45m, 1h30m, 8h or 2d")
    return seconds


def duration(seconds: float | None) -> str:
    """Seconds as a person would say them: 4.2 s, 3 min 12 s, 5 h 20 min, 3 d 4 h; — if unknown."""
    if seconds is None or math.isnan(seconds):
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
