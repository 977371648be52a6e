"""Numbers as a user writes and reads them: durations (90s, 1h30m, 2d) and kimg."""

import math
import re

from raygen.errors import InputError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PART = r"(\d+(?:\.\d+)?)([smhd])"


def counted(n: int, noun: str, plural: str = "") -> str:
    """1 trial, 3 trials; 2 copies where the plural is given."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {plural or f'{noun}s'}"


def kimg_text(kimg: float) -> str:
    """Return kimg as a person would say it: 24, 0.222, 2.67, 133.3, 1333."""
    return f"{kimg:.3g}" if kimg < 100 else f"{kimg:.4g}" if kimg < 1000 else f"{kimg:.0f}"


def seconds_in(text: str) -> float | None:
    """Return the seconds in "90s", "45m", "1h30m", "1.5h" or "2d"; None if it is not a duration."""
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


def elapsed(seconds: float) -> str:
    """A duration to the second, as `--at` reads it: 42s, 3m05s, 1h02m05s, 3d04h."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m{whole % 60:02d}s"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


def short_time(seconds: float) -> str:
    """A duration at a glance: 0:42, 12:05, 3h05m, 2d04h."""
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes}:{int(seconds % 60):02d}"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"
