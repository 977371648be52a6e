"""Architectures of VAEs: what the bound and the likelihoods read of them, and their ladders."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from raygen.image_shape import CIFAR10
from raygen.losses.elbo import LIKELIHOODS
from raygen.models import VaeModel
from raygen.models.conv_vae import ConvVae
from raygen.models.ladder_vae import LadderVae, LadderVaeNet, Rung
from raygen.models.nets import Pass, VaeNet

CHANNELS = 6
TINY: dict[str, dict[str, Any]] = {
    "conv_vae": {"latent_dim": 7, "width": 4},
    "ladder_vae": {"latent_channels": 2, "width": 4, "layers": 2},
    "ladder_vae to 32x32": {"latent_channels": 1, "width": 4, "layers": 1, "finest": 32},
}
SPECS: dict[str, Any] = {"conv_vae": ConvVae, "ladder_vae": LadderVae}
each = pytest.mark.parametrize("name", TINY)
each_norm = pytest.mark.parametrize("norm", ["none", "batch", "layer"])


def build(name: str, channels: int = CHANNELS, seed: int = 0, **settings: Any) -> Any:
    spec = SPECS[name.split()[0]](**{**TINY[name], **settings})
    torch.manual_seed(seed)
    return spec.build(CIFAR10, channels)


def stirred(name: str, **settings: Any) -> Any:
    """A network in evaluation mode, none of whose weights are zero any more."""
    net = build(name, **settings)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return net.eval()


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise_of(net: VaeNet, count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, net.latent_dim, generator=torch.Generator().manual_seed(seed))


def test_all_architectures_of_vaes_are_tested_here() -> None:
    union = get_args(VaeModel)[0]

    assert set(get_args(union)) == set(SPECS.values())
    assert {name.split()[0] for name in TINY} == set(SPECS)


@each
@each_norm
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_a_vae_gives_a_posterior_and_what_its_likelihood_reads(
    name: str, norm: str, depth: int, kind: str
) -> None:
    likelihood = LIKELIHOODS[kind]()
    net = build(name, likelihood.outputs, norm=norm, depth=depth)

    output, shift, log_ratio = net(images(3), noise_of(net, 3))
    decoded = net.decode(noise_of(net, 5))

    assert sum(net.layers) == net.latent_dim
    assert shift.shape == log_ratio.shape == (3, net.latent_dim)
    assert output.shape == (3, likelihood.outputs, 32, 32)
    assert decoded.shape == (5, likelihood.outputs, 32, 32)
    assert likelihood.log_prob(images(3), output).shape == (3,)


@each
def test_the_same_seed_gives_a_vae_the_same_weights_and_another_seed_others(name: str) -> None:
    one, same, other = (list(build(name, seed=s).state_dict().values()) for s in (0, 0, 1))

    assert all(map(torch.equal, one, same))
    assert not all(map(torch.equal, one, other))


@each
@each_norm
def test_decoding_the_latents_of_a_posterior_gives_the_output_of_the_pass(
    name: str, norm: str
) -> None:
    """So shift and log_ratio are in the units of the prior, in every layer."""
    net = stirred(name, norm=norm)
    noise = noise_of(net, 4)

    with torch.no_grad():
        output, shift, log_ratio = net(images(4), noise)
        again = net.decode(shift + log_ratio.exp() * noise)

    assert shift.abs().min(dim=0).values.max() > 0
    torch.testing.assert_close(again, output)


@each
def test_log_ratios_stay_where_float32_can_raise_them(name: str) -> None:
    net = stirred(name, norm="none")

    for scale in (1e3, 1e6):
        _, _, log_ratio = net(images(3) * scale, noise_of(net, 3))
        assert (2 * log_ratio).exp().isfinite().all()
        assert (log_ratio.exp() > 0).all()


@each
@each_norm
def test_every_weight_of_a_vae_takes_part(name: str, norm: str) -> None:
    net = build(name, norm=norm)

    made = net.train()(images(3), noise_of(net, 3))
    sum(part.square().sum() for part in made).backward()

    assert [key for key, p in net.named_parameters() if p.grad is None] == []


@each
@each_norm
def test_under_autocast_latents_and_the_output_stay_float32_and_near(name: str, norm: str) -> None:
    net = stirred(name, norm=norm)
    noise = noise_of(net, 4)

    with torch.no_grad():
        plain = net(images(4), noise)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(images(4), noise)

    for exact, near in zip(plain, rounded, strict=True):
        assert near.dtype == torch.float32
        # bfloat16 has eight bits: 0.4% per operation, some of it in sequence.
        assert (near - exact).norm() <= 0.05 * exact.norm()


def ladder(**settings: Any) -> LadderVaeNet:
    return LadderVae(**{"width": 4, "latent_channels": 2, "layers": 2, **settings}).build(
        CIFAR10, CHANNELS
    )


def test_a_ladder_starts_at_its_prior() -> None:
    net = ladder(norm="layer")
    noise = noise_of(net, 3)

    made: Pass = net(images(3), noise)

    assert not made.shift.any()
    assert not made.log_ratio.any()
    assert torch.equal(made.output, net.decode(noise))


def test_the_layers_of_a_ladder_go_from_coarse_to_fine() -> None:
    assert ladder().layers == (32, 32, 128, 128, 512, 512)
    assert ladder(layers=1, finest=32).layers == (32, 128, 512, 2048)


def priors(net: LadderVaeNet, noise: Tensor) -> list[Tensor]:
    """Mean and log-scale of the prior of each layer, when the network decodes this noise."""
    seen: list[Tensor] = []
    rungs = [module for module in net.modules() if isinstance(module, Rung)]
    hooks = [
        rung.to_prior.register_forward_hook(lambda *args: seen.append(args[2])) for rung in rungs
    ]
    with torch.no_grad():
        net.decode(noise)
    for hook in hooks:
        hook.remove()
    return seen


def test_the_prior_of_a_layer_depends_on_the_layers_above_it_and_on_no_other() -> None:
    net = stirred("ladder_vae")
    noise = noise_of(net, 2)
    plain = priors(net, noise)
    starts = torch.tensor([0, *net.layers]).cumsum(0).tolist()

    for changed in range(len(net.layers)):
        other = noise.clone()
        other[:, starts[changed] : starts[changed + 1]] += 1.0
        moved = [not torch.equal(a, b) for a, b in zip(plain, priors(net, other), strict=True)]
        assert moved == [layer > changed for layer in range(len(net.layers))]


def test_the_posterior_of_a_layer_depends_on_the_draw_of_the_layers_above() -> None:
    net = stirred("ladder_vae")
    noise = noise_of(net, 2)
    top, other = net.layers[0], noise.clone()
    other[:, :top] += 1.0

    with torch.no_grad():
        one, two = net(images(2), noise), net(images(2), other)

    assert torch.equal(one.shift[:, :top], two.shift[:, :top])
    assert not torch.equal(one.shift[:, top:], two.shift[:, top:])


@pytest.mark.parametrize("settings", [{"layers": 8}, {"depth": 8}, {"layers": 4, "depth": 4}])
def test_a_longer_ladder_starts_with_outputs_of_the_size_of_a_short_one(
    settings: dict[str, int],
) -> None:
    sizes = []
    for lengths in ({"layers": 1, "depth": 1}, settings):
        torch.manual_seed(0)
        net = ladder(width=16, **lengths)
        with torch.no_grad():
            sizes.append(float(net.decode(noise_of(net, 8)).std()))

    assert 0.5 < sizes[1] / sizes[0] < 2


def test_the_last_convolution_gives_the_output() -> None:
    for name in TINY:
        net = build(name)
        nn.init.zeros_(net.to_parameters.weight)
        nn.init.constant_(net.to_parameters.bias, 0.25)
        assert (net.decode(noise_of(net, 2)) == 0.25).all()
