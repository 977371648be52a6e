"""The records of a study up to a moment."""

import time
from datetime import datetime
from itertools import takewhile

from raygen.errors import InputError
from raygen.journal import Record
from raygen.words import seconds_in

MOST = 40  # characters of a wrong text that are shown again
FORMS = (
    'a time ("2026-11-22T20:10:05"), the time since the study was opened ("90s", "12m", "1h30m") '
    'or the number of a record ("#120")'
)


def until(records: list[Record], at: str | None) -> tuple[list[Record], float]:
    """The records up to a time, and that time in unix seconds; now without one."""
    if at is None:
        return records, time.time()
    opened = records[0].time or 0.0
    if at.startswith("#"):
        number = int(at[1:]) if at[1:].isdecimal() and len(at) < 12 else 0
        if not 1 <= number <= len(records):
            raise InputError(f"--at {at}: the records of this study are #1 to #{len(records)}")
        return records[:number], records[number - 1].time or 0.0
    since = seconds_in(at)
    if since is not None:
        moment = opened + since
    else:
        try:
            moment = datetime.fromisoformat(at).timestamp()
        except (ValueError, OverflowError) as error:
            text = at if len(at) <= MOST else f"{at[:MOST]}…"
            raise InputError(f"--at {text}: must be {FORMS}") from error
    if moment < opened:
        when = datetime.fromtimestamp(opened).isoformat(timespec="seconds")
        raise InputError(f"--at {at}: the study was opened later, at {when}")
    return list(takewhile(lambda record: (record.time or 0.0) <= moment, records)), moment
