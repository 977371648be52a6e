"""How a study's journal becomes tables, and what they say, without Ray, Optuna or torch."""

from raygen.results.fold import fold, load_results
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
from raygen.results.study import ERROR, Results, dollars_of, gpus_of
from raygen.results.write import train_config, write_tables

__all__ = [
    "ERROR", "Advice", "Model", "Results", "best_model", "best_trial", "best_until",
    "dollars_of", "failed", "finalists", "fold", "fresh", "full_measurements", "gpus_of",
    "grace_advice", "judgement", "load_results", "pareto", "ranked", "rung_agreement", "spearman",
    "train_config", "write_tables",
]  # fmt: skip
