"""Every architecture and likelihood at every size and with one channel."""

from typing import Any, get_args

import pytest
import torch

from raygen.errors import InputError
from raygen.image_shape import SIZES, ImageShape
from raygen.losses.elbo import LIKELIHOODS
from raygen.models import GanModel, VaeModel
from raygen.models.biggan import Biggan
from raygen.models.ladder_vae import LadderVae
from raygen.models.layers import residual_widths
from raygen.training.vae import Vae
from raygen.trial import parse_trial

TINY: dict[str, dict[str, Any]] = {
    "dcgan": {"width": 2, "latent_dim": 8},
    "sngan": {"width": 4, "discriminator_width": 4, "latent_dim": 8},
    "biggan": {"width": 2, "discriminator_width": 2, "embedding_dim": 2, "latent_dim": 8},
    "r3gan": {"width": 4, "group_width": 4, "blocks": 1, "latent_dim": 8},
    "style_gan": {"width": 4, "latent_dim": 8},
    "conv_vae": {"width": 2, "latent_dim": 8},
    "ladder_vae": {"width": 2, "latent_channels": 1, "layers": 1},
}
GANS = get_args(get_args(GanModel)[0])
VAES = get_args(get_args(VaeModel)[0])
SHAPES = [ImageShape(channels, size) for size in SIZES for channels in (1, 3)]
each_shape = pytest.mark.parametrize("image", SHAPES, ids=str)


def tiny(spec: Any, **settings: Any) -> Any:
    return spec(**TINY[spec.model_fields["name"].default], **settings)


@each_shape
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("spec", GANS)
def test_a_gan_draws_and_judges_images_of_the_shape(
    spec: Any, conditional: bool, image: ImageShape
) -> None:
    nets = tiny(spec, conditional=conditional).build(image, 3)
    labels = torch.tensor([0, 2])

    images = nets.generator(torch.randn(2, 8), labels)
    logits = nets.discriminator(images, labels)

    assert images.shape == (2, *image.chw)
    assert logits.shape == (2,)
    logits.sum().backward()
    for network in nets:  # nothing is built that has no part in it
        assert all(p.grad is not None for p in network.parameters())


@each_shape
@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("spec", VAES)
def test_a_vae_reads_and_rebuilds_images_of_the_shape(
    spec: Any, kind: str, image: ImageShape
) -> None:
    model = {"name": spec.model_fields["name"].default, **TINY[spec.model_fields["name"].default]}
    trial: Any = parse_trial({"family": "vae", "model": model, "loss": {"likelihood": kind}})
    vae = Vae(trial, image)
    images = torch.rand(2, *image.chw) * 2 - 1

    log_prob, kl = vae(images, torch.randn(2, vae.net.latent_dim))
    drawn = vae.likelihood.mean(vae.net.decode(torch.randn(2, vae.net.latent_dim)))

    assert log_prob.shape == (2,)
    assert kl.shape == (2, len(vae.net.layers))
    assert drawn.shape == (2, *image.chw)
    assert log_prob.isfinite().all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_the_masses_of_a_grey_pixel_sum_to_one(kind: str) -> None:
    likelihood = LIKELIHOODS[kind](1).double()
    levels = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(-1, 1, 1, 1)
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        output = torch.randn(1, likelihood.outputs, 1, 1, generator=random, dtype=torch.float64)

        mass = likelihood.log_mass(levels, output.expand(256, -1, -1, -1)).exp().sum()

        assert mass.item() == pytest.approx(1, abs=1e-9)


def test_a_grey_mixture_is_that_of_torch_distributions() -> None:
    """On a fine grid, the mass of a level is the density of the mixture times the width."""
    likelihood = LIKELIHOODS["discretised_logistic_mixture"](1).double()
    output = torch.randn(1, likelihood.outputs, 1, 1, dtype=torch.float64)
    parts = output.view(10, 3)
    base = torch.distributions.TransformedDistribution(
        torch.distributions.Uniform(0.0, 1.0),
        [torch.distributions.SigmoidTransform().inv],
    )
    level = torch.tensor(17 / 127.5 - 1, dtype=torch.float64)
    weights, scale = parts[:, 0].softmax(0), parts[:, 2].exp()
    upper, lower = ((level + side / 255 - parts[:, 1]) / scale for side in (1, -1))
    expected = (weights * (base.cdf(upper) - base.cdf(lower))).sum().log()

    assert likelihood.log_mass(level.view(1, 1, 1, 1), output).item() == pytest.approx(
        expected.item(), abs=1e-9
    )


def test_networks_of_larger_images_are_not_wider_at_full_resolution() -> None:
    assert residual_widths(64, ImageShape(3, 32)) == [64] * 4
    assert residual_widths(64, ImageShape(3, 256)) == [64, 64, 64, 64, 32, 16, 8]


def test_what_does_not_fit_the_images_is_refused_with_what_would() -> None:
    with pytest.raises(InputError, match=r"latent_dim: 5, but for 256x256 colour images biggan"):
        Biggan(latent_dim=5).build(ImageShape(3, 256), 1)
    with pytest.raises(InputError, match=r"model.finest: 32, but images are 16x16 grey"):
        LadderVae(finest=32).build(ImageShape(1, 16), 2)


@each_shape
@pytest.mark.parametrize("finest", [8, 16, 32, 64])
def test_a_ladder_of_bottlenecks_rebuilds_images_of_the_shape(
    finest: Any, image: ImageShape
) -> None:
    spec = LadderVae(width=4, latent_channels=1, layers=1, finest=finest, block="bottleneck")
    if finest > image.size:
        with pytest.raises(InputError, match=f"model.finest: {finest}"):
            spec.build(image, 5)
        return
    net = spec.build(image, 5)

    made = net(torch.rand(2, *image.chw), torch.randn(2, net.latent_dim))

    assert made.output.shape == (2, 5, image.size, image.size)
