"""What was tested of the winner after the search: does it help a classifier, does it copy?

Read from augment.json and audit.json in the study folder; numbers only, so no torch.
"""

import json
import shlex
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

from raygen.errors import first_line
from raygen.journal.checks import (
    Check,
    Wrong,
    fields,
    flag,
    list_of,
    one_of,
    or_none,
    real_number,
    settings,
    text,
    whole,
)  # fmt: skip
from raygen.report.blocks import scroll
from raygen.report.embedded_pictures import embed_picture
from raygen.report.labels import number, percent
from raygen.results import Results, best_model
from raygen.study_folder import UseFolder
from raygen.words import counted

ARMS = {"real": "real only", "generated": "generated only", "both": "real + generated"}
SPACES = ("pixels", "features")

# What the page shows of the files that `raygen augment` and `raygen audit` write.
_SHARE = or_none(real_number)
_LIMITS: dict[str, Check] = {"low": _SHARE, "high": _SHARE}
_MODEL = fields({"trial": or_none(whole), "checkpoint": text, "checkpoint_hash": text})
_ARM = fields({"fraction": real_number, "arm": text, "mean": real_number, **_LIMITS})


def _arms(value: Any) -> None:
    list_of(_ARM, least=1)(value)
    arms = {(arm["fraction"], arm["arm"]) for arm in value}
    for fraction, name in product({fraction for fraction, _ in arms}, (*ARMS, "gain")):
        if (fraction, name) not in arms:
            raise Wrong({}, f"must have {name} for {_fraction(fraction)} of the labels")


AUGMENT = fields({
    "kind": one_of("augment"),
    "model": _MODEL,
    "settings": fields({"seeds": whole, "steps": whole, "batch": whole, "samples": whole}),
    "labels": one_of("conditional", "pseudo"),
    "arms": _arms,
    "gan_train": fields({"mean": real_number}),
    "classes": list_of(fields({"class": text, "gan_test": _SHARE, **dict.fromkeys(ARMS, _SHARE)})),
})  # fmt: skip
_TESTS = fields({
    "near_duplicates": fields({"rate": real_number, "p": real_number, **_LIMITS}),
    "nearer_to_train": fields({"share": real_number, "p": real_number, **_LIMITS}),
    "authentic": fields({"share": real_number, "held_out": real_number, **_LIMITS}),
    "copying": fields(dict.fromkeys(("c_t", "c_t_p", "z", "p"), real_number)),
    "exact_copies": whole,
})  # fmt: skip
AUDIT = fields({
    "kind": one_of("audit"),
    "model": _MODEL,
    "settings": fields({"samples": whole, "held_out": whole, "flip": flag}),
    "tests": fields(dict.fromkeys(SPACES, _TESTS)),
    "membership": or_none(fields({"by": text, "auc": real_number, **_LIMITS})),
    "membership_of": settings,
    "data": fields({"train": whole}),
    "encoder_test_accuracy": real_number,
})  # fmt: skip


def augment_section(study: Results) -> tuple[str, str]:
    """Whether generated images help to train a classifier."""
    try:
        outcome = _read(UseFolder(study.folder.root).augment, AUGMENT)
    except Wrong as wrong:
        return f"augment.json cannot be read: {wrong}.", ""
    if outcome is None:
        return _missing(study, "augment", "Whether generated images help a classifier")
    return _augment_lead(outcome), _augment_tables(outcome)


def audit_section(study: Results) -> tuple[str, str]:
    """Whether generated images are copies of training images."""
    try:
        outcome = _read(UseFolder(study.folder.root).audit, AUDIT)
    except Wrong as wrong:
        return f"audit.json cannot be read: {wrong}.", ""
    if outcome is None:
        return _missing(study, "audit", "Whether generated images copy training images")
    return _audit_lead(outcome), _audit_table(outcome) + _pairs(study)


