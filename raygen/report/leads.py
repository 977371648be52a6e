"""The one sentence that opens each section, made from the data."""

from raygen.report import importance as importances
from raygen.report.axes import MOST_AXES, axes
from raygen.report.findings import Verdict, against
from raygen.report.labels import (
    STATE_LOOKS,
    better,
    counted,
    listed,
    metric_label,
    number,
    percent,
    short_metric,
    short_names,
)
from raygen.report.tables import judged, parameters, state_counts, value_scale, varying
from raygen.report.tables import progress as progress_table
from raygen.results import Study, finalists, pareto, ranked

FAMILIES = {"gan": "GAN", "vae": "VAE"}


def searched(study: Study) -> str:
    """What was searched, on which data, for what."""
    info = study.info
    family = FAMILIES.get(str(info.get("family")), "model")
    data = (info.get("data") or {}).get("name")
    aim = "lowest" if study.minimise else "highest"
    settings = counted(len(parameters(study)), "setting")
    where = f" on {data}" if data else ""
    others = [short_metric(each["metric"]) for each in study.objectives[1:]]
    traded = f", traded off against {listed(others)}" if others else ""
    return (
        f"{settings} of a {family}{where}, searched for the {aim} "
        f"{metric_label(study.metric)}{traded}."
    )


def verdict(study: Study, found: Verdict | None) -> str:
    """What to use; why there is nothing to use yet."""
    state = study.info.get("state")
    if study.trials.empty:
        ended = "" if state == "running" else f" The study is {state}."
        return f"No trial yet: the study was opened, and nothing has started.{ended}"
    if found is None:
        counts = ", ".join(
            f"{n} {STATE_LOOKS[str(s)].text}" for s, n in state_counts(study).items()
        )
        hint = "wait for the first rung" if state == "running" else "see the reasons in the table"
        return f"Nothing to use: no trial has a value ({counts}); {hint}."
    text = f"Use trial {found.trial}: {short_metric(study.metric)} {number(found.value)}"
    if len(study.objectives) > 1:
        text = _front(study, found) or text
    if found.seeds:
        text += f", the mean of {counted(found.seeds, 'other seed')}"
        text += _interval(found.low, found.high)
    else:
        text += f" at {number(found.kimg)} kimg"
    if found.default == found.default and found.trial != 0:
        text += f", {against(study, found.value, found.default, 'the default')}"
    if found.provisional:
        return f"{text}. Provisional: no trial has completed the full budget."
    seeds = "" if found.seeds else " This is one seed."
    if state in ("running", "interrupted"):
        return f"{text}. The study is {state}; this can still change.{seeds}"
    return f"{text}.{seeds}"


def finals(study: Study) -> tuple[str, bool]:
    """Sentence, and whether there is a chart to draw."""
    table = finalists(study)
    if table.empty:
        why = " (no finalists with several objectives)" if len(study.objectives) > 1 else ""
        return f"No trial was trained again with other seeds{why}: every value is one seed.", False
    rows = list(judged(study).values())
    if not rows:
        chosen = counted(len(table), "finalist")
        return f"{chosen} to be trained again with other seeds; none has finished yet.", True
    best = rows[0]
    text = (
        f"With other seeds trial {int(best['trial'])} is the best of "
        f"{counted(len(table), 'finalist')}: {number(best['mean'])} over "
        f"{counted(int(best['seeds']), 'seed')}{_interval(best['low'], best['high'])}, "
        + against(
            study, best["mean"], best["single"], f"the {number(best['single'])} of the search"
        )
    )
    if best["best"] == best["best"] and len(table) > 1:
        text += f"; it is the best with probability {percent(best['best'])}"
    broken = int((study.replicates["state"] == "diverged").sum())
    if broken:
        text += f"; {counted(broken, 'run')} of {len(study.replicates)} diverged"
    over = (study.info.get("race") or {}).get("settled")
    return text + ("." if over else ". The race is not over."), True


def trade_offs(study: Study) -> tuple[str, bool]:
    """Sentence, and whether there is a chart to draw."""
    names = [short_metric(each["metric"]) for each in study.objectives]
    if len(names) == 1:
        return f"One objective, {names[0]}: there is nothing to trade off.", False
    if study.values.empty:
        return f"Nothing to trade off yet: no trial has a value of {listed(names)}.", False
    front = pareto(study)
    if not front:
        return f"No front of {listed(names)} yet: no trial has completed the full budget.", True
    done = int((study.trials["state"] == "completed").sum())
    ends = []
    for each in study.objectives:
        values = study.values.set_index("trial").loc[front, each["metric"]].astype(float)
        low = each["direction"] == "minimize"
        trial, value = (values.idxmin(), values.min()) if low else (values.idxmax(), values.max())
        word = "lowest" if low else "highest"
        ends.append(f"{word} {short_metric(each['metric'])} {number(value)} (trial {trial})")
    return (
        f"{counted(len(front), 'trial')} of {done} completed cannot be beaten in one of "
        f"{listed(names)} without losing in another: {listed(ends)}."
    ), True


