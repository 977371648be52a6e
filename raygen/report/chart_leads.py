"""The one sentence that opens each section with a chart, made from the data.

A function that returns a sentence and a truth value says whether there is a chart to draw.
"""

import math

from raygen.report import importance as importances
from raygen.report import surrogate
from raygen.report.ablation import ablation as ablation_table
from raygen.report.axes import MOST_AXES, axes
from raygen.report.budget import early_values, rung_pairs, rung_savings
from raygen.report.contours import contour_pairs
from raygen.report.labels import (
    counted,
    duration,
    listed,
    number,
    percent,
    setting,
    short_metric,
    short_names,
)
from raygen.report.slices import TOP, by_importance
from raygen.report.tables import DRAWN, LINES, drawn, parameters, value_scale, varying
from raygen.report.tables import progress as progress_table
from raygen.report.timeline import timeline as timeline_table
from raygen.report.timeline import use
from raygen.report.tradeoffs import COSTS, front
from raygen.report.tradeoffs import costs as costs_table
from raygen.results import Study, judgement, pareto


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


def budget(study: Study) -> tuple[str, bool]:
    """How well early values foretell final ones."""
    if early_values(study).empty:
        return "No trial has completed the full budget after a rung: nothing to compare.", False
    pairs, rungs = rung_pairs(study), study.info["rungs"]
    final = pairs[(pairs["late"] == rungs[-1]) & pairs["rho"].notna()]
    saved = float(rung_savings(study)["saved"].sum())
    bill = f" Early stopping saved {number(saved)} kimg." if saved else ""
    if final.empty:
        return f"Too few completed trials to say what early values foretell.{bill}", True
    parts = []
    for row in final.to_dict("records"):
        said = judgement(row["rho"], int(row["trials"]))
        parts.append(f"{number(row['early'])} kimg {row['rho']:.2f} ({said})")
    words = listed(parts)
    count = counted(int(final["trials"].iloc[0]), "completed trial")
    only = ", survivors only," if saved else ""
    return f"Rank correlation with the final value over {count}{only} is at {words}.{bill}", True


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
    certain = table[table["low"] >= importances.EVIDENT]
    if certain.empty:
        return (
            f"No setting stands out yet: with {counted(settled, 'settled trial')} the interval of "
            "every share reaches down to 0."
        ), True
    big = certain[certain["share"] >= 0.1].head(3)
    big = certain.head(1) if big.empty else big
    parts = listed(f"{short[name]} ({percent(share)})" for name, share in
                   zip(big["name"], big["share"], strict=True))  # fmt: skip
    unsure = " With so few trials the order is a hint, not a result." if settled < 20 else ""
    return f"What separated good trials from the rest: {parts}.{unsure}", True


def ablation(study: Study) -> tuple[str, bool]:
    """Which changes from the default brought the gain."""
    model = surrogate.fit(study)
    if model is None:
        return f"An ablation needs {surrogate.NEEDED} completed or stopped trials.", False
    if surrogate.ends(study) is None:
        return "No way to take apart: no default was tried, or it is the best.", False
    if not model.trusted:
        return f"No ablation: {_doubt(model)}.", False
    table = ablation_table(study)
    steps = table[table["step"] > 0]
    whole = float(steps["change"].sum())
    if steps.empty or whole <= 0:
        return "The surrogate sees no gain on the way from the default to the best.", True
    first = steps.sort_values("change", ascending=False).iloc[0]
    short = short_names({n for names in steps["name"] for n in names.split(", ")})
    names = listed(short[name] for name in first["name"].split(", "))
    return (
        f"On the way from the default to the best, {names} ({first['before']} → {first['after']}) "
        f"brings {percent(float(first['change']) / whole)} of the expected gain, to "
        f"{number(float(table['value'].iloc[-1]))}; an estimate from {model.trials} trials that "
        f"explains {_share(model.r2)} of how a left-out trial differs."
    ), True


def parallel(study: Study) -> tuple[str, bool]:
    """Sentence, and whether there is a chart to draw."""
    if value_scale(study) is None:
        return "Nothing to draw: no trial has a value.", False
    chosen = varying(study)
    if not chosen:
        return "Every trial had the same settings: no axis to draw.", False
    constant = len(parameters(study)) - len(chosen)
    text = (
        f"{counted(len(drawn(study, LINES)), 'trial')} as lines; the stronger the colour, the "
        "better (stopped trials by the value projected to the full budget)"
    )
    text += "; axes in order of importance" if len(axes(study)) > 2 else ""
    if constant > 0:
        text += f"; {counted(constant, 'setting')} that never varied left out"
    if len(chosen) > MOST_AXES:
        text += f"; the first {MOST_AXES} of {len(chosen)} settings shown"
    return text + ".", True


