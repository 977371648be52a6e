"""What the page says of the winner's use: from the two JSON files, or that they are not there."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from raygen.report.page import render_page
from raygen.report.uses import audit_section, augment_section
from raygen.results import Results
from raygen.study_folder import UseFolder
from report.journals import end, paint, report, suggest

Make = Callable[..., Results]
MODEL = {"checkpoint": "best.pt", "checkpoint_hash": "0123456789abcdef", "trial": 0}


@pytest.fixture
def study(make_study: Make) -> Results:
    return make_study([*suggest(0, {"batch_size": 32}), report(0, 2.0, 41.5), end(0)])


def arm(fraction: float, name: str, mean: float, half: float | None) -> dict[str, Any]:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return {"fraction": fraction, "arm": name, "mean": mean, "low": low, "high": high}


def augmented(gains: dict[float, tuple[float, float | None]], **changes: Any) -> dict[str, Any]:
    arms = []
    for fraction, (gain, half) in gains.items():
        arms += [
            arm(fraction, "real", 0.5, half),
            arm(fraction, "generated", 0.25, half),
            arm(fraction, "both", 0.5 + gain, half),
            arm(fraction, "gain", gain, half),
        ]
    classes = [
        {"class": "cat", "real": 0.6, "generated": 0.5, "both": 0.6, "gan_test": 0.4},
        {"class": "<b>dog", "real": 0.6, "generated": 0.1, "both": 0.6, "gan_test": None},
    ]
    settings = {"seeds": 3, "steps": 100, "batch": 128, "samples": 1000}
    found = {"kind": "augment", "model": MODEL, "settings": settings, "labels": "conditional"}
    mean = {"mean": 0.25, "low": 0.2, "high": 0.3}
    return {
        **found,
        "arms": arms,
        "classes": classes,
        "gan_train": mean,
        "gan_test": mean,
    } | changes


def audited(**changes: Any) -> dict[str, Any]:
    tests = {
        "near_duplicates": {"rate": 0.01, "low": 0.005, "high": 0.02, "expected": 0.01, "p": 0.5},
        "exact_copies": 0,
        "nearer_to_train": {"share": 0.5, "low": 0.48, "high": 0.52, "p": 0.5},
        "authentic": {"share": 0.9, "low": 0.88, "high": 0.92, "held_out": 0.91, "p": 0.4},
        "copying": {"z": 0.1, "p": 0.5, "c_t": 0.2, "c_t_p": 0.6},
    }
    both = {name: {**tests, **changes.pop(name, {})} for name in ("pixels", "features")}
    settings = {"samples": 2000, "held_out": 2000, "flip": True}
    member = {"by": "discriminator", "auc": 0.51, "low": 0.49, "high": 0.53}
    facts = {"data": {"train": 50000}, "encoder_test_accuracy": 0.7, "membership_of": {}}
    found = {"kind": "audit", "model": MODEL, "settings": settings, "membership": member}
    return {**found, **facts, "tests": both, **changes}


def write(study: Results, kind: str, found: Any) -> None:
    (study.folder.root / f"{kind}.json").write_text(json.dumps(found))


def test_what_was_not_tested_is_said_with_the_command_that_does(study: Results) -> None:
    for section, command in ((augment_section, "augment"), (audit_section, "audit")):
        lead, body = section(study)
        assert "was not tested" in lead
        assert f"raygen {command} " in lead
        assert body == ""


def test_the_first_sentence_says_where_generated_images_help(study: Results) -> None:
    write(study, "augment", augmented({0.01: (0.05, 0.02), 0.1: (0.0, 0.01), 1.0: (-0.06, 0.01)}))

    lead, body = augment_section(study)

    assert "helps with 1% of the real labels (+5.0%" in lead
    assert "makes no clear difference with 10%" in lead
    assert "harms with 100%" in lead
    assert body.index("&lt;b&gt;dog") < body.index("cat")  # the worst class first, and no markup
    assert "<b>dog" not in body


def test_one_seed_and_pseudo_labels_are_named(study: Results) -> None:
    write(study, "augment", augmented({1.0: (0.2, None)}, labels="pseudo", gan_test=None))

    lead, body = augment_section(study)

    assert "one seed" in lead
    assert "pseudo-labels" in body


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "these tests found no copying of whole images"),
        ({"pixels": {"exact_copies": 3}}, "3 generated images identical to a training image"),
        (
            {"features": {"nearer_to_train": {"share": 0.8, "low": 0.7, "high": 0.9, "p": 1e-9}}},
            "in features, generated images are nearer to training than to held-out",
        ),
        (
            {
                "pixels": {
                    "near_duplicates": {
                        "rate": 0.2, "low": 0.1, "high": 0.3, "expected": 0.01, "p": 1e-9,
                    }
                }
            },
            "blurred or simple",
        ),
    ],
)  # fmt: skip
def test_the_first_sentence_says_what_the_audit_saw(
    changes: dict[str, Any], said: str, study: Results
) -> None:
    write(study, "audit", audited(**changes))

    lead, body = audit_section(study)

    assert said in lead
    assert "Not tested" in body
    assert "private" not in lead + body


def test_the_pairs_and_a_missing_membership_test_are_shown(study: Results) -> None:
    why = {"why_not": "no checkpoint contains the discriminator"}
    write(study, "audit", audited(membership=None, membership_of=why))
    paint(UseFolder(study.folder.root).audit_pairs, 1, 0)

    body = audit_section(study)[1]

    assert "data:image/png;base64" in body
    assert "no checkpoint contains the discriminator" in body


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "audit"}', '{"kind": "augment"}'])
def test_a_damaged_result_costs_its_section_only(text: str, study: Results) -> None:
    for kind in ("augment", "audit"):
        (study.folder.root / f"{kind}.json").write_text(text)

    page = render_page(study)

    assert "augment.json cannot be read" in page
    assert "audit.json cannot be read" in page
