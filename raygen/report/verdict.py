"""The first section: which trial, how sure that is, what it draws, and what it cost."""

import math
import shlex
from html import escape

from raygen.report.blocks import code, note, settings_code
from raygen.report.charts.timeline import most_at_once, timeline_table
from raygen.report.embedded_pictures import nearest_milestone, tiles_picture
from raygen.report.findings import Verdict, findings, judge_study
from raygen.report.gains import against, gain
from raygen.report.labels import (
    STATE_LOOKS,
    interval_words,
    listed,
    number,
    percent,
    short_metric,
    state_words,
)
from raygen.report.scale import scale, terms
from raygen.report.tables import compute_saved, searched_settings, state_counts
from raygen.results import Results, dollars_of, gpus_of, pareto
from raygen.words import counted, duration

MARKS = {"good": ("✓", "good"), "warn": ("!", "check"), "note": ("i", "note")}
ROWS = 4  # of 8 tiles, in the pictures at the top


def verdict_section(study: Results) -> tuple[str, str]:
    """The answer in two sentences, pictures, three cards, and what a reader should know of them."""
    verdict = judge_study(study)
    lead = verdict_lead(study, verdict)
    notes = "".join(
        f'<li class="finding finding-{kind}">'
        f'<b class="mark" title="{MARKS[kind][1]}">{MARKS[kind][0]}</b>'
        f"<span>{escape(text)}{f' <em>{escape(action)}</em>' if action else ''}</span></li>"
        for kind, text, action in findings(study)
    )
    notes = f'<ul class="findings">{notes}</ul>' if notes else ""
    terms_note = note(terms(study))
    if verdict is None:
        return lead, notes
    pictures = _pictures(study, verdict)
    if verdict.failed:
        return lead, terms_note + pictures + notes
    folder = shlex.quote(str(study.folder.root))
    commands = (
        f"raygen generate {folder}\n"
        f"raygen evaluate {folder}\n"
        f"raygen best {folder} > best.yaml \\\n  && raygen train --config best.yaml"
    )
    return lead, (
        f'{terms_note}{pictures}<div class="cards">{_cards(study, verdict)}</div>{notes}'
        f'<div class="pair"><div><h3>Best configuration (trial {verdict.trial})</h3>'
        f"{settings_code(study.configs[verdict.trial])}</div>"
        f"<div><h3>Use it</h3>{code(commands)}</div></div>"
    )


def verdict_lead(study: Results, verdict: Verdict | None) -> str:
    """What to use; why there is nothing to use yet."""
    state = str(study.info["state"])
    if study.trials.empty:
        if state == "running":
            return "No trial has started yet."
        return f"No trial has started. The study {state_words(state)}."
    if verdict is None:
        counts = ", ".join(
            f"{n} {STATE_LOOKS[str(s)].text}" for s, n in state_counts(study).items()
        )
        if state == "running":
            return f"Nothing to use yet: no trial has a value ({counts}); wait for the first rung."
        ended = f"no trial has a value ({counts}); see the reasons in the table"
        diverged = bool((study.trials["state"] == "diverged").any())
        return f"Nothing to use: {ended}." + (f" {_what_to_change(study)}" if diverged else "")
    if verdict.failed:
        failed = f"Do not use the best trial: trial {verdict.trial} {verdict.failed}."
        return f"{failed} {_what_to_change(study)}"
    text = _front(study, verdict) or _configuration(study, verdict)
    if verdict.provisional:
        return f"{text} Provisional: no trial has completed the full budget."
    if state != "finished":
        return f"{text} The study {state_words(state)}; this can still change."
    return text


def _configuration(study: Results, verdict: Verdict) -> str:
    """The result, then which settings reach it: over seeds if they were trained with several."""
    name = short_metric(study.metric)
    if not verdict.seeds:
        at = f"{name} {number(verdict.value)} at {number(verdict.kimg)} kimg"
        # A gain says it, too.
        seed = ", with one seed" if verdict.start or verdict.gain is None else ""
        led = f"Trial {verdict.trial} leads with {at}{seed}"
        return f"{led}{_gained(study, verdict)}.{_model(study, verdict)}"
    if len(verdict.tied) > 1:
        shares = listed(percent(share) for share in verdict.tied.values())
        trials = listed(str(trial) for trial in verdict.tied)
        tied = f" Trials {trials} are tied for the best settings (probabilities {shares})"
        return f"{_model(study, verdict).strip()}{tied}{_gained(study, verdict)}."
    mean = f"{number(verdict.value)}{interval_words(verdict.low, verdict.high)}"
    seeds = counted(verdict.seeds, "new seed")
    return (
        f"Use trial {verdict.trial}.{_model(study, verdict)} With {seeds} it averages {mean}"
        f"{_gained(study, verdict)}."
    )


