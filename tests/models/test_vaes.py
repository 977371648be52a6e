"""Architectures of VAEs: what the bound and the likelihoods read of them, and their ladders."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raygen.apply.explore import scaled
from raygen.image_shape import CIFAR10
from raygen.losses.elbo import LIKELIHOODS
from raygen.models import VaeModel
from raygen.models.conv_vae import ConvVae
from raygen.models.ladder_vae import Bottleneck, LadderVae, LadderVaeNet, Rung
from raygen.models.nets import Pass, VaeNet

CHANNELS = 6
TINY: dict[str, dict[str, Any]] = {
    "conv_vae": {"latent_dim": 7, "width": 4},
    "ladder_vae": {"latent_channels": 2, "width": 4, "layers": 2},
    "ladder_vae of bottlenecks": {
        "latent_channels": 2,
        "width": 8,
        "layers": 2,
        "block": "bottleneck",
    },
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


each_ladder = pytest.mark.parametrize("name", ["ladder_vae", "ladder_vae of bottlenecks"])


def ladder(**settings: Any) -> LadderVaeNet:
    return LadderVae(**{"width": 4, "latent_channels": 2, "layers": 2, **settings}).build(
        CIFAR10, CHANNELS
    )


@pytest.mark.parametrize("block", ["residual", "bottleneck"])
def test_a_ladder_starts_at_its_prior(block: str) -> None:
    net = ladder(norm="layer", block=block)
    noise = noise_of(net, 3)

    made: Pass = net(images(3), noise)

    assert not made.shift.any()
    assert not made.log_ratio.any()
    assert torch.equal(made.output, net.decode(noise))


def test_the_layers_of_a_ladder_go_from_coarse_to_fine() -> None:
    assert ladder().layers == (32, 32, 128, 128, 512, 512)
    assert ladder(layers=1, finest=32).layers == (32, 128, 512, 2048)


def decoded(
    net: LadderVaeNet, noise: Tensor, part: Callable[[Rung], nn.Module]
) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """What goes into a part of each layer and comes out, when the network decodes this noise."""
    seen: list[tuple[tuple[Tensor, ...], Tensor]] = []
    hooks = [
        part(module).register_forward_hook(lambda *args: seen.append((args[1], args[2])))
        for module in net.modules()
        if isinstance(module, Rung)
    ]
    with torch.no_grad():
        net.decode(noise)
    for hook in hooks:
        hook.remove()
    return seen


def priors(net: LadderVaeNet, noise: Tensor) -> list[Tensor]:
    """Mean and log-scale of the prior of each layer, when the network decodes this noise."""
    return [output for _, output in decoded(net, noise, lambda rung: rung.to_prior)]


@each_ladder
def test_the_prior_of_a_layer_depends_on_the_layers_above_it_and_on_no_other(name: str) -> None:
    net = stirred(name)
    noise = noise_of(net, 2)
    plain = priors(net, noise)
    starts = torch.tensor([0, *net.layers]).cumsum(0).tolist()

    for changed in range(len(net.layers)):
        other = noise.clone()
        other[:, starts[changed] : starts[changed + 1]] += 1.0
        moved = [not torch.equal(a, b) for a, b in zip(plain, priors(net, other), strict=True)]
        assert moved == [layer > changed for layer in range(len(net.layers))]


@each_ladder
def test_the_posterior_of_a_layer_depends_on_the_draw_of_the_layers_above(name: str) -> None:
    net = stirred(name)
    noise = noise_of(net, 2)
    top, other = net.layers[0], noise.clone()
    other[:, :top] += 1.0

    with torch.no_grad():
        one, two = net(images(2), noise), net(images(2), other)

    assert torch.equal(one.shift[:, :top], two.shift[:, :top])
    assert not torch.equal(one.shift[:, top:], two.shift[:, top:])


def size_at_the_start(**settings: Any) -> float:
    """Standard deviation of what an untrained ladder makes of noise."""
    torch.manual_seed(0)
    net = ladder(width=16, **settings)
    with torch.no_grad():
        return float(net.decode(noise_of(net, 8)).std())


@pytest.mark.parametrize("settings", [{"layers": 8}, {"depth": 8}, {"layers": 4, "depth": 4}])
def test_a_longer_ladder_starts_with_outputs_of_the_size_of_a_short_one(
    settings: dict[str, int],
) -> None:
    assert 0.5 < size_at_the_start(**settings) / size_at_the_start(layers=1, depth=1) < 2


@pytest.mark.parametrize("settings", [{"layers": 16}, {"depth": 8}, {"layers": 16, "depth": 4}])
def test_the_longest_ladder_of_bottlenecks_starts_with_outputs_of_that_size(
    settings: dict[str, int],
) -> None:
    """Without biases that would add up: of residual blocks, 16 layers start 2.6 times as large."""
    short = size_at_the_start(layers=1, depth=1, block="bottleneck")

    assert 0.8 < size_at_the_start(block="bottleneck", **settings) / short < 1.25


def test_the_last_convolution_gives_the_output() -> None:
    for name in TINY:
        net = build(name)
        nn.init.zeros_(net.to_parameters.weight)
        nn.init.constant_(net.to_parameters.bias, 0.25)
        assert (net.decode(noise_of(net, 2)) == 0.25).all()


def bottleneck(channels: int = 12) -> Bottleneck:
    torch.manual_seed(0)
    return Bottleneck(channels, "none")


def test_a_bottleneck_is_four_convolutions_at_a_quarter_of_the_channels() -> None:
    block, input = bottleneck(), torch.randn(2, 12, 5, 5)
    weights = list(block.parameters())

    x = input
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        x = F.conv2d(F.silu(x), kernel, bias, padding=kernel.shape[-1] // 2)

    assert [tuple(kernel.shape) for kernel in weights[::2]] == [
        (3, 12, 1, 1), (3, 3, 3, 3), (3, 3, 3, 3), (12, 3, 1, 1),
    ]  # fmt: skip
    torch.testing.assert_close(block(input), input + x)


@pytest.mark.parametrize("channels", [4, 12, 64])
def test_a_bottleneck_has_a_tenth_of_the_weights_of_a_residual_block(channels: int) -> None:
    inner = channels // 4
    squeeze = channels * inner + inner
    middle = 2 * (9 * inner * inner + inner)
    expand = inner * channels + channels

    numbers = sum(p.numel() for p in bottleneck(channels).parameters())
    kernels = sum(p.numel() for p in bottleneck(channels).parameters() if p.ndim == 4)

    assert numbers == squeeze + middle + expand
    assert kernels == 1.625 * channels**2  # 18 of them in two 3x3 convolutions of full width


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_bottleneck_whose_last_convolution_is_zero_is_the_identity(norm: Any) -> None:
    block, input = Bottleneck(8, norm), torch.randn(3, 8, 4, 4)
    nn.init.zeros_(block.body[-1].weight)  # pyright: ignore[reportArgumentType]
    nn.init.zeros_(block.body[-1].bias)  # pyright: ignore[reportArgumentType]

    assert torch.equal(block(input), input)


def test_the_last_convolutions_of_n_bottlenecks_are_divided_by_the_root_of_n() -> None:
    """A kaiming-uniform kernel is within the root of 1 over its inputs."""
    net = ladder(width=16, layers=4, depth=3, block="bottleneck")
    for path, blocks in ((net.rise, 3 * 3), (net.descent, 3 * 4 * 3)):
        last = [m.body[-1].weight for m in path.modules() if isinstance(m, Bottleneck)]
        assert len(last) == blocks
        largest = max(float(kernel.detach().abs().max()) for kernel in last)  # pyright: ignore
        assert 0.9 < largest / (4**-0.5 * blocks**-0.5) <= 1


def test_between_the_scales_of_bottlenecks_no_weight_is_learnt() -> None:
    net = ladder(width=8, block="bottleneck", depth=0)
    x = torch.randn(2, 8, 8, 8)

    assert not list(net.enlarge.parameters())
    torch.testing.assert_close(
        net.enlarge[1](x), x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    )
    torch.testing.assert_close(net.rise[1](x), x.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)))


def drawn(net: LadderVaeNet, noise: Tensor) -> list[Tensor]:
    """The latents of each layer, in the coordinates of the state, when this noise is decoded."""
    return [inputs[0] for inputs, _ in decoded(net, noise, lambda rung: rung.join)]


@each_ladder
def test_at_a_temperature_of_nothing_every_latent_is_the_mean_of_its_prior(name: str) -> None:
    net = stirred(name)
    noise = scaled(noise_of(net, 3), 0.0)

    latents, parameters = drawn(net, noise), priors(net, noise)

    for latent, parameter in zip(latents, parameters, strict=True):
        assert torch.equal(latent, parameter.chunk(2, dim=1)[0])
    assert torch.equal(net.decode(noise), net.decode(noise)[:1].expand(3, -1, -1, -1))


@each_ladder
def test_a_temperature_scales_the_standard_deviation_of_each_prior(name: str) -> None:
    """Given the layers above; that of the top layer is learnt, so its variance goes by T^2."""
    net = stirred(name)
    noise = noise_of(net, 400)

    tops = [drawn(net, scaled(noise, t))[0].var(dim=0) for t in (1.0, 0.7)]
    cold = scaled(noise, 0.7)
    latents, parameters = drawn(net, cold), priors(net, cold)

    torch.testing.assert_close(tops[1], 0.49 * tops[0])
    parts = noise.split(net.layers, dim=1)
    for latent, parameter, part in zip(latents, parameters, parts, strict=True):
        mean, log_scale = parameter.chunk(2, dim=1)
        deviation = torch.exp(5 * torch.tanh(log_scale / 5))
        torch.testing.assert_close(latent, mean + 0.7 * deviation * part.view_as(mean))
