"""The fast paths of training against the plain one, within the rounding they are allowed."""

import shutil

import pytest
import torch
from torch import Tensor, nn

from raygen.compute import Compute, tf32
from raygen.data import Split
from raygen.data.batches import Batches
from raygen.data.shapes import draw_shapes
from raygen.training.loop import make_learner
from raygen.trial import Trial, parse_trial

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PENALTY = {"name": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": 10.0}
R1 = {"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.1}
SMALL = {"latent_dim": 8, "width": 8}
TRIALS = {
    "gan": {"family": "gan", "model": {"name": "dcgan", **SMALL}},
    "gan with spectral norm": {
        "family": "gan",
        "model": {"name": "dcgan", **SMALL, "discriminator_norm": "spectral"},
    },
    "gan with gradient penalty": {
        "family": "gan",
        "model": {"name": "dcgan", **SMALL, "conditional": True},
        "loss": PENALTY,
    },
    "gan with r1 and r2": {
        "family": "gan",
        "model": {"name": "dcgan", **SMALL},
        "loss": R1,
        "augment": "color,translation,cutout",
    },
    "sngan": {
        "family": "gan",
        "model": {"name": "sngan", **SMALL, "discriminator_width": 8, "conditional": True},
    },
    "biggan": {
        "family": "gan",
        "model": {
            "name": "biggan",
            "latent_dim": 8,
            "width": 2,
            "discriminator_width": 4,
            "embedding_dim": 8,
        },
        "loss": {"name": "hinge"},
    },
    "r3gan": {
        "family": "gan",
        "model": {"name": "r3gan", **SMALL, "group_width": 4, "growth": 1, "blocks": 1},
        "loss": R1,
    },
    "style_gan": {
        "family": "gan",
        "model": {"name": "style_gan", **SMALL, "conditional": True},
        "loss": R1,
    },
    "ladder vae": {
        "family": "vae",
        "model": {"name": "ladder_vae", "width": 8, "latent_channels": 1, "layers": 1},
        "loss": {"likelihood": "discretised_logistic_mixture"},
    },
    "vae": {"family": "vae", "model": {"name": "conv_vae", **SMALL}},
}


def trial(name: str) -> Trial:
    return parse_trial({**TRIALS[name], "batch_size": 16})


@pytest.fixture(scope="module")
def split() -> Split:
    return Split(*map(torch.from_numpy, draw_shapes(64, 0)))


@pytest.fixture(autouse=True)
def cold() -> None:
    torch.compiler.reset()


def losses(name: str, split: Split, compute: Compute, steps: int) -> dict[str, float]:
    """The losses after so many steps, from the same weights."""
    learner = make_learner(trial(name), 10, CPU, seed=0, compute=compute)
    batches = Batches(split, 16, 0, CPU)
    for step in range(steps):
        found = learner.step(batches, step * learner.images_per_step)
    return {key: float(value) for key, value in found.items()}


@pytest.mark.parametrize("name", TRIALS)
def test_the_memory_layout_changes_no_more_than_the_order_of_sums(name: str, split: Split) -> None:
    plain = losses(name, split, Compute(channels_last=False), 3)

    assert losses(name, split, Compute(channels_last=True), 3) == pytest.approx(
        plain, rel=1e-3, abs=1e-5
    )


@pytest.mark.parametrize("name", TRIALS)
def test_bfloat16_changes_the_first_losses_by_its_rounding(name: str, split: Split) -> None:
    """bfloat16 keeps 8 bits: 0.4% a product, averaged over a batch and a layer's inputs."""
    plain = losses(name, split, Compute(precision="float32"), 1)

    rounded = losses(name, split, Compute(precision="bfloat16"), 1)

    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=2e-2, abs=2e-2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
@pytest.mark.parametrize("name", ["gan with spectral norm", "gan with r1 and r2", "ladder vae"])
def test_compiled_steps_are_the_plain_ones(name: str, split: Split) -> None:
    plain = losses(name, split, Compute(), 3)

    assert losses(name, split, Compute(compile=True), 3) == pytest.approx(plain, rel=1e-3, abs=1e-5)


def test_weights_gradients_and_averages_stay_in_float32_under_bfloat16(split: Split) -> None:
    learner = make_learner(trial("gan"), 10, CPU, seed=0, compute=Compute(precision="bfloat16"))
    learner.step(Batches(split, 16, 0, CPU), 0)

    state = learner.state_dict()
    tensors = [
        v for part in ("generator", "discriminator", "average") for v in state[part].values()
    ]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}


def test_samples_do_not_depend_on_the_precision_of_training(split: Split) -> None:
    latents = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(4, dtype=torch.long)

    one, other = (
        make_learner(trial("gan"), 10, CPU, seed=0, compute=Compute(precision=precision))
        for precision in ("float32", "bfloat16")
    )

    assert torch.equal(one.sample(latents, labels), other.sample(latents, labels))


def test_defaults_are_exact_on_the_cpu_and_fast_on_cuda() -> None:
    plain, fast = Compute().on(CPU), Compute().on(CUDA)

    assert (plain.bfloat16, plain.channels_last, plain.tf32, plain.compiled) == (
        False,
        True,
        False,
        False,
    )
    assert (fast.bfloat16, fast.channels_last, fast.tf32, fast.compiled) == (
        True,
        True,
        True,
        False,
    )


def test_what_is_asked_for_is_done_on_any_device() -> None:
    asked = Compute(precision="float32", channels_last=False, tf32=False, compile=True).on(CUDA)

    assert (asked.bfloat16, asked.channels_last, asked.tf32, asked.compiled) == (
        False,
        False,
        False,
        True,
    )


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_is_as_before_once_its_part_is_over(wanted: bool) -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]

    def fail() -> None:
        with tf32(wanted):
            assert [flag.allow_tf32 for flag in flags] == [wanted] * 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert [flag.allow_tf32 for flag in flags] == before


def test_a_layout_is_that_of_weights_and_of_images() -> None:
    arithmetic = Compute(channels_last=True).on(CPU)
    image: Tensor = arithmetic.layout(torch.zeros(2, 3, 4, 4))
    network = arithmetic.layout(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(2, 2)))

    for tensor in (image, network[0].weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_a_trial_that_was_lost_is_not_compiled_again_and_then_not_graphed_either() -> None:
    chosen = [Compute(precision="float32").after(losses) for losses in range(4)]

    assert [c.compile for c in chosen] == ["auto", False, False, False]
    assert [c.graph for c in chosen] == ["auto", "auto", "off", "off"]
    assert all(c.precision == "float32" for c in chosen)