def slices(study: Study) -> tuple[str, bool]:
    """Where along the most important setting the good trials lie."""
    scored = study.trials[study.trials["value"].notna()]
    chosen = by_importance(study)
    if scored.empty or not chosen:
        return "Nothing to draw: no trial has a value, or no setting varied.", False
    first = chosen[0]
    short = short_names(parameter.name for parameter in chosen)[first.name]
    best = scored.sort_values("value", ascending=study.minimise)
    best = best.head(max(3, math.ceil(len(scored) / 10)))[first.name]
    if first.kind == "choice":
        counts = best.map(setting).value_counts()
        where = f"{counts.iloc[0]} of the best {len(best)} trials have {short} = {counts.index[0]}"
    else:
        known = best.dropna().astype(float)
        span = f"{setting(known.min())} and {setting(known.max())}" if len(known) else "—"
        where = f"The best {len(best)} trials have {short} between {span}"
    shown = f"; the first {TOP} of {len(chosen)} settings shown" if len(chosen) > TOP else ""
    return f"{where}{shown}.", True


def contours(study: Study) -> tuple[str, bool]:
    """Whether there is a surface, and of what."""
    if contour_pairs(study).empty:
        return "No two settings varied in at least half of the trials.", False
    model = surrogate.fit(study)
    if model is None or not model.trusted:
        why = "too few trials" if model is None else _doubt(model)
        return f"Two settings at a time; no surface between the trials ({why}).", True
    return (
        "Two settings at a time; the surface is what a surrogate expects with the other settings "
        f"as they were, darker for better: it explains {_share(model.r2)} of how a left-out trial "
        "differs."
    ), True


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


def costs(study: Study) -> tuple[str, bool]:
    """What the best costs more than a cheap one that is nearly as good."""
    table = costs_table(study)
    known = [name for name in COSTS if name in table]
    name = short_metric(study.metric)
    if not known:
        return (
            f"Every trial cost the same, or none has a value: nothing to set against {name}.",
            False,
        )
    if study.minimise:
        order = front(table, known[0], ("minimize", COSTS[known[0]][0]))
    else:
        order = front(table, known[0], ("maximize", COSTS[known[0]][0]))
    if order.empty:
        return f"No completed trial yet to set {name} against its cost.", True
    cheap, best = order.iloc[0], order.iloc[-1]
    say = duration if known[0] == "seconds" else number
    if len(order) == 1:
        return (
            f"Trial {int(best['trial'])} is the best and the cheapest of the completed: {name} "
            f"{number(best['value'])} for {say(best[known[0]])}."
        ), True
    return (
        f"Of {counted(len(order), 'completed trial')} that none beats in both {name} and "
        f"{COSTS[known[0]][1].split(' (')[0]}, the best is trial {int(best['trial'])} "
        f"({number(best['value'])} for {say(best[known[0]])}), the cheapest trial "
        f"{int(cheap['trial'])} ({number(cheap['value'])} for {say(cheap[known[0]])})."
    ), True


def timeline(study: Study) -> tuple[str, bool]:
    """How busy the places were."""
    table = timeline_table(study)
    if table.empty:
        return "No attempt of a trial was recorded with its time.", False
    found = use(table)
    if found.open <= 0:
        return f"{counted(len(table), 'attempt')} of trials, too short to tell apart.", True
    idle = max(0.0, 1 - found.busy / (found.open * found.lanes))
    lost = int(table["state"].isin(["lost", "failed"]).sum())
    gone = f"; {counted(lost, 'attempt')} lost or failed" if lost else ""
    return (
        f"Up to {counted(found.lanes, 'trial')} at once on {counted(found.nodes, 'node')} for "
        f"{duration(found.open)}, {percent(idle)} idle; the longest was trial {found.slowest} "
        f"with {duration(found.longest)}{gone}."
    ), True


def thinned(study: Study, most: int | None = None) -> str:
    """That a chart does not draw every trial; "" if it does."""
    shown = len(drawn(study, most))
    if shown == len(study.trials):
        return ""
    return (
        f"{shown:,} of {len(study.trials):,} trials drawn: the best {(most or DRAWN) // 2} and an "
        "even sample of the others. Filters, the table and downloads use all."
    )


def _unseen(study: Study) -> str:
    """How many trials a chart cannot show."""
    missing = int(study.trials["value"].isna().sum())
    if not missing:
        return ""
    return f"{counted(missing, 'trial')} without any value not shown."


def _doubt(model: surrogate.Surrogate) -> str:
    """Why a surrogate is not believed."""
    if model.r2 < surrogate.TRUSTED:
        return (
            f"the surrogate explains {_share(model.r2)} of how {model.trials} trials differ when "
            f"each is left out in turn, and less than {percent(surrogate.TRUSTED)} is not worth "
            "drawing"
        )
    return (
        "at the default or at the best trial the surrogate is off by more than "
        f"{percent(surrogate.NEAR)} of what was measured"
    )


def _share(r2: float) -> str:
    return percent(max(0.0, r2))
