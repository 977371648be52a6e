"""GAN architectures: every one by the same facts, then each against its paper."""

import itertools
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from raygen.image_shape import CIFAR10
from raygen.models import Dcgan, GanModel, layers
from raygen.models.biggan import Attention, Biggan, LatentNorm
from raygen.models.layers import (
    BatchNorm2d,
    ResidualDown,
    ResidualUp,
    SpectralNorm,
    double,
    halve,
)
from raygen.models.r3gan import Block, R3gan
from raygen.models.sngan import ClassNorm, Sngan

GANS = get_args(get_args(GanModel)[0])
CLASSES = 5
# An architecture that is not listed is tried with a width of 4.
SMALL: dict[str, dict[str, int]] = {
    "sngan": {"width": 4, "discriminator_width": 6},
    "biggan": {"width": 2, "discriminator_width": 4, "embedding_dim": 3},
    "r3gan": {"width": 5, "group_width": 4, "blocks": 1},
    "style_gan": {"width": 4, "minibatch_std": 2},
}


def small(spec: Any, **settings: Any) -> Any:
    name = spec.model_fields["name"].default
    return spec(**{"latent_dim": 7, **SMALL.get(name, {"width": 4}), **settings})


def variants(spec: Any) -> list[Any]:
    """The architecture with every value of every choice it has, with classes and without."""
    models = []
    for field, info in spec.model_fields.items():
        kind = info.annotation
        values = (
            get_args(kind) if get_origin(kind) is Literal else () if kind is not bool else (0, 1)
        )
        for value, conditional in itertools.product(values, (False, True)):
            value = bool(value) if kind is bool else value
            models.append(small(spec, **{"conditional": conditional, field: value}))
    return list(dict.fromkeys(models))


def name_of(model: Any) -> str:
    differs = small(type(model)).model_dump().items() ^ model.model_dump().items()
    settings = [f"{key}={value}" for key, value in model.model_dump().items()]
    return "-".join([model.name, *(s for s in settings if s.split("=")[0] in dict(differs))])


MODELS = [model for spec in GANS for model in variants(spec)]
each_spec = pytest.mark.parametrize("spec", GANS)
each_model = pytest.mark.parametrize("model", MODELS, ids=name_of)


def built(model: Any, seed: int = 0) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    return model.build(CIFAR10, CLASSES)


def nudged(net: Any) -> Any:
    """Move every weight a little: what starts at zero or one hides what depends on it."""
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=random)
    return net


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def latents(count: int, dim: int = 7) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(1))


def maps(*shape: int) -> Tensor:
    random = torch.Generator().manual_seed(2)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@each_model
def test_a_generator_makes_images_and_a_discriminator_one_score_each(model: Any) -> None:
    generator, discriminator = built(model)
    labels = torch.arange(5)

    made = generator(latents(5), labels)
    scores = discriminator(made, labels)

    assert generator.latent_dim == model.latent_dim == 7
    assert made.shape == (5, 3, 32, 32)
    assert made.abs().max() <= 1
    assert made.std() > 0
    assert scores.shape == (5,)
    assert scores.isfinite().all()


@each_spec
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(spec: Any) -> None:
    one, same, other = (
        [value for net in built(small(spec), seed) for value in net.state_dict().values()]
        for seed in (0, 0, 1)
    )

    assert all(map(torch.equal, one, same))
    assert not all(map(torch.equal, one, other))


@each_model
def test_labels_matter_to_both_networks_if_and_only_if_they_are_conditional(model: Any) -> None:
    generator, discriminator = (nudged(net.eval()) for net in built(model))
    threes, fours = torch.full((6,), 3), torch.full((6,), 4)

    made = generator(latents(6), threes), generator(latents(6), fours)
    scores = discriminator(images(6), threes), discriminator(images(6), fours)

    assert torch.equal(*made) is not model.conditional
    assert torch.equal(*scores) is not model.conditional


