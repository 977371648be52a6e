"""What a page explains once: its objective, what its values can be held against, and kimg."""

from raygen.metrics import METRICS
from raygen.report.labels import direction_words, number, short_metric
from raygen.results import Results
from raygen.words import kimg_text

KIMG = "kimg: thousands of real images trained on."
FEATURES = {
    "classifier": (
        ", by a small classifier that raygen trains on this data set (not comparable with FID, nor "
        "with other data)"
    ),
    "inception": ", by Inception features",
    "dinov2": ", by DINOv2 features",
}
DISTANCES = ("frechet:", "kernel:", "mind:")  # files of raygen.metrics
LEAST = 3  # trials, of which a median says something


def terms(study: Results) -> str:
    """The objective and kimg in a line; plain text."""
    if not _is_distance(study.metric):
        return KIMG
    name, by = short_metric(study.metric), FEATURES.get(str(METRICS[study.metric].extractor), "")
    return f"{name}: how far generated images are from real ones{by}. {KIMG}"


def scale(study: Results) -> str:
    """What a value of the objective can be held against: its best, and how trials began."""
    best = direction_words(study.info["objective"]["direction"])
    best = "0 is best" if _is_distance(study.metric) else best
    # With fewer samples a Fréchet distance is higher: such a beginning would flatter the result.
    if study.metric not in study.history or study.grows:
        return best
    measured = study.history.dropna(subset=[study.metric])
    first = measured[measured["kimg"] == measured["kimg"].min()]
    if len(first) < LEAST or len(first) == len(measured):
        return best
    median = number(float(first[study.metric].astype(float).median()), 3)
    at = f"{kimg_text(float(first['kimg'].iloc[0]))} kimg"
    return f"{best}; at {at} the median of {len(first)} trials was {median}"


def _is_distance(metric: str) -> bool:
    return metric in METRICS and str(METRICS[metric].computed_by).startswith(DISTANCES)
