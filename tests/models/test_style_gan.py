"""A StyleGAN2 against the definitions of its papers."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raygen.image_shape import CIFAR10, ImageShape
from raygen.losses.adversarial import r1_r2
from raygen.models.style_gan import (
    Down,
    EqualConv,
    EqualLinear,
    Mapping,
    StyledConv,
    StyleGan,
    ToRgb,
    minibatch_std,
    normalise,
)

SMALL: dict[str, Any] = {"latent_dim": 6, "width": 4}


def normal(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def built(seed: int = 0, image: ImageShape = CIFAR10, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    return StyleGan(**settings).build(image, 5)


def with_biases(layer: Any) -> Any:
    """In float64, with biases that are not zero and would be missed."""
    for name, weight in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    return layer.double()


def leaky(value: Tensor) -> Tensor:
    return torch.where(value < 0, 0.2 * value, value) * 2**0.5


def magnified(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("up", [False, True])
def test_a_styled_convolution_has_for_each_image_weights_of_its_own(up: bool) -> None:
    """Karras et al. 2020 a, equations 1 and 3, an image and a channel at a time."""
    layer = with_biases(StyledConv(6, 5, 3, up=up))
    x, style = normal(4, 5, 8, 8), normal(4, 6, seed=1)

    scale = style @ layer.style.weight.T / 6**0.5 + layer.style.bias
    expected = []
    for image, scales in zip(magnified(x) if up else x, scale, strict=True):
        weight = layer.weight.clone()
        for channel in range(5):
            weight[:, channel] *= scales[channel]
        for out in range(3):
            weight[out] /= weight[out].square().sum().sqrt()
        expected.append(leaky(F.conv2d(image[None], weight, layer.bias, padding=1)))

    torch.testing.assert_close(layer(x, style), torch.cat(expected), rtol=1e-6, atol=1e-6)


def test_the_image_of_a_resolution_follows_the_style_and_is_not_demodulated() -> None:
    layer = with_biases(ToRgb(6, 5, 3))
    x, style = normal(4, 5, 8, 8), normal(4, 6, seed=1)

    scale = style @ layer.style.weight.T / 6**0.5 + layer.style.bias
    weight = layer.conv.weight[:, :, 0, 0] / 5**0.5
    expected = torch.einsum("oc,nc,nchw->nohw", weight, scale, x) + layer.conv.bias[:, None, None]

    torch.testing.assert_close(layer(x, style), expected)


def test_what_is_demodulated_has_unit_variance_for_any_style_and_weights() -> None:
    """Karras et al. 2020 a, section 2.2: for independent inputs of unit variance."""
    layer = StyledConv(6, 32, 8).double()
    with torch.no_grad():
        layer.weight.mul_(normal(8, 32, 3, 3, seed=2).exp())  # large and small ones
    style = 10 * normal(16, 6, seed=1)

    outputs = layer(normal(16, 32, 64, 64), style)
    before = torch.where(outputs < 0, outputs / 0.2, outputs) / 2**0.5  # the leaky ReLU undone

    variance = before[:, :, 1:-1, 1:-1].var(dim=(2, 3))  # at a border there are fewer inputs
    # Of 3,844 pixels, which share inputs.
    torch.testing.assert_close(variance, torch.ones_like(variance), rtol=0, atol=0.25)
    assert float(variance.mean()) == pytest.approx(1, abs=0.02)


def test_images_start_finite_and_neither_grey_nor_saturated() -> None:
    for size in (16, 32, 256):
        generator, discriminator = built(image=ImageShape(3, size), width=64)
        with torch.no_grad():
            images = generator(torch.randn(8, 512), torch.zeros(8, dtype=torch.long))
            logits = discriminator(images, torch.zeros(8, dtype=torch.long))

        assert 0.3 < float(images.atanh().std()) < 3
        assert float((images.abs() > 0.99).float().mean()) < 0.1
        assert float(images.std(dim=0).mean()) > 0.05  # they differ
        assert logits.isfinite().all()
        assert float(logits.abs().max()) < 5


def test_an_image_is_the_sum_of_what_every_resolution_adds() -> None:
    generator, _ = built(**SMALL)
    generator = with_biases(generator)
    latents, labels = normal(3, 6), torch.zeros(3, dtype=torch.long)

    style = generator.mapping(latents, labels)
    x = generator.first(torch.stack([generator.start] * 3), style)
    parts = [generator.to_rgb[0](x, style)]
    for stage in range(3):
        x = generator.same[stage](generator.up[stage](x, style), style)
        parts.append(generator.to_rgb[stage + 1](x, style))
    expected = torch.zeros(())
    for distance, part in enumerate(reversed(parts)):
        for _ in range(distance):
            part = magnified(part)
        expected = expected + part

    torch.testing.assert_close(generator(latents, labels), torch.tanh(expected / 2))


@pytest.mark.parametrize("conditional", [False, True])
def test_the_mapping_network_is_that_of_the_paper(conditional: bool) -> None:
    mapping = with_biases(Mapping(6, 3, 5 if conditional else 0))
    latents, labels = 9 * normal(4, 6), torch.tensor([0, 4, 2, 2])

    def unit(vectors: Tensor) -> Tensor:
        return vectors / vectors.square().mean(dim=1, keepdim=True).sqrt()

    x = unit(latents)
    if mapping.embedding is not None:
        x = torch.cat([x, unit(mapping.embedding.weight[labels])], dim=1)
    for layer in mapping.layers:
        x = leaky(x @ layer.weight.T * 0.01 / x.shape[1] ** 0.5 + 0.01 * layer.bias)

    torch.testing.assert_close(mapping(latents, labels), x)


def test_the_mapping_network_learns_at_a_hundredth_of_the_rate() -> None:
    """Adam's first step is the rate times the sign of the gradient, however large the weights."""
    x, towards = normal(7, 6), normal(7, 5, seed=1)
    moved = {}
    for rate in (1.0, 0.01):
        torch.manual_seed(0)
        layer = EqualLinear(6, 5, rate=rate).double()
        before = layer(x)
        adam = torch.optim.Adam(layer.parameters(), lr=1e-3, eps=1e-30)
        (before * towards).sum().backward()
        adam.step()
        moved[rate] = before.detach(), (layer(x) - before).detach()

    torch.testing.assert_close(moved[1.0][0], moved[0.01][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(0.01 * moved[1.0][1], moved[0.01][1], rtol=1e-5, atol=1e-8)


def test_a_layer_keeps_the_mean_square_whatever_its_width() -> None:
    torch.manual_seed(0)
    for width in (8, 64, 512):
        layer = EqualLinear(width, 512, gain=2**0.5).double()
        outputs = F.leaky_relu(layer(normal(512, width)), 0.2)
        assert float(outputs.square().mean()) == pytest.approx(1 + 0.2**2, rel=0.1)


def test_a_convolution_that_halves_is_one_whose_output_is_averaged() -> None:
    layer = with_biases(EqualConv(4, 5, 3, gain=1.7, down=True))
    x = normal(2, 4, 8, 8)

    weight, bias = layer.weight / 36**0.5, layer.bias
    expected = F.avg_pool2d(1.7 * F.conv2d(x, weight, bias, padding=1), 2)

    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("residual", [False, True])
def test_a_block_down_is_the_one_of_the_paper(residual: bool) -> None:
    block = with_biases(Down(4, 5, residual))
    x = normal(2, 4, 8, 8)

    def conv(layer: Any, input: Tensor) -> Tensor:
        weight = layer.weight / layer.weight[0].numel() ** 0.5
        return F.conv2d(input, weight, layer.bias, padding=weight.shape[2] // 2)

    expected = leaky(conv(block.conv1, x))
    expected = leaky(F.avg_pool2d(conv(block.conv2, expected), 2))
    if residual:
        expected = (expected + F.avg_pool2d(conv(block.shortcut, x), 2)) / 2**0.5

    torch.testing.assert_close(block(x), expected)


def test_minibatch_standard_deviation_is_that_of_groups_of_neighbours() -> None:
    """Karras et al. 2018, section 3, by loops."""
    features = normal(8, 3, 4, 4)

    expected = torch.empty(8, 1, 4, 4, dtype=torch.float64)
    for start in (0, 4):
        deviations = [
            float(features[start : start + 4, channel, row, column].var(correction=0).sqrt())
            for channel in range(3)
            for row in range(4)
            for column in range(4)
        ]
        expected[start : start + 4] = sum(deviations) / len(deviations)

    torch.testing.assert_close(minibatch_std(features, 4), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("count", "group"), [(6, 2), (3, 1), (4, 4), (12, 4), (1, 1)])
def test_where_images_do_not_divide_into_groups_groups_are_smaller(count: int, group: int) -> None:
    features = normal(count, 3, 4, 4)

    torch.testing.assert_close(minibatch_std(features, 4), minibatch_std(features, group))


def test_halves_of_a_batch_and_parts_of_workers_score_as_by_themselves() -> None:
    _, discriminator = built(**SMALL, minibatch_std=4)
    discriminator.double()
    images, labels = normal(16, 3, 32, 32), torch.zeros(16, dtype=torch.long)

    whole = discriminator(images, labels)
    parts = [discriminator(part, labels[:4]) for part in images.split(4)]

    torch.testing.assert_close(whole, torch.cat(parts))
    mixed = discriminator(images.roll(2, dims=0), labels).roll(-2)
    assert not torch.allclose(whole, mixed)  # else nothing is compared


@pytest.mark.parametrize("group", [0, 1])
def test_without_groups_a_discriminator_scores_every_image_by_itself(group: int) -> None:
    model = StyleGan(**SMALL, minibatch_std=group)
    _, discriminator = model.build(CIFAR10, 5)
    discriminator.double()
    images, labels = normal(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)

    alone = [discriminator(image[None], labels[:1]) for image in images]

    assert model.compared_images == 1
    torch.testing.assert_close(discriminator(images, labels), torch.cat(alone))


def test_a_penalty_on_real_and_generated_images_at_once_is_that_of_each_by_itself() -> None:
    """With groups that compare images, against second derivatives of each batch."""
    _, discriminator = built(**SMALL, minibatch_std=4)
    discriminator.double()
    weights = list(discriminator.parameters())
    real, fake = normal(2, 4, 3, 32, 32)

    def critic(images: Tensor) -> Tensor:
        return discriminator(images, torch.zeros(len(images), dtype=torch.long))

    ours = r1_r2(critic, real, fake, torch.zeros(4)).value
    expected = torch.zeros((), dtype=torch.float64)
    for side in (real, fake):
        points = side.clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
        expected = expected + 0.5 * slope.square().sum() / 4

    torch.testing.assert_close(ours, expected)
    found, wanted = (
        torch.autograd.grad(value, weights, materialize_grads=True) for value in (ours, expected)
    )
    assert sum(bool(gradient.any()) for gradient in wanted) > len(weights) / 2
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_score_of_a_class_is_the_projection_on_its_normalised_embedding() -> None:
    _, discriminator = built(**SMALL, conditional=True, minibatch_std=0)
    discriminator.double()
    images, labels = normal(5, 3, 32, 32), torch.tensor([3, 0, 3, 1, 4])
    scores: list[Tensor] = []
    discriminator.score.register_forward_hook(lambda *args: scores.append(args[2]))

    logits = discriminator(images, labels)

    vectors = discriminator.embedding.weight[labels]
    expected = F.cosine_similarity(scores[0], vectors) * scores[0].norm(dim=1)
    torch.testing.assert_close(logits, expected)


def test_normalised_vectors_have_a_mean_square_of_one() -> None:
    vectors = 7 * normal(5, 6)

    assert normalise(vectors).square().mean(dim=1).tolist() == pytest.approx([1.0] * 5)
    torch.testing.assert_close(F.normalize(normalise(vectors)), F.normalize(vectors))


def test_style_gan_has_as_many_weights_as_its_layers_add_up_to() -> None:
    wide, latent = 256, 512
    conv = 3 * 3 * wide * wide + wide
    style = latent * wide + wide
    colour = 3 * wide + 3
    mapping = 2 * (latent * latent + latent)
    expected = mapping + 16 * wide + 7 * (conv + style) + 4 * (colour + style)

    generator, discriminator = built()

    assert sum(p.numel() for p in generator.parameters()) == expected
    last = conv + 9 * wide + (16 * wide * wide + wide) + wide + 1  # one more channel
    critic = 4 * wide + 3 * (2 * conv + wide * wide) + last
    assert sum(p.numel() for p in discriminator.parameters()) == critic
    assert 8e6 < expected + critic < 20e6
    assert math.isclose(expected + critic, 11.5e6, rel_tol=0.01)  # docs/train.md