def _augment_lead(outcome: dict[str, Any]) -> str:
    rows = {(arm["fraction"], arm["arm"]): arm for arm in outcome["arms"]}
    parts = []
    for fraction in sorted({fraction for fraction, _ in rows}):
        gain = rows[fraction, "gain"]
        parts.append(
            f"{_verdict(gain)} with {_fraction(fraction)} of the real labels ({_signed(gain)})"
        )
    # "helps …, makes no clear difference …"
    train, real = outcome["gan_train"]["mean"], rows[max(f for f, _ in rows), "real"]["mean"]
    return (
        f"Adding generated images {', '.join(parts)}; a classifier trained on generated images "
        f"alone is right on {percent(train)} of the real test images, one trained on real images "
        f"on {percent(real)}."
    )


def _verdict(gain: dict[str, Any]) -> str:
    if gain["low"] is None:
        return "is inconclusive (one seed)"
    if gain["low"] > 0:
        return "helps"
    return "harms" if gain["high"] < 0 else "makes no clear difference"


def _augment_tables(outcome: dict[str, Any]) -> str:
    rows = {(arm["fraction"], arm["arm"]): arm for arm in outcome["arms"]}
    settings = outcome["settings"]
    body = [
        [_fraction(fraction), *(_accuracy(rows[fraction, arm]) for arm in ARMS),
         _signed(rows[fraction, "gain"])]
        for fraction in sorted({fraction for fraction, _ in rows})
    ]  # fmt: skip
    first = _table(["real labels", *ARMS.values(), "gain"], body)
    classes = [
        [row["class"], *(_share(row[key]) for key in (*ARMS, "gan_test"))]
        for row in sorted(outcome["classes"], key=_loss, reverse=True)
    ]
    second = _table(["class", *ARMS.values(), "GAN-test"], classes)
    labels = (
        "Images have the labels they were drawn for; the generator itself was trained on all real "
        "labels, so a gain with few of them partly reflects the others."
        if outcome["labels"] == "conditional"
        else "The model knows no classes: a classifier of the real part labelled its images "
        "(pseudo-labels), and there is no GAN-test."
    )
    note = (
        f"Accuracy on real test images, mean over {settings['seeds']} seeds with 95% "
        f"t-intervals; every classifier was trained for {number(settings['steps'])} steps of "
        f"{settings['batch']} images; {number(settings['samples'])} generated images. Gain: real + "
        f"generated minus real only, paired by seed. {labels} Trained on generated, tested on "
        "real images: GAN-train, also called the classification accuracy score (Ravuri and "
        "Vinyals 2019); the reverse: GAN-test (Shmelkov et al. 2018)."
    )
    return (
        f'{first}<h3>By class, all real labels, worst first</h3>{second}<p class="note">'
        f"{escape(note)} {_model(outcome)}</p>"
    )


def _audit_lead(outcome: dict[str, Any]) -> str:
    tests = [outcome["tests"][name] for name in SPACES]
    count = outcome["settings"]["samples"]
    raised = [
        name for name, test in zip(SPACES, tests, strict=True)
        if test["near_duplicates"]["p"] < 0.01
    ]  # fmt: skip
    nearer = [
        name for name, test in zip(SPACES, tests, strict=True)
        if test["nearer_to_train"]["p"] < 0.01
    ]  # fmt: skip
    rates = " and ".join(
        f"{_share(test['near_duplicates']['rate'])} in {name}"
        for name, test in zip(SPACES, tests, strict=True)
    )
    text = (
        f"Near duplicates of training images among {number(count)} generated images: {rates} "
        "(1% expected)"
    )
    same = max(test["exact_copies"] for test in tests)
    if same:
        text += f"; {counted(same, 'generated image')} identical to a training image"
    if nearer:
        return (
            f"{text}; in {' and '.join(nearer)}, generated images are nearer to training than to "
            "held-out images: look at the pairs."
        )
    if same:
        return f"{text}: look at the pairs."
    if raised:
        return (
            f"{text}: more than by chance, but generated images are not nearer to training than to "
            "held-out images, so they may be blurred or simple rather than copied."
        )
    return f"{text}; these tests found no copying of whole images."


