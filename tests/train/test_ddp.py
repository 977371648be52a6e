"""Two processes with half the batch each train what one process trains with all of it.

The tolerances are those of float32 sums in another order, carried through some steps of Adam:
batch normalisation that is not shared misses them by a factor of 15 or more.
"""

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from raygen.compute import Compute
from raygen.data import ImageData, Split, fingerprint
from raygen.data.batches import Batches
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.distributed import agree, rank
from raygen.losses.adversarial import AdversarialLoss
from raygen.losses.elbo import ElboLoss
from raygen.metrics.classifier import FEATURES, Classifier
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.frechet import FeatureMoments
from raygen.models.biggan import Biggan
from raygen.models.conv_vae import ConvVae
from raygen.models.dcgan import Dcgan
from raygen.models.ladder_vae import LadderVae
from raygen.models.r3gan import R3gan
from raygen.models.sngan import Sngan
from raygen.models.style_gan import StyleGan
from raygen.training.gan import GanLearner
from raygen.training.loop import CHECK_EVERY, fit, make_learner
from raygen.trial import Adaptive, Ema, GanOptimizer, GanTrial, Trial, VaeOptimizer, VaeTrial

pytestmark = pytest.mark.slow  # pairs of processes, each with everything imported
CPU = torch.device("cpu")
STEPS = 6
# The layout whose kernels sum in the same order for half a batch: with channels_last the same runs
# drift apart three times as far within six steps.
PLAIN = Compute(channels_last=False)
EMA = Ema(half_life_kimg=0.2)
PENALTY = AdversarialLoss(name="wasserstein", penalty="gradient_penalty", penalty_weight=10.0)
TRIALS: dict[str, Trial] = {
    "gan with batch norm, penalty and two discriminator steps": GanTrial(
        model=Dcgan(latent_dim=8, width=8, conditional=True),
        loss=PENALTY,
        optimizer=GanOptimizer(discriminator_steps=2),
        ema=EMA,
        batch_size=16,
    ),
    "gan with spectral norm": GanTrial(
        model=Dcgan(latent_dim=8, width=8, discriminator_norm="spectral"), ema=EMA, batch_size=16
    ),
    "gan with batch norm on both sides": GanTrial(
        model=Dcgan(latent_dim=8, width=8, discriminator_norm="batch"), ema=EMA, batch_size=16
    ),
    "sngan with classes and augmentation": GanTrial(
        model=Sngan(latent_dim=8, width=8, discriminator_width=8, conditional=True),
        loss=AdversarialLoss(name="hinge"),
        optimizer=GanOptimizer(decay="linear", clip=1.0),
        ema=EMA,
        augment="color,translation,cutout",
        batch_size=16,
    ),
    "biggan": GanTrial(
        model=Biggan(latent_dim=8, width=2, discriminator_width=4, embedding_dim=8),
        loss=AdversarialLoss(name="hinge"),
        ema=EMA,
        batch_size=16,
    ),
    "r3gan in two parts with lazy penalties": GanTrial(
        model=R3gan(latent_dim=8, width=8, group_width=4, growth=1, blocks=1),
        loss=AdversarialLoss(
            name="relativistic", penalty="r1_r2", penalty_weight=0.1, penalty_interval=2
        ),
        optimizer=GanOptimizer(discriminator_steps=2),
        ema=EMA,
        batch_size=16,
        accumulate=2,
    ),
    "style_gan that compares four images": GanTrial(
        model=StyleGan(latent_dim=8, width=8, conditional=True, minibatch_std=4),
        loss=AdversarialLoss(name="relativistic", penalty="r1_r2", penalty_weight=0.1),
        ema=EMA,
        batch_size=16,
        accumulate=2,
    ),
    "gan with augmentation that adapts": GanTrial(
        model=Dcgan(latent_dim=8, width=8, discriminator_norm="layer"),
        ema=EMA,
        augment="blit,geometric,color",
        augment_p=Adaptive(target=0.1, kimg=0.2),
        batch_size=16,
    ),
    "vae with batch norm": VaeTrial(
        model=ConvVae(latent_dim=8, width=8, norm="batch"), ema=EMA, batch_size=16
    ),
    "vae in two parts": VaeTrial(
        model=ConvVae(latent_dim=8, width=8, norm="layer"), ema=EMA, batch_size=16, accumulate=2
    ),
    # The first four of its six steps are skipped, by all ranks.
    "vae that skips": VaeTrial(
        model=ConvVae(latent_dim=8, width=8, norm="layer"),
        optimizer=VaeOptimizer(skip=1.935e4),
        ema=EMA,
        batch_size=16,
    ),
    "ladder vae with free bits": VaeTrial(
        model=LadderVae(latent_channels=1, width=8, layers=1, norm="layer"),
        loss=ElboLoss(likelihood="discretised_logistic_mixture", free_bits=5.0, warmup_kimg=0.05),
        optimizer=VaeOptimizer(lr=3e-3, decay="linear"),
        ema=EMA,
        batch_size=16,
    ),
}