def _gained(study: Results, verdict: Verdict) -> str:
    """How much better than the best starting point, or that it is one of them."""
    who = f"trial {verdict.trial}" if len(verdict.tied) > 1 else "it"
    starts = int(study.info.get("start_trials") or 0)
    if verdict.start:
        beaten = "" if verdict.rival is None else ": no suggested configuration beat it"
        which = "the starting point" if starts == 1 else f"starting point {verdict.start} of"
        which = f"{which}{'' if starts == 1 else f' {starts}'}"
        return f". {who[0].upper()}{who[1:]} is {which}{beaten}"
    if verdict.gain is None:
        return ""
    name = "the starting point" if starts == 1 else "the best starting point"
    if verdict.gain.within_chance:
        return f", with no clear gain over {name}"
    words = against(study, verdict.gain.value, verdict.gain.other, name)
    if not verdict.gain.seeds:
        if verdict.seeds:
            return f"; in the search {who} was {words} (one seed each)"
        return f", {words} (one seed each)"
    words = f"{who} is {words}" if len(verdict.tied) > 1 else words
    joint = "; " if len(verdict.tied) > 1 else ", "
    return f"{joint}{words}{'' if verdict.gain.certain else ', which may be chance'}"


def _model(study: Results, verdict: Verdict) -> str:
    """What the checkpoint to use is worth: the result of the study."""
    if verdict.model is None:
        return " None of its checkpoints is left."
    name = short_metric(study.metric)
    which = f"of trial {verdict.model.trial}"
    subject = f"The best model, {which}," if len(verdict.tied) > 1 else "Its model"
    if verdict.seeds and len(verdict.tied) < 2:
        same = verdict.model.trial == verdict.trial
        subject = "Its best model" if same else f"The best model, {which},"
    measured = (verdict.fresh or {}).get(study.metric)
    if measured is not None and measured["value"] is not None:
        return f" {subject} has {name} {number(float(measured['value']))} on new samples."
    if not verdict.seeds:
        return f" {subject} is {_unmeasured(study)}."
    value = number(verdict.model.value)
    return f" {subject} had {name} {value} during training; {_unmeasured(study)}."


def _unmeasured(study: Results) -> str:
    """A finished study measures no more of itself."""
    return f"not {'' if study.info['state'] == 'finished' else 'yet '}measured on new samples"


def _what_to_change(study: Results) -> str:
    """What to change after a search without a usable result."""
    rates = [p.name for p in searched_settings(study) if p.name.endswith("lr")]
    lower = f"lower the range of {listed(rates)}" if rates else "lower the learning rates"
    return f"Before searching again, {lower}, or train longer (--set budget.kimg=…)."


def _front(study: Results, verdict: Verdict) -> str:
    """The verdict with several objectives; "" unless they really conflict."""
    front = pareto(study) if len(study.objectives) > 1 else []
    if len(front) < 2:
        return ""
    named = [str(trial) for trial in front[:12]]
    named += [f"{len(front) - 12} more"] if len(front) > 12 else []
    metrics = listed(short_metric(objective["metric"]) for objective in study.objectives)
    end = "lowest" if study.minimise else "highest"
    return (
        f"No single best: trials {listed(named)} trade off {metrics}. Trial {verdict.trial} has "
        f"the {end} {short_metric(study.metric)}: {number(verdict.value)}"
        f"{_gained(study, verdict)}.{_model(study, verdict)}"
    )


