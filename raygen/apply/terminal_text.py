"""Results as text for the terminal: a few lines that explain themselves."""

from typing import Any

from raygen.words import counted

ARMS = {"real": "real only", "generated": "generated only", "both": "real + generated"}


def augment_table(outcome: dict[str, Any]) -> str:
    """Accuracy on real test images by what the classifier was trained on."""
    settings, kind = outcome["settings"], outcome["labels"]
    rows = {(arm["fraction"], arm["arm"]): arm for arm in outcome["arms"]}
    fractions = sorted({fraction for fraction, _ in rows})
    lines = [
        f"test accuracy, mean over {counted(settings['seeds'], 'seed')} [95%], "
        f"{settings['steps']} steps each, {settings['samples']} generated images; labels: {kind}",
        f"{'real labels':<13}" + "".join(f"{name:<24}" for name in ARMS.values()) + "gain",
    ]
    for fraction in fractions:
        cells = "".join(f"{_interval(rows[fraction, arm]):<24}" for arm in ARMS)
        gain = rows[fraction, "gain"]
        lines.append(f"{f'{fraction:.0%}':<13}{cells}{_interval(gain, sign=True)}")
    tested = outcome["gan_test"]
    lines.append(
        f"GAN-train {_interval(outcome['gan_train'])}, GAN-test "
        + (_interval(tested) if tested else "not defined: the labels are a classifier's")
    )
    worst = sorted(outcome["classes"], key=_loss)[-3:][::-1]
    said = ", ".join(f"{row['class']} {_loss(row):+.1%}" for row in worst)
    lines.append(f"largest losses with generated images alone: {said}")
    return "\n".join(lines)


def audit_table(outcome: dict[str, Any]) -> str:
    """Each test with what it expects of a model that copies nothing."""
    settings = outcome["settings"]
    mirrored = ", mirror images included" if settings["flip"] else ""
    lines = [
        f"{settings['samples']} generated and {settings['held_out']} held-out images against "
        f"{outcome['data']['train']} training images{mirrored}",
        f"{'test':<35}{'expected':<15}{'pixels':<34}features",
    ]
    tests = [outcome["tests"][name] for name in ("pixels", "features")]
    near = [_tested(test["near_duplicates"]) for test in tests]
    nearer = [_tested(test["nearer_to_train"]) for test in tests]
    authentic = [_tested(test["authentic"]) for test in tests]
    new = [f"{test['authentic']['held_out']:.1%}" for test in tests]
    copying = [f"{t['copying']['c_t']:.2f} (p {t['copying']['c_t_p']:.2g})" for t in tests]
    ranks = [f"{t['copying']['z']:.2f} (p {t['copying']['p']:.2g})" for t in tests]
    for name, expected, values in (
        ("near duplicates of training images", "1%", near),
        ("identical to one", "0", [str(test["exact_copies"]) for test in tests]),
        ("nearer to training than held-out", "50%", nearer),
        ("authentic", " / ".join(new), authentic),
        ("C_T, by cells (negative: copies)", "0", copying),
        ("Mann-Whitney z (negative: copies)", "0", ranks),
    ):
        lines.append(f"{name:<34} {expected:<15}{values[0]:<34}{values[1]}")
    member = outcome["membership"]
    if member:
        low, high = member["low"], member["high"]
        lines.append(
            f"membership by the {member['by']}: AUC {member['auc']:.3f} [{low:.3f}, {high:.3f}], "
            "0.5 by chance"
        )
    else:
        lines.append(f"membership: not tested, {outcome['membership_of']['why_not']}")
    lines.append(
        "Blurred or simple images are near everything: read near duplicates, authenticity and C_T "
        "beside 'nearer to training than held-out'. Not tested: parts of images, other samples."
    )
    return "\n".join(lines)


def _interval(estimate: dict[str, Any], sign: bool = False) -> str:
    form = "+.1%" if sign else ".1%"
    if estimate["low"] is None:
        return f"{estimate['mean']:{form}}"
    return f"{estimate['mean']:{form}} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


def _tested(estimate: dict[str, Any]) -> str:
    """A share, its interval, and its p value."""
    share = estimate["rate"] if "rate" in estimate else estimate["share"]
    return f"{share:.1%} [{estimate['low']:.1%}, {estimate['high']:.1%}] p {estimate['p']:.2g}"


def _loss(row: dict[str, Any]) -> float:
    if row["real"] is None or row["generated"] is None:
        return 0.0
    return row["real"] - row["generated"]