class Facts(NamedTuple):
    """What one process saw."""

    losses: dict[str, list[dict[str, float]]]  # a dict per step, by trial
    weights: dict[str, dict[str, Any]]
    ending: tuple[str | None, int]  # why a trial with NaN on the last rank ended, at which image
    moments: dict[str, Tensor]
    scores: dict[str, float]
    agreed: tuple[bool, bool]
    free_bits: tuple[float, float]  # a divergence, and its slope by this rank's


@pytest.fixture(scope="module")
def alone() -> Facts:
    """A single process, without a process group."""
    return _alone()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Facts, Facts]:
    """Both processes of a group of two."""
    return _pair(tmp_path_factory.mktemp("pair"))


def _alone() -> Facts:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    facts = _facts(ranks=1)
    torch.set_num_threads(threads)
    return facts


def _pair(folder: Path) -> tuple[Facts, Facts]:
    # This file as a script, not multiprocessing's spawn: that must import it by its module name,
    # which depends on how pytest was configured to import tests.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    commands = [[sys.executable, __file__, str(number), str(folder)] for number in range(2)]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        assert [process.wait(timeout=600) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (torch.load(folder / f"{n}.pt", weights_only=True) for n in range(2))
    return Facts(*first), Facts(*second)


@pytest.mark.parametrize("name", TRIALS)
def test_the_mean_loss_of_two_ranks_is_the_loss_of_one_process(
    name: str, alone: Facts, pair: tuple[Facts, Facts]
) -> None:
    first, second = (facts.losses[name] for facts in pair)
    for step, whole in enumerate(alone.losses[name]):
        mean = {key: (first[step][key] + second[step][key]) / 2 for key in whole}
        # The first step is a pure forward pass; Adam enlarges rounding noise in the later ones.
        # Run this file as a script to see by how much.
        assert mean == pytest.approx(whole, rel=1e-3 if step else 1e-5, abs=3e-6)


@pytest.mark.parametrize("name", TRIALS)
def test_both_ranks_hold_bit_equal_weights_and_running_statistics(
    name: str, pair: tuple[Facts, Facts]
) -> None:
    ours, theirs = (_tensors(facts.weights[name]) for facts in pair)

    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


@pytest.mark.parametrize("name", TRIALS)
def test_two_ranks_end_with_the_weights_of_one_process(
    name: str, alone: Facts, pair: tuple[Facts, Facts]
) -> None:
    ours, theirs = _tensors(pair[0].weights[name]), _tensors(alone.weights[name])

    assert ours.keys() == theirs.keys()
    # Not the biases: in front of batch normalisation they have no gradient but rounding noise,
    # which Adam turns into steps of full size; the running means follow them.
    kept = [key for key in ours if ours[key].dim() >= 2 or key.endswith(("running_var", "vector"))]
    for key in kept:
        difference = (ours[key] - theirs[key]).double().norm()
        assert difference <= 1e-3 * theirs[key].double().norm(), key


def test_nan_on_one_rank_ends_the_trial_on_both_at_the_same_image(
    pair: tuple[Facts, Facts],
) -> None:
    (other, images), (own, same) = (facts.ending for facts in pair)

    assert own == "generator loss is nan"
    assert other == "a loss is not finite on another worker"
    assert images == same == CHECK_EVERY * 16


def test_moments_that_two_ranks_gather_are_those_of_one_process(
    alone: Facts, pair: tuple[Facts, Facts]
) -> None:
    for facts in pair:
        for name, value in alone.moments.items():
            assert torch.allclose(facts.moments[name], value, rtol=1e-12, atol=1e-12), name


def test_two_ranks_that_share_an_evaluation_find_the_scores_of_one_process(
    alone: Facts, pair: tuple[Facts, Facts]
) -> None:
    assert pair[0].scores == pair[1].scores
    # The images come from bit-equal weights, so only the order of float64 sums differs.
    assert pair[0].scores == pytest.approx(alone.scores, rel=1e-9)


def test_one_raised_flag_is_seen_by_both_ranks(pair: tuple[Facts, Facts]) -> None:
    assert [facts.agreed for facts in pair] == [(True, False)] * 2


def test_free_bits_are_those_of_the_global_batch(pair: tuple[Facts, Facts]) -> None:
    """Means of 1 and 3 nats are 2 together, of which 1.5 are free."""
    assert [facts.free_bits for facts in pair] == [(2.0, 1.0)] * 2