def _pictures(study: Results, verdict: Verdict) -> str:
    """What the model draws, beside real images, at twice their size."""
    run, kimg = verdict.trial, verdict.kimg
    if verdict.model is not None:
        run, kimg = verdict.model.run, verdict.model.kimg
    grids = study.folder.trial(run).all_samples()
    if not grids:
        return ""
    at = nearest_milestone(grids, kimg)
    drawn = tiles_picture(grids[at], ROWS)
    real = tiles_picture(study.folder.real, ROWS)
    what = f"samples of trial {verdict.trial}"
    if verdict.model is not None and verdict.model.run != verdict.trial:
        new = "" if verdict.model.run == verdict.model.trial else ", new seed"
        what = f"samples of the best model (trial {verdict.model.trial}{new})"
    shown = [(drawn, f"{what} at {number(at)} kimg", "drawn"), (real, "real images", "real")]
    figures = "".join(
        f'<figure data-view="{kind}"><button class="grid" type="button" '
        f'aria-label="enlarge: {escape(words)}"><img alt="{escape(words)}" src="{picture.uri}" '
        f'width="{picture.width}" height="{picture.height}"></button>'
        f"<figcaption>{escape(words[0].upper() + words[1:])}</figcaption></figure>"
        for picture, words, kind in shown
        if picture is not None
    )
    return f'<div class="hero">{figures}</div>' if figures else ""


def _cards(study: Results, verdict: Verdict) -> str:
    cards = [_model_card(study, verdict), _gain_card(study, verdict), _cost_card(study)]
    return "".join(
        f'<div class="card"><span>{escape(title)}</span><strong>{escape(value)}</strong>'
        f"<small>{escape(note)}</small></div>"
        for title, value, note in cards
    )


def _model_card(study: Results, verdict: Verdict) -> tuple[str, str, str]:
    title = "Result"
    if verdict.model is None:
        return title, "none", "its checkpoint was deleted; train it again from the settings below"
    name, model = short_metric(study.metric), f"Model: {verdict.model.words}"
    measured = (verdict.fresh or {}).get(study.metric)
    if measured is None or measured["value"] is None:
        note = f"{name} during training, {_unmeasured(study)}; {scale(study)}. {model}"
        return title, number(verdict.model.value), note
    reason = study.info["left_out"].get(f"{study.metric}_test")
    note = f"{name} on new samples; {scale(study)}. {model}"
    note += f". Not against test images: {reason}" if reason else ""
    return title, number(float(measured["value"])), note


def _gain_card(study: Results, verdict: Verdict) -> tuple[str, str, str]:
    if verdict.gain is not None and verdict.rival is not None:
        value, other = verdict.gain.value, verdict.gain.other
        words = gain(study, value, other)
        title = "Gain over the best starting point"
        if verdict.start:
            title = "Against the best suggested trial"
        elif (value > other) == study.minimise and value != other:
            title = "Against the best starting point"
        state = str(study.trials.set_index("trial")["state"].to_dict()[verdict.rival])
        note = "" if state == "completed" else f", {STATE_LOOKS[state].text}"
        basis = f"{number(value)} against {number(other)} (trial {verdict.rival}{note}), "
        basis += "" if verdict.gain.seeds else "in the search, "
        if verdict.gain.within_chance:
            clear = "no clear difference" if verdict.start else "no clear gain"
            return title, clear, f"{words}: {basis}{verdict.gain.basis}"
        return title, words, basis + verdict.gain.basis
    if not math.isnan(verdict.median):
        basis = f"{number(verdict.value)} against {number(verdict.median)}, one seed each"
        title = "Gain over the median of completed trials"
        return title, gain(study, verdict.value, verdict.median), basis
    if verdict.start:
        return "Gain over a starting point", "none", "it is the only trial with a value"
    return "Gain over a starting point", "none", "no starting point has a value"


def _paid(study: Results) -> list[str]:
    """GPU-hours by the kind of GPU, and dollars where there are prices."""
    worked, gpus = study.info["worked"], gpus_of(study.info)
    hours = [
        f"{number(seconds * gpus / 3600, 3)} GPU-hours{f' of {kind}' if kind else ''}"
        for kind, seconds in worked.items()
        if gpus
    ]
    paid = dollars_of(study.info, worked)
    return hours if paid is None else [*hours, f"${paid:,.2f}"]


def _cost_card(study: Results) -> tuple[str, str, str]:
    info, trained = study.info, duration(study.spent("seconds"))
    together = most_at_once(timeline_table(study))
    # Trained side by side, trials take more time together than the clock shows.
    beside = f", up to {together} trials at once" if together > 1 else ""
    note = f"{number(study.spent('kimg'))} kimg"
    note += "".join(f", {text}" for text in _paid(study))
    bill = compute_saved(study)
    if bill.share > 0:
        note += f"; early stopping saved {percent(bill.share)} of the training"
    if info["state"] == "running":
        return "Cost so far", trained, f"of training{beside}; {note}"
    time = f"{trained} of training{beside}"
    return "Cost", duration(info["seconds"]), f"from start to end; {time}; {note}"
