"""What a failed generator looks like: one rule for training, rankings and the page."""

import math

# Generated images that vary per pixel by less than this share of what real ones do are nearly one
# picture. Of a GAN that is collapse; samples of a young VAE are alike and still get better.
DIVERSITY = 0.05


def is_one_image(variation: float | None, family: str) -> bool:
    """Whether samples that vary by this share of real images have collapsed.

    None or nan means unknown.
    """
    if variation is None or math.isnan(variation):
        return False
    return family != "vae" and variation < DIVERSITY


def why_useless(
    family: str,
    variation: float | None,
    value: float = math.nan,
    guess: float | None = None,
    minimise: bool = True,
) -> str:
    """Why a model's samples are unusable, whatever its objective says; "" if they are usable.

    `variation` is that of its samples as a share of that of real images; `value` its objective, and
    `guess` that of a model that finds all pictures equally likely. None and nan mean unknown.
    """
    if variation is not None and is_one_image(variation, family):
        return f"draws one image: its samples vary {variation:.1%} as much as real ones"
    if (
        guess is not None
        and not math.isnan(value)
        and (value >= guess if minimise else value <= guess)
    ):
        return f"is no better than a model that knows nothing ({guess:g})"
    return ""
