"""Signs that a trial is lost: each ends it with a reason that the report shows."""

import math
from typing import Any

from torch import Tensor

from raygen.best import Best
from raygen.failure import DIVERSITY

# Of 25 public GAN logs, 6 rose to more than 1.25 times their best distance and none of them came
# back; at the end they were 3 and 5 times as far. Healthy ones swing in their youth: of 60 small
# ones at random rates, 29 were above 1.5 times their best twice in a row, and 20 of these improved
# on it later; above twice it, three times in a row, was one (benchmarks/rises.py).
RISE = 2.0
LASTING = 3
PATIENCE = 2  # of every other sign: how often in a row
# Generator steps before that is a sign: fresh generators draw nearly one picture, too. At the
# rates of the DCGAN paper and batches of 16, they left that state after 20 to 60 steps.
YOUNG = 200
# A discriminator whose loss is below this share of that of guessing tells every image apart, and
# its gradients say nothing about how to do better.
WON = 0.01
# An objective that changes by a smaller share does not improve for that sign.
GAIN = 0.02
# A model worse than one that knows nothing must close this share of the gap from one evaluation to
# the next; learning at all, it crosses it within the first hundreds of steps.
CLOSING = 0.1
# Nats per image: latents that say less leave every picture to the decoder alone. Trained VAEs of
# 32x32 colour images carry tens to hundreds.
EMPTY = 1.0


# How reasons begin that an evaluation gives; others come from the losses on the way to one.
JUDGED = ("collapse", "posterior collapse", "discriminator wins", "the objective is", "every step")


class Health:
    """Watches one trial over its evaluations; its state travels in the checkpoint."""

    def __init__(
        self,
        minimise: bool,
        real: Tensor,
        diversity: float = DIVERSITY,
        chance: float | None = None,
        guess: float | None = None,
    ) -> None:
        """`diversity` 0 turns that sign off: samples of a young VAE are alike and no bad sign.

        `chance`: the discriminator's loss where it can only guess; `guess`: the objective of a
        model that knows nothing.
        """
        self.minimise, self.diversity = minimise, diversity
        self.chance, self.guess = chance, guess
        self.real_spread = spread(real)
        self.variation: float | None = None  # of the last samples, as a share of that of real ones
        self.milestones = Best(minimise)
        self.risen = 0
        self.worse = 0
        self.uniform = 0
        self.won = 0
        self.empty = 0
        self.stuck = 0

    def losses(self, losses: dict[str, float]) -> str | None:
        """Return the reason to stop if a loss is not finite."""
        for name, value in losses.items():
            if not math.isfinite(value):
                return f"{name.replace('_', ' ')} is {value}"
        return None

    @property
    def best(self) -> float:
        """The best value so far, of those that compare with the last; infinite before the first."""
        worst = math.inf if self.minimise else -math.inf
        return self.milestones.values[0] if self.milestones.values else worst

    def measured_by(self, protocol: str) -> None:
        """Forget the best value if the next one is measured in another way."""
        self.milestones.measured_by(protocol)

    def evaluation(
        self, value: float, samples: Tensor, steps: int, losses: dict[str, float]
    ) -> str | None:
        """Return the reason to stop, from what was measured after so many steps.

        `samples` is the sample grid, `losses` the means since the last evaluation.
        """
        self.variation = share = spread(samples) / self.real_spread
        if not math.isfinite(value):
            return f"the objective is {value}"
        alike = share < self.diversity and steps >= YOUNG
        self.uniform = self.uniform + 1 if alike else 0
        if self.uniform >= PATIENCE:
            return f"collapse: samples vary {share:.1%} as much as real images"
        latent = losses.get("kl", math.inf)
        self.empty = self.empty + 1 if latent < EMPTY and steps >= YOUNG else 0
        if self.empty >= PATIENCE:
            return f"posterior collapse: the latents carry {latent:.2g} nats per image"
        self.stuck = self.stuck + 1 if losses.get("skipped") == 1 else 0
        if self.stuck >= PATIENCE:
            return "every step was skipped: no gradient was finite and below optimizer.skip"
        before, first = self.best, not math.isfinite(self.best)
        better = self.milestones.improved_by([value])
        gained = first or (better and abs(value - before) > GAIN * abs(before))
        part = losses.get("discriminator_loss", math.inf) / (self.chance or math.inf)
        won = self.chance is not None and part < WON and not gained
        self.won = self.won + 1 if won else 0
        if self.won >= PATIENCE:
            return f"discriminator wins: its loss is {part:.2%} of the loss of guessing"
        useless = self._useless(value, before, steps)
        # A ratio means something only for distances, which are positive and minimised.
        lost = not better and self.minimise and before > 0 and value > RISE * before
        self.risen = self.risen + 1 if lost else 0
        self.worse = self.worse + 1 if useless else 0
        if self.worse >= PATIENCE:
            return (
                f"the objective is {value:.4g}, worse than a model that knows nothing "
                f"({self.guess:g})"
            )
        if self.risen >= LASTING:
            return f"collapse: the objective rose from {self.best:.4g} to {value:.4g}"
        return None

    def evaluated_again(self, value: float, samples: Tensor) -> None:
        """Note another evaluation of the very state of the last one: no second sign of anything."""
        self.variation = spread(samples) / self.real_spread
        if math.isfinite(value):
            self.milestones.improved_by([value])

    def _useless(self, value: float, before: float, steps: int) -> bool:
        """Whether it is worse than a model that knows nothing, and not on its way to be better."""
        if self.guess is None or steps < YOUNG or (value > self.guess) != self.minimise:
            return False
        return abs(value - self.guess) > (1 - CLOSING) * abs(before - self.guess)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed trial must remember."""
        counts = {"worse": self.worse, "uniform": self.uniform, "won": self.won}
        protocol = self.milestones.protocol or ""
        counts |= {"empty": self.empty, "stuck": self.stuck, "risen": self.risen}
        return {"best": self.best, "protocol": protocol, **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.milestones.protocol = state["protocol"] or None
        self.milestones.values = [state["best"]] if math.isfinite(state["best"]) else None
        self.worse = int(state["worse"])
        self.uniform, self.won = int(state["uniform"]), int(state["won"])
        self.empty, self.stuck = int(state["empty"]), int(state.get("stuck", 0))
        self.risen = int(state.get("risen", 0))


def spread(images: Tensor) -> float:
    """Standard deviation over images uint8 (n, 3, h, w), mean over pixels, in grey levels."""
    return float(images.float().std(dim=0).mean())
