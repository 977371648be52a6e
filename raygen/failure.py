"""What a failed generator looks like: one rule for training, rankings and the page."""

import math

# Generated images that vary per pixel by less than this share of what real ones do are nearly one
# picture. Of a GAN that is collapse; samples of a young VAE are alike and still get better.
DIVERSITY = 0.05


def is_one_image(variation: float | None, family: str) -> bool:
    """Whether samples have collapsed that vary by this share of what real ones do.

    None or nan, where that is not known, says nothing.
    """
    if variation is None or math.isnan(variation):
        return False
    return family == "gan" and variation < DIVERSITY


def knows_nothing(value: float, guess: float | None, minimise: bool) -> bool:
    """Whether an objective is no better than that of a model that finds all pictures as likely."""
    return guess is not None and not (value < guess if minimise else value > guess)
