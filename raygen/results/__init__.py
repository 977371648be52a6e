"""How a study's journal becomes tables, and what they say, without Ray, Optuna or torch."""

from raygen.results.fold import fold, load_study
from raygen.results.ranking import (
    Model,
    best_model,
    best_trial,
    failed,
    finalists,
    fresh,
    full_measurements,
    pareto,
    ranked,
)
from raygen.results.rungs import (
    Advice,
    best_until,
    grace_advice,
    judgement,
    rung_agreement,
    spearman,
)
from raygen.results.study import ERROR, Study
from raygen.results.write import train_config, write_tables

__all__ = [
    "ERROR", "Advice", "Model", "Study", "best_model", "best_trial", "best_until",
    "failed", "finalists", "fold", "fresh", "full_measurements", "grace_advice",
    "judgement", "load_study", "pareto", "ranked", "rung_agreement", "spearman", "train_config",
    "write_tables",
]  # fmt: skip
