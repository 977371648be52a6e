"""What a number means: the record that travels with every metric, and its short hash."""

import hashlib
import json
from typing import Any, NamedTuple

Record = dict[str, Any]

# Who was measured, not how: the samples of another project have no seed and no average, and those
# of an unconditional model no labels.
ORIGIN = ("sample_seed", "weights", "source", "labels")


class Score(NamedTuple):
    """A value and how it was measured. Two values compare only if their protocols are equal.

    `sd` is the standard error of the value over other samples of the same model, where it is known;
    `spread` the standard deviation over subsets or splits that papers print beside KID and
    inception score.
    """

    value: float
    protocol: Record
    sd: float | None = None
    spread: float | None = None


def protocol_hash(record: Record) -> str:
    """Return 8 hexadecimal digits that differ whenever two records do."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def comparable(record: Record) -> Record:
    """Return how it was measured, without whose samples they were."""
    return {key: value for key, value in record.items() if key not in ORIGIN}