def curves(study: Study) -> str:
    """How many were cut where."""
    stopped = study.trials[study.trials["state"] == "stopped"]
    done = int((study.trials["state"] == "completed").sum())
    text = f"{done} of {counted(len(study.trials), 'trial')} reached the full budget"
    if len(stopped):
        at = stopped["kimg"].value_counts().sort_index()
        cuts = listed(
            f"{count} at {number(kimg)} kimg"
            for kimg, count in zip(at.index.tolist(), at.tolist(), strict=True)
        )
        text += f"; early stopping cut {cuts}"
    return f"{text}. {_unseen(study)}".strip()


def progress(study: Study) -> str:
    """When the best came."""
    table = progress_table(study)
    known = table[table["best"].notna()]
    steps = known[known["best"] != known["best"].shift()]
    last = steps.iloc[-1]
    share = last["compute"] / table["compute"].iloc[-1] if table["compute"].iloc[-1] else 1.0
    trial = int(last["trial"])
    return (
        f"The best so far came with trial {trial}, after {percent(share)} of the training time; "
        f"it had improved {counted(len(steps) - 1, 'time')} before. {_unseen(study)}"
    ).strip()


def importance(study: Study) -> tuple[str, bool]:
    """Sentence, and whether there is a chart to draw."""
    settled = len(importances.settled(study))
    if settled < importances.NEEDED:
        needed = importances.NEEDED
        return f"Too early: importance needs {needed} settled trials, there are {settled}.", False
    table = importances.importance(study)
    if table.empty:
        return "Every trial had the same settings: nothing to compare.", False
    if table["share"].iloc[0] == 0:
        return f"No setting stands out from chance in {settled} trials.", True
    short = short_names(table["name"])
    big = table[table["share"] >= 0.1].head(3)
    parts = listed(f"{short[name]} ({percent(share)})" for name, share in
                   zip(big["name"], big["share"], strict=True))  # fmt: skip
    unsure = " With so few trials the order is a hint, not a result." if settled < 20 else ""
    return f"What separated good trials from the rest: {parts}.{unsure}", True


def parallel(study: Study) -> tuple[str, bool]:
    """Sentence, and whether there is a chart to draw."""
    if value_scale(study) is None:
        return "Nothing to draw: no trial has a value.", False
    chosen = varying(study)
    if not chosen:
        return "Every trial had the same settings: no axis to draw.", False
    constant = len(parameters(study)) - len(chosen)
    text = (
        f"{counted(len(study.trials), 'trial')} as lines; the stronger the colour, the better "
        "(stopped trials by the value projected to the full budget)"
    )
    text += "; axes in order of importance" if len(axes(study)) > 2 else ""
    if constant > 0:
        text += f"; {counted(constant, 'setting')} that never varied left out"
    if len(chosen) > MOST_AXES:
        text += f"; the first {MOST_AXES} of {len(chosen)} settings shown"
    return text + ".", True


def trials(study: Study) -> str:
    """What the table holds."""
    order = ranked(study)
    best = ""
    if len(order):
        trial = int(order.iloc[0]["trial"])
        best = f", best {number(order.iloc[0]['value'])} (trial {trial})"
        if trial in judged(study):
            best = f", best trial {trial} (by other seeds: {number(judged(study)[trial]['mean'])})"
    name = short_metric(study.metric)
    direction = better(study.info["objective"]["direction"])
    return (
        f"{counted(len(study.trials), 'trial')}, {len(order)} with a value"
        f"{best}; {name}: {direction}. A value below the full budget is not "
        "comparable with one at it."
    )


def reproduce(study: Study) -> str:
    """What repeats and what does not."""
    seed = study.info.get("seed")
    if seed is None:
        return "The study recorded no seed: it can be run again, not repeated."
    return (
        f"Seed {seed} repeats every trial bit for bit on the same device type with one worker; "
        "other hardware gives close, not equal, numbers."
    )


def _interval(low: float, high: float) -> str:
    """The interval of a mean, if it is known."""
    return f" (95 % interval {number(low)} to {number(high)})" if low == low else ""


def _front(study: Study, found: Verdict) -> str:
    """How the verdict begins with several objectives; "" unless they are really in conflict."""
    front = pareto(study)
    if len(front) < 2:
        return ""
    named = [str(trial) for trial in front[:12]]
    named += [f"{len(front) - 12} more"] if len(front) > 12 else []
    metrics = listed(short_metric(each["metric"]) for each in study.objectives)
    end = "lowest" if study.minimise else "highest"
    return (
        f"No single best: trials {listed(named)} trade {metrics} off. Trial {found.trial} has the "
        f"{end} {short_metric(study.metric)}: {number(found.value)}"
    )


def _unseen(study: Study) -> str:
    """How many trials a chart cannot show."""
    missing = int(study.trials["value"].isna().sum())
    if not missing:
        return ""
    return f"{counted(missing, 'trial')} without any value not shown."
