"""Durations as a user writes and reads them: 90s, 1h30m, 2d."""

import math
import re

from raygen.errors import InputError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PART = r"(\d+(?:\.\d+)?)([smhd])"


def seconds_in(text: str) -> float | None:
    """Return the seconds in "90s", "45m", "1h30m", "1.5h" or "2d"; None if it is no duration."""
    if not re.fullmatch(f"(?:{PART})+", text):
        return None
    seconds = sum(float(number) * UNITS[unit] for number, unit in re.findall(PART, text))
    return seconds if math.isfinite(seconds) else None


def parse_duration(text: str) -> float:
    """Return the seconds in what `--time` was given.

    Raises:
        InputError: it is no duration.
    """
    seconds = seconds_in(text)
    if seconds is None:
        raise InputError(f"--time {text}: is not a time such as 90s, 45m, 1h30m, 8h or 2d")
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
    """A duration at a glance, in at most two units: 42s, 12m, 3h05m, 2d04h."""
    minutes = int(seconds // 60)
    if seconds < 100:
        return f"{int(seconds)}s"
    if minutes < 100:
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"