@each_model
def test_every_latent_matters_to_its_image_and_in_evaluation_to_no_other(model: Any) -> None:
    generator = nudged(built(model)[0].eval())
    inputs = latents(3).requires_grad_()

    (slope,) = torch.autograd.grad(
        (generator(inputs, torch.arange(3))[1] * images(3)[1]).sum(), inputs
    )

    assert slope[1].all()
    assert not slope[[0, 2]].any()


@each_model
def test_a_discriminator_scores_together_the_images_that_its_architecture_says(model: Any) -> None:
    discriminator = nudged(built(model)[1])
    inputs = images(4).requires_grad_()

    (slope,) = torch.autograd.grad(discriminator(inputs, torch.arange(4))[0], inputs)

    together = 4 if model.mixes_images else model.compared_images
    assert [bool(image.any()) for image in slope] == [place < together for place in range(4)]


@each_model
def test_every_weight_takes_part_in_the_steps_of_training(model: Any) -> None:
    generator, discriminator = built(model)
    labels = torch.arange(3)

    discriminator(images(3), labels).sum().backward()
    assert all(p.grad is not None for p in discriminator.parameters())

    discriminator.requires_grad_(False)
    discriminator(generator(latents(3), labels), labels).sum().backward()
    assert all(p.grad is not None for p in generator.parameters())


@each_model
def test_in_bfloat16_the_outputs_are_float32_and_near_those_of_float32(model: Any) -> None:
    labels = torch.arange(4)
    generator, discriminator = (net.eval() for net in built(model))

    exact = generator(latents(4), labels), discriminator(images(4), labels)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = generator(latents(4), labels), discriminator(images(4), labels)

    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 0.05 * theirs.norm()


@pytest.mark.parametrize(
    "model", [model for model in MODELS if not model.mixes_images], ids=name_of
)
def test_penalties_by_torch_func_have_the_gradients_of_autograd(model: Any) -> None:
    discriminator = nudged(built(model)[1]).double().eval()
    labels, inputs = torch.arange(3), images(3).double()
    weights = list(discriminator.parameters())

    slope = torch.func.grad(lambda x: discriminator(x, labels).sum())(inputs)
    ours = torch.autograd.grad(slope.square().sum(), weights, allow_unused=True)
    leaf = inputs.clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(leaf, labels).sum(), leaf, create_graph=True)
    theirs = torch.autograd.grad(slope.square().sum(), weights, allow_unused=True)

    assert sum(grad is not None for grad in theirs) > len(weights) / 3
    for one, other in zip(ours, theirs, strict=True):
        if one is not None or other is not None:
            torch.testing.assert_close(one, other)


SPECTRAL = [
    (net, model)
    for model in MODELS
    for net in (0, 1)
    if any(isinstance(module, SpectralNorm) for module in built(model)[net].modules())
]


