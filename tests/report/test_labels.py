"""Names and numbers as a reader sees them."""

import math

import pytest

from raygen.report.labels import listed, metric_label, number, setting, short_names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.3456, "12.35"), (0.00021, "2.1e-4"), (20480, "20,480"), (0.5, "0.5"), (0, "0"),
        (-1234.5678, "-1,235"), (1e-5, "1e-5"), (3.2e8, "3.2e8"), (math.nan, "—"), (None, "—"),
        (math.inf, "∞"),
    ],
)  # fmt: skip
def test_a_number_keeps_the_digits_that_matter(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_setting_reads_as_in_yaml() -> None:
    assert [setting(value) for value in (64.0, 20480, True, "hinge", [1, 2], None)] == [
        "64", "20480", "true", "hinge", "[1, 2]", "—",
    ]  # fmt: skip


def test_short_names_are_unique_and_never_a_bare_name() -> None:
    names = ["loss.name", "model.name", "generator.optimizer.lr", "critic.optimizer.lr", "seed"]

    assert list(short_names(names).values()) == [
        "loss.name", "model.name", "generator.optimizer.lr", "critic.optimizer.lr", "seed",
    ]  # fmt: skip
    assert short_names(["model.width", "loss.weight"])["model.width"] == "width"


def test_an_unknown_metric_is_shown_raw() -> None:
    assert metric_label("my_score") == "my_score"
    assert listed(["a", "b", "c"]) == "a, b and c"
