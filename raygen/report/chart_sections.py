"""The sections that draw a chart, in reading order: study -> lead sentence and HTML."""

from raygen.report import chart_leads
from raygen.report.blocks import chart, data_table, note, table, toggle_button
from raygen.report.budget import rung_pairs, rung_savings
from raygen.report.finalists_table import finalists_table
from raygen.report.full_table import full_table
from raygen.report.importance import importance
from raygen.report.labels import ABSENT, counted, duration, number, percent
from raygen.report.leads import finals
from raygen.report.tables import LINES
from raygen.report.timeline import timeline
from raygen.results import Study, judgement


def finalists_section(study: Study) -> tuple[str, str]:
    """What other seeds say of the best trials."""
    lead, drawn = finals(study)
    if not drawn:
        return lead, ""
    remark = (
        '<p class="note">The value of the search is the best of many, so it flatters; the means '
        "leave it out. Intervals and probabilities: Student's t with one scatter for all "
        "finalists. Means are of runs that completed; &ldquo;diverged&rdquo; is the share that did "
        "not.</p>"
    )
    tables = finalists_table(study) + full_table(study)
    return lead, chart("finalists", "Finalists", lead) + tables + remark


def progress_section(study: Study) -> tuple[str, str]:
    """Whether the search converged."""
    if study.trials["value"].notna().sum() == 0:
        return "No progress to show: no trial has reported a value.", ""
    buttons = toggle_button("log-progress", "log scale")
    buttons += toggle_button("compute-progress", "against total compute")
    lead = chart_leads.progress(study)
    return lead, chart("progress", "Search progress", lead, buttons) + _thin(study)


def curves_section(study: Study) -> tuple[str, str]:
    """How the trials learned, and where they were cut."""
    if study.trials["value"].notna().sum() == 0:
        return "No curves yet: no trial has reported a value.", ""
    button = toggle_button("log-curves", "log scale")
    lead = chart_leads.curves(study)
    marks = (
        "Dashed lines are the rungs; a sign at the end of a curve says how the trial ended, and "
        "its hover why. Cut-offs are in the reasons of the table."
    )
    evaluation = study.info.get("evaluation") or {}
    if evaluation.get("first_samples"):
        marks += (
            f" The values on a curve are measured from {evaluation['first_samples']} to "
            f"{evaluation['samples']} samples, more from rung to rung: compare trials at the same "
            "kimg, and not a trial with its own past."
        )
    return lead, chart("curves", "Learning curves", lead, button) + note(marks) + _thin(study)


def budget_section(study: Study) -> tuple[str, str]:
    """Whether early values foretell final ones, and what cutting saved."""
    lead, drawn = chart_leads.budget(study)
    if not drawn:
        return lead, ""
    saved = {row["kimg"]: row for row in rung_savings(study).to_dict("records")}
    rows = []
    for pair in rung_pairs(study).to_dict("records"):
        known = pair["rho"] == pair["rho"]
        said = judgement(pair["rho"], int(pair["trials"]))
        rho = f"{pair['rho']:.2f} ({said})" if known else ABSENT
        rows.append([f"{number(pair['early'])} → {number(pair['late'])} kimg", rho,
                     str(pair["trials"])])  # fmt: skip
    pairs = table(["from rung to rung", "rank correlation", "trials"], rows)
    cuts = table(
        ["rung", "stopped there", "saved"],
        [[f"{number(at)} kimg", str(row["stopped"]), f"{number(row['saved'])} kimg"]
         for at, row in saved.items()],
    )  # fmt: skip
    remark = note(
        "The further a point lies from the dotted line, the more the trial gained after the rung. "
        "Stopped trials have no final value, which makes correlations of the others low."
    )
    drawing = chart("budget", "Budget against quality", lead)
    return lead, f'{drawing}<div class="pair">{pairs}{cuts}</div>{remark}{_thin(study)}'