@pytest.mark.parametrize(
    ("net", "model"), SPECTRAL, ids=lambda v: str(v) if isinstance(v, int) else name_of(v)
)
def test_a_network_with_spectral_norm_has_it_on_every_layer_and_none_stretches(
    net: int, model: Any
) -> None:
    network = built(model)[net].double()
    normed = [module for module in network.modules() if isinstance(module, SpectralNorm)]
    linear = {m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    # A generator's class embedding is looked up and not multiplied by anything.
    embeddings = {m for m in network.modules() if isinstance(m, nn.Embedding)} if net else set()

    assert {module.layer for module in normed} >= linear | embeddings

    with torch.no_grad():
        for module in normed:
            layer = module.layer
            torch.nn.init.normal_(layer.weight)
            for _ in range(200):
                module.iterate()
            scale = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
            expected = module(probe(layer)) * scale - layer(probe(layer))
            bias = getattr(layer, "bias", None)
            if bias is not None:  # which is not scaled
                shape = (1, -1, 1, 1) if expected.ndim == 4 else (1, -1)
                expected = expected - bias.view(shape) * (scale - 1)
            assert expected.abs().max() < 0.02 * scale


def probe(layer: nn.Module) -> Tensor:
    """What the layer can be applied to."""
    if isinstance(layer, nn.Embedding):
        return torch.arange(layer.num_embeddings)
    if isinstance(layer, nn.Linear):
        return maps(4, layer.in_features) / layer.in_features**0.5
    assert isinstance(layer, nn.Conv2d)
    return maps(2, layer.in_channels, 4, 4) / (3 * layer.in_channels**0.5)


def test_a_model_is_chosen_by_its_name() -> None:
    parse = TypeAdapter(GanModel).validate_python

    for spec in GANS:
        assert type(parse({"name": spec.model_fields["name"].default})) is spec
    assert parse({"width": 8}) == Dcgan(width=8)
    with pytest.raises(ValidationError, match="'dcgan', 'sngan'"):
        parse({"name": "dcgann"})


def test_the_latent_of_a_biggan_has_a_part_for_the_start_and_one_for_every_block() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 4"):
        Biggan(latent_dim=3)
    assert built(Biggan(latent_dim=4, width=1))[0](latents(2, 4), torch.zeros(2)).shape[0] == 2


def test_sngan_has_as_many_weights_as_the_table_of_its_paper_says() -> None:
    """Miyato et al. 2018, table 4: ours equals the 4,276,739 of mimicry's generator."""
    wide, narrow = 256, 128
    conv = 3 * 3 * wide * wide + wide  # 590,080
    up = 2 * conv + (wide * wide + wide) + 2 * (2 * wide)  # shortcut, two norms: 1,246,976
    start, end = 128 * 4 * 4 * wide + 4 * 4 * wide, 2 * wide + 3 * 3 * wide * 3 + 3
    assert start + 3 * up + end == 4_276_739

    conv = 3 * 3 * narrow * narrow + narrow  # 147,584
    shortcut = narrow * narrow + narrow  # 16,512
    first = (3 * 3 * 3 * narrow + narrow) + conv + (3 * narrow + narrow)  # 151,680
    critic = first + (2 * conv + shortcut) + 2 * (2 * conv) + (narrow + 1)
    assert critic == 151_680 + 311_680 + 590_336 + 129

    generator, discriminator = Sngan().build(CIFAR10, 10)
    assert count(generator) == start + 3 * up + end
    assert count(discriminator) == critic

    # Seven normalisations, of which six have ten gains and biases in place of one.
    generator, discriminator = Sngan(conditional=True).build(CIFAR10, 10)
    assert count(generator) == start + 3 * up + end + 6 * 9 * 2 * wide
    assert count(discriminator) == critic + 10 * narrow


def test_biggan_has_as_many_weights_as_its_blocks_add_up_to() -> None:
    wide, narrow, part, shared = 256, 128, 20, 128
    conv = 3 * 3 * wide * wide + wide
    norm = 2 * (part + shared) * wide  # gain and bias, linear in latent part and class
    up = 2 * conv + (wide * wide + wide) + 2 * norm
    attention = 4 * wide * wide // 8 + 1
    start, end = part * 4 * 4 * wide + 4 * 4 * wide, 2 * wide + 3 * 3 * wide * 3 + 3
    expected = 10 * shared + start + 3 * up + attention + end

    generator, discriminator = Biggan(conditional=True).build(CIFAR10, 10)

    assert count(generator) == expected
    # That of the SNGAN, with attention and the projection on ten classes.
    critic = 151_680 + 311_680 + 590_336 + 129
    assert count(discriminator) == critic + 4 * narrow * narrow // 8 + 1 + 10 * narrow


def test_r3gan_has_as_many_weights_as_the_network_of_its_paper_for_cifar() -> None:
    wide, hidden = 768, 1536
    block = 2 * wide * hidden + hidden + (3 * 3 * 16 * hidden + hidden)  # 96 groups of 16
    blocks = 4 * 2 * block  # 4x4 to 32x32, two each
    with torch.device("meta"):
        generator, discriminator = R3gan(width=wide, growth=1).build(CIFAR10, 10)

    assert generator.stages[0][0].grouped.groups == 96
    assert count(generator) == blocks + 16 * wide + 64 * wide + 3 * wide + 3
    assert count(discriminator) == blocks + 3 * wide + wide + 16 * wide + wide + 1


class Plain(nn.Module):
    """A batch norm that takes a condition, and ignores it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        return self.norm(input)


def test_a_block_up_is_the_one_of_the_paper() -> None:
    """Upsampled before both convolutions, as the figure has it."""
    block = nudged(ResidualUp(4, 6, Plain)).double()
    x = maps(3, 4, 5, 5)

    body = nn.Sequential(
        block.norm1.norm, nn.ReLU(), nn.Upsample(scale_factor=2), block.conv1,
        block.norm2.norm, nn.ReLU(), block.conv2,
    )  # fmt: skip
    shortcut = nn.Sequential(nn.Upsample(scale_factor=2), block.shortcut)

    torch.testing.assert_close(block(x, x), body(x) + shortcut(x))


@pytest.mark.parametrize(
    ("channels", "halves", "first"), [(3, True, True), (6, True, False), (6, False, False)]
)
def test_a_block_down_is_the_one_of_the_paper(channels: int, halves: bool, first: bool) -> None:
    """Pooled after the shortcut's convolution, as the figure has it."""
    block = nudged(ResidualDown(channels, 6, "none", halves, first)).double()
    x = maps(2, channels, 8, 8)
    pool = nn.AvgPool2d(2) if halves else nn.Identity()

    start = x if first else F.relu(x)
    body = pool(block.conv2(F.relu(block.conv1(start))))
    shortcut = pool(block.shortcut(x)) if halves else x

    torch.testing.assert_close(block(x), body + shortcut)


@pytest.mark.parametrize("training", [True, False])
def test_conditional_batch_norm_is_that_of_torch_with_the_weights_of_the_class(
    training: bool,
) -> None:
    ours = nudged(ClassNorm("batch", 3, 4)).double()
    labels, x = torch.tensor([0, 2, 1, 2, 0]), maps(5, 4, 6, 6) * 3 + 1
    assert ours.gain is not None
    assert ours.bias is not None
    ours(x * 2, labels)  # so that the running statistics are some
    ours.train(training)

    for label in range(3):
        theirs = nn.BatchNorm2d(4).double().train(training)
        state = {**ours.norm.state_dict(), "weight": 1 + ours.gain.weight[label]}
        theirs.load_state_dict({**state, "bias": ours.bias.weight[label]})
        rows = labels == label
        kept = {key: value.clone() for key, value in ours.norm.state_dict().items()}
        torch.testing.assert_close(ours(x, labels)[rows], theirs(x)[rows])
        ours.norm.load_state_dict(kept)


def test_the_gain_and_bias_of_a_biggan_are_linear_in_latent_and_class() -> None:
    norm = LatentNorm(3, 4).double().eval()
    x, condition = maps(2, 4, 5, 5), maps(2, 3)

    gain, bias = norm.gain(condition), norm.bias(condition)
    expected = nn.BatchNorm2d(4, affine=False).double().eval()(x)
    for image in range(2):
        for channel in range(4):
            expected[image, channel] *= 1 + gain[image, channel]
            expected[image, channel] += bias[image, channel]

    torch.testing.assert_close(norm(x, condition), expected)


def test_batch_norm_without_weights_over_two_equal_ranks_is_that_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = maps(6, 4, 5, 5) * 3 + 1
    monkeypatch.setattr(layers, "world_size", lambda: 2)
    # Each rank adds its row; the other one has the same images.
    monkeypatch.setattr(layers, "all_reduce_sum", lambda rows: rows + rows.flip(0))

    ours = BatchNorm2d(4, affine=False).double()(x)

    torch.testing.assert_close(ours, nn.BatchNorm2d(4, affine=False).double()(x))


def test_attention_starts_as_the_identity_and_is_that_of_torch() -> None:
    attention = Attention(16).double()
    x = maps(3, 16, 5, 5)
    assert torch.equal(attention(x), x)

    torch.nn.init.constant_(attention.gamma, 0.7)
    attention.eval()
    pixels = [f(x).flatten(2).mT for f in (attention.query, attention.key, attention.value)]
    mixed = F.scaled_dot_product_attention(*pixels, scale=1.0).mT.unflatten(2, (5, 5))

    torch.testing.assert_close(attention(x), x + 0.7 * attention.out(mixed))


def test_the_weights_of_a_biggan_start_orthogonal() -> None:
    for net in built(small(Biggan, conditional=True)):
        seen = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
        assert seen
        for module in seen:
            matrix = module.weight.detach().flatten(1)
            gram = matrix @ matrix.mT if len(matrix) <= matrix.shape[1] else matrix.mT @ matrix
            torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)


