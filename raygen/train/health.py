"""Signs that a trial is lost: each ends it with a reason that the report shows."""

import math

from torch import Tensor

# Of 25 public GAN logs, 6 rose to more than 1.25 times their best distance and none of them came
# back. 1.5 times, twice in a row, leaves room for the noise of a small sample.
RISE = 1.5
PATIENCE = 2
# Generated images vary per pixel by less than this share of what real ones do: nearly one picture.
DIVERSITY = 0.05
# Generator steps before that is a sign: fresh generators draw nearly one picture, too. At the
# rates of the DCGAN paper and batches of 16, they left that state after 20 to 60 steps.
YOUNG = 200


class Health:
    """Watches one trial over its evaluations; its state travels in the checkpoint."""

    def __init__(self, minimise: bool, real: Tensor, diversity: float = DIVERSITY) -> None:
        """`diversity` 0 turns that sign off: samples of a young VAE are alike and no bad sign."""
        self.minimise, self.diversity = minimise, diversity
        self.real_spread = spread(real)
        self.best = math.inf if minimise else -math.inf
        self.worse = 0
        self.uniform = 0

    def losses(self, losses: dict[str, float]) -> str | None:
        """Return the reason to stop if a loss is not finite."""
        for name, value in losses.items():
            if not math.isfinite(value):
                return f"{name.replace('_', ' ')} is {value}"
        return None

    def evaluation(self, value: float, samples: Tensor, steps: int) -> str | None:
        """Return the reason to stop, from the objective and the sample grid after so many steps."""
        if not math.isfinite(value):
            return f"the objective is {value}"
        share = spread(samples) / self.real_spread
        alike = share < self.diversity and steps >= YOUNG
        self.uniform = self.uniform + 1 if alike else 0
        if self.uniform >= PATIENCE:
            return f"collapse: samples vary {share:.1%} as much as real images"
        if (value < self.best) == self.minimise or not math.isfinite(self.best):
            self.best, self.worse = value, 0
            return None
        # A ratio means something only for distances, which are positive and minimised.
        lost = self.minimise and self.best > 0 and value > RISE * self.best
        self.worse = self.worse + 1 if lost else 0
        if self.worse >= PATIENCE:
            return f"collapse: the objective rose from {self.best:.4g} to {value:.4g}"
        return None

    def state_dict(self) -> dict[str, float]:
        """What a resumed trial must remember."""
        return {"best": self.best, "worse": self.worse, "uniform": self.uniform}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore."""
        self.best, self.worse = state["best"], int(state["worse"])
        self.uniform = int(state["uniform"])


def spread(images: Tensor) -> float:
    """Standard deviation over images uint8 (n, 3, h, w), mean over pixels, in grey levels."""
    return float(images.float().std(dim=0).mean())