def _worker(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    torch.save(tuple(_facts(ranks=2)), folder / f"{number}.pt")
    dist.destroy_process_group()


def _facts(ranks: int) -> Facts:
    data = _data()
    losses, weights = {}, {}
    for name, trial in TRIALS.items():
        learner = make_learner(trial, 10, CPU, 1, PLAIN, budget=10 * 16)
        batches = Batches(data.train, trial.batch_size, 1, CPU)
        size = learner.images_per_step
        found = [learner.step(batches, size * step) for step in range(STEPS)]
        losses[name] = [{key: value.item() for key, value in step.items()} for step in found]
        # Losses, which are in "skip", are those of this rank's images.
        state = learner.state_dict().items()
        weights[name] = {k: v for k, v in state if "optimizer" not in k and k != "skip"}
    agreed = agree(rank() == ranks - 1, CPU), agree(False, CPU)
    ending = _ending(data) if ranks == 2 else (None, 0)
    return Facts(losses, weights, ending, _moments(ranks), _scores(data), agreed, _free_bits())


def _free_bits() -> tuple[float, float]:
    """One layer, on whose rank 0 alone the posterior is nearer to the prior than is free."""
    kl = torch.tensor([1.0 + 2.0 * rank()], requires_grad=True)
    divergence = ElboLoss(free_bits=1.5).divergence(kl, torch.tensor(1.5))
    (slope,) = torch.autograd.grad(divergence, kl)
    return divergence.item(), slope.item()


def _ending(data: ImageData) -> tuple[str | None, int]:
    """Train a GAN whose loss becomes NaN on the last rank only."""
    step = GanLearner.step

    def poisoned(self: GanLearner, batches: Batches, position: int) -> dict[str, Tensor]:
        losses = step(self, batches, position)
        return {**losses, "generator_loss": losses["generator_loss"] * math.nan}

    if rank() == 1:
        GanLearner.step = poisoned  # in this process only, which ends soon
    trial = TRIALS["gan with spectral norm"]
    evaluator = Evaluator(("fd_classifier",), data, 16, CPU, _assets())
    (progress,) = fit(trial, data, evaluator, (10.0, 20.0), seed=0)
    return progress.diverged, progress.state["images"]


def _moments(ranks: int) -> dict[str, Tensor]:
    """Mean and covariance of features of which the first rank holds 70 and the second 30."""
    features = torch.randn(100, 6, generator=torch.Generator().manual_seed(0)) + 3
    mine = [features] if ranks == 1 else [features[:70].split(33), features[70:].split(7)][rank()]
    moments = FeatureMoments(6, CPU)
    for chunk in mine:
        moments.add(chunk)
    stats = moments.merged().stats()
    return {"mean": stats.mean, "cov": stats.cov, "count": torch.tensor(float(stats.count))}


def _scores(data: ImageData) -> dict[str, float]:
    """Scores of an untrained VAE: three chunks of samples and two of test images."""
    metrics = ("fd_classifier", "elbo", "iwae_bits_per_dim", "active_units")
    evaluator = Evaluator(metrics, data, 600, CPU, _assets())
    learner = make_learner(TRIALS["vae with batch norm"], 10, CPU, seed=1)
    return {name: score.value for name, score in evaluator(learner).items()}


def _assets() -> dict[str, dict[str, Any]]:
    """An untrained classifier and made-up reference statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = Classifier(10).state_dict()
        features = torch.randn(500, FEATURES, dtype=torch.float64)
    reference = {"mean": features.mean(dim=0), "cov": features.T.cov(), "count": 500}
    asset = {"state": state, "accuracy": 0.1, "hash": "none", "task": "classes"}
    return {"classifier": {**asset, **reference}}


def _data() -> ImageData:
    train, test = (
        Split(*map(torch.from_numpy, draw_shapes(n, seed))) for n, seed in ((100, 0), (300, 1))
    )
    return ImageData("shapes", tuple(SHAPES), train, test, fingerprint(train, test))


def _tensors(state: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    flat = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        flat |= {name: value} if isinstance(value, Tensor) else _tensors(value, f"{name}.")
    return flat


def _table() -> str:
    """The largest relative difference of two ranks to one process, of losses and of weights."""
    with tempfile.TemporaryDirectory() as folder:
        one, (first, second) = _alone(), _pair(Path(folder))
    lines = [f"{'':58}  loss, step 1  loss, step {STEPS}    weights"]
    for name in TRIALS:
        steps = []
        for step in (0, STEPS - 1):
            whole, parts = one.losses[name][step], (first.losses[name], second.losses[name])
            steps.append(
                max(
                    abs((parts[0][step][key] + parts[1][step][key]) / 2 - value)
                    / max(abs(value), 1e-9)
                    for key, value in whole.items()
                )
            )
        ours, theirs = _tensors(first.weights[name]), _tensors(one.weights[name])
        weights = max(
            float((ours[key] - theirs[key]).double().norm() / theirs[key].double().norm())
            for key in ours
            if ours[key].dim() >= 2
        )
        lines.append(f"{name:58}  {steps[0]:12.1e}  {steps[1]:12.1e}  {weights:9.1e}")
    return "\n".join(lines)


if __name__ == "__main__" and len(sys.argv) == 1:
    print(_table())
elif __name__ == "__main__":
    _worker(int(sys.argv[1]), Path(sys.argv[2]))