def _audit_table(outcome: dict[str, Any]) -> str:
    tests = [outcome["tests"][name] for name in SPACES]
    rows: list[list[str]] = [
        ["near duplicates of a training image", "1%",
         *(_range(test["near_duplicates"], "rate") for test in tests)],
        ["identical to a training image", "0", *(str(test["exact_copies"]) for test in tests)],
        ["nearer to training than to held-out images", "50%",
         *(_range(test["nearer_to_train"], "share") for test in tests)],
        ["authentic (Alaa et al. 2022)",
         " / ".join(_share(test["authentic"]["held_out"]) for test in tests),
         *(_range(test["authentic"], "share") for test in tests)],
        ["C_T (Meehan et al. 2020), negative: copies", "0",
         *(f"{test['copying']['c_t']:.2f} (p {test['copying']['c_t_p']:.2g})" for test in tests)],
        ["Mann-Whitney z, negative: copies", "0",
         *(f"{test['copying']['z']:.2f} (p {test['copying']['p']:.2g})" for test in tests)],
    ]  # fmt: skip
    table = _table(["test", "expected", *SPACES], rows)
    member = outcome["membership"]
    said = f"Membership: not tested ({outcome['membership_of'].get('why_not', '')})."
    if member:
        said = (
            f"Membership by the {member['by']}: AUC {member['auc']:.3f} "
            f"({member['low']:.3f} to {member['high']:.3f}), 0.5 by chance."
        )
    mirrored = " Mirror images count as well." if outcome["settings"]["flip"] else ""
    note = (
        f"{said} Compared with {number(outcome['data']['train'])} training and "
        f"{number(outcome['settings']['held_out'])} held-out images, features of "
        f"raygen's classifier (test accuracy {percent(outcome['encoder_test_accuracy'])})."
        f"{mirrored} A near duplicate lies nearer to a training image than 1% of the held-out "
        "images do. Not tested: copies of parts of images, other attacks, other samples."
    )
    return f'{table}<p class="note">{escape(note)} {_model(outcome)}</p>'


def _pairs(study: Results) -> str:
    picture = embed_picture(UseFolder(study.folder.root).audit_pairs, None)
    if picture is None:
        return ""
    return (
        "<h3>The nearest pairs: generated, then its nearest training image</h3>"
        f'<p><img src="{picture.uri}" width="{picture.width * 2}" height="{picture.height * 2}" '
        'style="image-rendering:pixelated;max-width:100%;height:auto" '
        'alt="pairs of a generated image and the training image nearest to it"></p>'
        '<p class="note">Upper half: nearest in pixels; lower half: nearest in features.</p>'
    )


def _missing(study: Results, command: str, what: str) -> tuple[str, str]:
    if best_model(study) is None:
        return f"{what} was not tested: there is no model to test.", ""
    folder = shlex.quote(str(study.folder.root))
    return f"{what} was not tested; to test it: raygen {command} {folder}", ""


def _read(path: Path, content_of: Check) -> dict[str, Any] | None:
    """The result, or None without one.

    Raises:
        Wrong: what the page shows of it is not there, or is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Wrong({}, first_line(error)) from error
    content_of(content)
    return content


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + f'<th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in others) + "</tr>"
        for first, *others in rows
    )  # fmt: skip
    table = f'<table class="compare"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return scroll(f"table by {head[0]}", table)


def _model(outcome: dict[str, Any]) -> str:
    model = outcome["model"]
    trial = "" if model["trial"] is None else f"trial {model['trial']}, "
    return escape(f"Checkpoint: {trial}{model['checkpoint']} {model['checkpoint_hash']}.")


def _fraction(share: float) -> str:
    return f"{share * 100:g}%"


def _accuracy(arm: dict[str, Any]) -> str:
    return _range(arm, "mean")


def _range(estimate: dict[str, Any], key: str) -> str:
    if estimate["low"] is None:
        return _share(estimate[key])
    return f"{_share(estimate[key])} ({_share(estimate['low'])} to {_share(estimate['high'])})"


def _signed(gain: dict[str, Any]) -> str:
    if gain["low"] is None:
        return f"{gain['mean']:+.1%}"
    return f"{gain['mean']:+.1%}, 95% interval {gain['low']:+.1%} to {gain['high']:+.1%}"


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value * 100:.1f}%"


def _loss(row: dict[str, Any]) -> float:
    return (row["real"] or 0.0) - (row["generated"] or 0.0)