def test_a_block_of_r3gan_starts_as_the_identity() -> None:
    x = maps(2, 8, 4, 4)

    assert torch.equal(Block(8, 3, 4, depth=8).double()(x), x)


def test_an_r3gan_starts_as_a_learned_picture_magnified() -> None:
    generator, _ = built(R3gan(width=8, growth=1, latent_dim=7))
    weights = latents(3) @ generator.weigh.weight.T

    picture = torch.einsum("nc,chw->nchw", weights, generator.basis)
    for _ in range(3):
        picture = F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)

    torch.testing.assert_close(
        generator(latents(3), torch.zeros(3)), torch.tanh(generator.to_rgb(picture))
    )


def test_a_block_of_r3gan_looks_at_each_group_of_channels_by_itself() -> None:
    block = nudged(Block(8, groups=3, group_width=4, depth=8)).double()
    x = maps(2, 8, 6, 6)

    def leaky(value: Tensor) -> Tensor:
        return torch.where(value < 0, 0.2 * value, value)

    widened = leaky(block.widen(x))
    parts = [
        F.conv2d(
            widened[:, k : k + 4], block.grouped.weight[k : k + 4], block.grouped.bias[k : k + 4],
            padding=1,
        )
        for k in (0, 4, 8)
    ]  # fmt: skip
    expected = x + block.narrow(leaky(torch.cat(parts, dim=1)))

    torch.testing.assert_close(block(x), expected)


