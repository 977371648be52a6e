"""A tiny data set, a cheap evaluator and the smallest trial of each family."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.losses.adversarial import AdversarialLoss
from raygen.losses.elbo import ElboLoss
from raygen.metrics import Score
from raygen.metrics.model import Generative, draw_latents
from raygen.models.biggan import Biggan
from raygen.models.conv_vae import ConvVae
from raygen.models.dcgan import Dcgan
from raygen.models.ladder_vae import LadderVae
from raygen.models.r3gan import R3gan
from raygen.models.sngan import Sngan
from raygen.models.style_gan import StyleGan
from raygen.schedules import Schedule
from raygen.training import health
from raygen.trial import Adaptive, Ema, GanOptimizer, GanTrial, Trial, VaeOptimizer, VaeTrial


def moving(start: float, to: float) -> Schedule:
    return Schedule.model_validate({"schedule": "linear", "from": start, "to": to, "over": 0.6})


EMA = Ema(half_life_kimg=0.2)
PENALTY = AdversarialLoss(name="wasserstein", penalty="gradient_penalty", penalty_weight=10.0)
TRIALS: dict[str, Trial] = {
    "gan": GanTrial(model=Dcgan(latent_dim=8, width=4), ema=EMA, batch_size=16),
    "gan with penalty": GanTrial(
        model=Dcgan(latent_dim=8, width=4, conditional=True),
        loss=PENALTY,
        optimizer=GanOptimizer(discriminator_steps=2),
        ema=EMA,
        batch_size=16,
    ),
    "gan with spectral norm": GanTrial(
        model=Dcgan(latent_dim=8, width=4, discriminator_norm="spectral"), ema=EMA, batch_size=16
    ),
    "sngan": GanTrial(
        model=Sngan(latent_dim=8, width=4, discriminator_width=4, conditional=True),
        loss=AdversarialLoss(name="hinge"),
        optimizer=GanOptimizer(decay="linear", clip=1.0),
        ema=EMA,
        augment="color,translation,cutout",
        batch_size=16,
    ),
    "biggan": GanTrial(
        model=Biggan(latent_dim=8, width=1, discriminator_width=2, embedding_dim=4),
        ema=EMA,
        batch_size=16,
    ),
    "r3gan": GanTrial(
        model=R3gan(latent_dim=8, width=4, group_width=4, growth=1, blocks=1),
        loss=AdversarialLoss(
            name="relativistic", penalty="r1_r2", penalty_weight=0.1, penalty_interval=2
        ),
        ema=EMA,
        batch_size=16,
        accumulate=2,
    ),
    "schedules, ada, muon": GanTrial(
        model=Dcgan(latent_dim=8, width=4, discriminator_norm="layer"),
        loss=AdversarialLoss(penalty="r1", penalty_weight=moving(0.5, 0.05)),
        optimizer=GanOptimizer(
            name="muon",
            weight_decay=0.01,
            generator_lr=moving(1e-3, 0.0),
            beta1=moving(0.0, 0.5),
            beta2=moving(0.9, 0.99),
        ),
        ema=Ema(half_life_kimg=moving(0.0, 0.2)),
        augment="color,blit,geometric",
        augment_p=Adaptive(target=0.0, kimg=0.3),
        batch_size=16,
    ),
    "style_gan": GanTrial(
        model=StyleGan(latent_dim=8, width=4, conditional=True, minibatch_std=2),
        loss=AdversarialLoss(penalty="r1", penalty_weight=0.1, penalty_interval=2),
        ema=EMA,
        batch_size=16,
    ),
    "vae": VaeTrial(model=ConvVae(latent_dim=8, width=4), ema=EMA, batch_size=16),
    "ladder vae": VaeTrial(
        model=LadderVae(latent_channels=1, width=4, layers=1),
        loss=ElboLoss(likelihood="discretised_logistic_mixture", free_bits=0.5, warmup_kimg=0.15),
        optimizer=VaeOptimizer(name="adamw", weight_decay=0.01, decay="cosine"),
        ema=EMA,
        batch_size=16,
        accumulate=2,
    ),
    "ladder vae of bottlenecks": VaeTrial(
        model=LadderVae(latent_channels=1, width=8, layers=1, norm="batch", block="bottleneck"),
        ema=EMA,
        batch_size=16,
    ),
    # Of its first twenty steps six are skipped, the second among them.
    "vae that skips": VaeTrial(
        model=ConvVae(latent_dim=8, width=4),
        optimizer=VaeOptimizer(skip=1.6e4),
        ema=EMA,
        batch_size=16,
    ),
}


class PixelDistance:
    """Mean distance of the average generated image to the average training image."""

    metrics = ("fd_classifier",)
    device = torch.device("cpu")

    def __init__(self, data: ImageData) -> None:
        self.mean = data.train.images.float().mean(dim=0)

    def __call__(self, model: Generative) -> dict[str, Score]:
        images = model.sample(*draw_latents(model, 1, 0, 32)).float().mean(dim=0)
        return {"fd_classifier": Score(float((images - self.mean).abs().mean()), {"samples": 32})}


def make_data(count: int = 256) -> ImageData:
    """`count` drawn shapes to train on and 64 to test on."""
    train, test = (
        Split(*map(torch.from_numpy, draw_shapes(n, seed))) for n, seed in ((count, 0), (64, 1))
    )
    return ImageData("shapes", tuple(SHAPES), train, test, fingerprint(train, test))


def be_patient(setattr: Callable[[object, str, float], None]) -> None:
    """Let no sign of a collapse count, however often it is seen."""
    for limit in ("PATIENCE", "LASTING"):
        setattr(health, limit, math.inf)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from or left in the cache of whoever runs the tests."""
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: these networks are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial ends as a collapse: after so few steps all samples of a healthy one look alike."""
    be_patient(monkeypatch.setattr)


@pytest.fixture(scope="session")
def data() -> ImageData:
    return make_data()


@pytest.fixture(scope="session")
def evaluator(data: ImageData) -> PixelDistance:
    return PixelDistance(data)


@pytest.fixture
def gan() -> Trial:
    return TRIALS["gan"]


@pytest.fixture
def vae() -> Trial:
    return TRIALS["vae"]


@pytest.fixture(params=["gan", "vae"])
def trial(request: pytest.FixtureRequest) -> Trial:
    """One trial of each family."""
    return TRIALS[request.param]


@pytest.fixture(params=list(TRIALS))
def any_trial(request: pytest.FixtureRequest) -> Trial:
    """Every trial whose state differs: penalties, several steps, spectral norm, VAE."""
    return TRIALS[request.param]