def importance_section(study: Study) -> tuple[str, str]:
    """Which settings matter."""
    lead, drawn = chart_leads.importance(study)
    if not drawn:
        return lead, _ablation(study)
    remark = (
        '<p class="note">PED-ANOVA (Watanabe, Bansal and Hutter, 2023): where the best quarter of '
        "the trials lies against where all trials lie, above what chance would give. Whiskers: "
        "5 % to 95 % over 200 bootstrap samples. One setting at a time; interactions are not "
        "seen, and shares are relative to where the search looked.</p>"
    )
    drawing = chart("importance", "Importance of the settings", lead)
    found = importance(study)
    rows = [[str(row["name"]), percent(row["share"]), f"{percent(row['low'])} to "
             f"{percent(row['high'])}", counted(int(row["trials"]), "trial")]
            for row in found.to_dict("records")]  # fmt: skip
    numbers = data_table("Numbers", ["setting", "share", "5 % to 95 %", "set in"], rows)
    return lead, drawing + remark + numbers + _ablation(study)


def parallel_section(study: Study) -> tuple[str, str]:
    """Which combinations work."""
    lead, drawn = chart_leads.parallel(study)
    if not drawn:
        return lead, ""
    controls = (
        '<output id="brushed" class="count" aria-live="polite"></output>'
        '<button type="button" id="clear-brushes" class="toggle-button">clear brushes</button>'
    )
    sliders = (
        '<details class="needs-js"><summary>Brush with sliders (keyboard)</summary>'
        '<div id="sliders" class="sliders"></div></details>'
    )
    hint = (
        '<p class="note needs-js">Drag along an axis to keep only the trials that pass there; '
        "several brushes combine, a click on a brush removes it. Brushes filter every chart, "
        "picture and table of the page. &ldquo;—&rdquo; means that a setting does not exist in a "
        "trial's branch.</p>"
    )
    drawing = chart("parallel", "Parallel coordinates", lead, controls)
    return lead, hint + drawing + sliders + _thin(study, LINES)


def slices_section(study: Study) -> tuple[str, str]:
    """Where along each setting, and over two of them, the good trials lie."""
    lead, drawn = chart_leads.slices(study)
    if not drawn:
        return lead, ""
    below, more = chart_leads.contours(study)
    pairs = chart("contours", "Two settings at a time", below) if more else ""
    return lead, (
        chart("slices", "One setting at a time", lead)
        + f"<h3>Two settings at a time</h3>{note(below)}{pairs}{_thin(study)}"
    )


def trade_offs_section(study: Study) -> tuple[str, str]:
    """What one objective costs in another."""
    lead, drawn = chart_leads.trade_offs(study)
    if len(study.objectives) == 1:
        lead, drawn = chart_leads.costs(study)
        if not drawn:
            return lead, ""
        return lead, chart("costs", "Quality and its costs", lead) + _thin(study)
    if not drawn:
        return lead, ""
    remark = (
        '<p class="note">All objectives of a trial are those where its first one was best. Only '
        "completed trials can be on the front; the others are pale.</p>"
    )
    below, more = chart_leads.costs(study)
    cost = f"<h3>What it costs</h3>{note(below)}"
    cost += chart("costs", "Quality and its costs", below) if more else ""
    return lead, chart("tradeoffs", "Trade-offs", lead) + remark + cost + _thin(study)


def timeline_section(study: Study) -> tuple[str, str]:
    """Whether the machines were used well."""
    lead, drawn = chart_leads.timeline(study)
    if not drawn:
        return lead, ""
    spent = timeline(study)
    spent = spent.assign(busy=spent["stop"] - spent["start"]).groupby("lane")
    sums = zip(spent["busy"].sum().items(), spent["trial"].count(), strict=True)
    rows = [[str(lane), str(count), duration(float(busy))] for (lane, busy), count in sums]
    numbers = data_table("Time of each place", ["place", "attempts", "training"], rows[:200])
    return lead, chart("timeline", "Timeline of the cluster", lead) + numbers + _thin(study)


def _ablation(study: Study) -> str:
    lead, drawn = chart_leads.ablation(study)
    drawing = chart("ablation", "From the default to the best", lead) if drawn else ""
    return f"<h3>From the default to the best</h3>{note(lead)}{drawing}"


def _thin(study: Study, most: int | None = None) -> str:
    return note(chart_leads.thinned(study, most))