def test_the_weights_of_an_r3gan_start_with_the_spread_of_fix_up() -> None:
    """He et al. 2015 for a slope of 0.2, times depth^(-1 / (2m - 2)) with m = 3 convolutions."""
    generator, _ = built(R3gan(width=128, growth=1, blocks=2))
    he = (2 / (1 + 0.2**2)) ** 0.5 * 8 ** (-1 / (2 * 3 - 2))

    for block in (module for module in generator.modules() if isinstance(module, Block)):
        assert float(block.widen.weight.detach().std() * 128**0.5) == pytest.approx(he, rel=0.03)
        assert float(block.grouped.weight.detach().std() * (16 * 9) ** 0.5) == pytest.approx(
            he, rel=0.03
        )


def test_r3gan_has_whole_groups_for_any_width() -> None:
    for width, group_width, expansion in itertools.product((1, 6, 7), (1, 4, 16), (1, 3)):
        model = R3gan(width=width, group_width=group_width, expansion=expansion, blocks=1)
        _, discriminator = built(model)
        grouped = discriminator.stages[0][0].grouped
        assert grouped.out_channels == grouped.groups * group_width
        assert 0 <= grouped.out_channels - expansion * width < group_width


@pytest.mark.parametrize(("mine", "factor"), [(double, 2.0), (halve, 0.5)])
def test_resampling_is_bilinear(mine: Any, factor: float) -> None:
    x = maps(2, 3, 6, 8)
    theirs = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    torch.testing.assert_close(mine(x), theirs)
