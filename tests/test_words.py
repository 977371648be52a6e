"""Durations: one reader for every option, and what is written reads back."""

from pathlib import Path

import pytest

from raygen.errors import InputError
from raygen.seeds import numbered
from raygen.status import status
from raygen.words import duration, parse_duration, seconds_in
from report.journals import make_info, write_study

TEXTS = ["90s", "45m", "1.5h", "1h30m", "0.5d", "3d04h", "30m1h", "1 h 30 min", "2 d 4 h"]


@pytest.mark.parametrize("text", TEXTS)
def test_what_time_reads_at_reads_too(tmp_path: Path, text: str) -> None:
    folder = write_study(tmp_path, make_info(), [])
    opened = status(folder, at="#1")["at"]

    assert status(folder, at=text)["at"] == pytest.approx(opened + parse_duration(text))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.14, "3.1 s"), (59.6, "1 min"), (192, "3 min 12 s"), (19_200, "5 h 20 min"),
     (86_400 * 3 + 3600 * 4, "3 d 4 h")],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("seconds", [0, 59, 60, 3599, 3600, 86399, 90000, 10**7])
def test_what_is_written_reads_back_to_within_its_last_unit(seconds: int) -> None:
    text = duration(seconds)
    read = seconds_in(text)

    assert read is not None
    assert read <= seconds < read + (3600 if "d" in text else 60 if "h" in text else 1)


@pytest.mark.parametrize("text", ["", "12", "h", "1h x", "-5s", "1.h", "9" * 400 + "d"])
def test_what_is_no_finite_duration_is_none(text: str) -> None:
    assert seconds_in(text) is None
    with pytest.raises(InputError):
        parse_duration(text)


def test_numbered_seeds_of_neighbouring_studies_do_not_meet() -> None:
    seeds = {numbered(seed, number) for seed in range(3) for number in range(1000)}

    assert len(seeds) == 3000
