"""Architectures and layers: shapes, seeds, conditioning, and layers against those of torch."""

import importlib
import pkgutil
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import raygen.models
from raygen.losses.elbo import LIKELIHOODS
from raygen.models import GanModel, VaeModel
from raygen.models.layers import BatchNorm2d, SpectralNorm, norm_layer
from raygen.spec import Spec

PARTS = {"nets", "layers"}


def specs_in(union: Any) -> list[type[Spec]]:
    """The classes of Model, of A | B, or of Annotated[A | B, ...]."""
    if isinstance(union, type):
        return [union] if issubclass(union, Spec) else []
    return [spec for part in get_args(union) for spec in specs_in(part)]


GANS, VAES = specs_in(GanModel), specs_in(VaeModel)
each_gan = pytest.mark.parametrize("spec", GANS)
each_vae = pytest.mark.parametrize("spec", VAES)


def seeded(build: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    return build()


def weights(nets: tuple[nn.Module, ...]) -> list[Tensor]:
    return [value for net in nets for value in net.state_dict().values()]


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_file_beside_the_layers_is_an_architecture_that_a_search_can_name() -> None:
    files = {module.name for module in pkgutil.iter_modules(raygen.models.__path__)} - PARTS
    assert files

    for name in files:
        module = importlib.import_module(f"raygen.models.{name}")
        defined = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Spec)
            and value.__module__ == module.__name__
        ]
        assert len(defined) == 1, name
        assert defined[0] in GANS + VAES, f"{name} is not in raygen/models/__init__.py"


def test_no_two_architectures_have_the_same_name() -> None:
    names = [spec.model_fields["name"].default for spec in GANS + VAES]

    assert len(set(names)) == len(names)


@each_gan
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("norm", ["none", "batch", "layer", "spectral"])
def test_a_generator_makes_images_and_a_discriminator_one_score_each(
    spec: Any, conditional: bool, norm: str
) -> None:
    model = spec(
        width=4,
        latent_dim=7,
        conditional=conditional,
        discriminator_norm=norm,
        generator_norm="none" if norm == "spectral" else norm,
    )
    generator, discriminator = model.build(classes=10)

    made = generator(torch.randn(5, generator.latent_dim), torch.arange(5))
    scores = discriminator(made, torch.arange(5))

    assert generator.latent_dim == 7
    assert made.shape == (5, 3, 32, 32)
    assert made.abs().max() <= 1
    assert scores.shape == (5,)


@each_vae
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_an_encoder_gives_two_moments_and_a_decoder_what_its_likelihood_reads(
    spec: Any, norm: str, depth: int, kind: str
) -> None:
    likelihood = LIKELIHOODS[kind]()
    model = spec(width=4, latent_dim=7, norm=norm, depth=depth)
    encoder, decoder = model.build(likelihood.channels)

    mean, logvar = encoder(images(5))
    output = decoder(mean)

    assert mean.shape == logvar.shape == (5, 7)
    assert decoder.latent_dim == 7
    assert output.shape == (5, likelihood.channels, 32, 32)
    assert likelihood.log_prob(images(5), output).shape == (5,)


@each_gan
def test_the_same_seed_gives_a_gan_the_same_weights_and_another_seed_others(spec: Any) -> None:
    one, same, other = (seeded(lambda: spec(width=4).build(10), seed) for seed in (0, 0, 1))

    assert all(map(torch.equal, weights(one), weights(same)))
    assert not all(map(torch.equal, weights(one), weights(other)))


@each_vae
def test_the_same_seed_gives_a_vae_the_same_weights_and_another_seed_others(spec: Any) -> None:
    one, same, other = (seeded(lambda: spec(width=4).build(6), seed) for seed in (0, 0, 1))

    assert all(map(torch.equal, weights(one), weights(same)))
    assert not all(map(torch.equal, weights(one), weights(other)))


@each_gan
@pytest.mark.parametrize("conditional", [False, True])
def test_labels_matter_to_both_networks_if_and_only_if_they_are_conditional(
    spec: Any, conditional: bool
) -> None:
    nets = seeded(lambda: spec(width=4, conditional=conditional).build(10), 0)
    generator, discriminator = nets.generator.eval(), nets.discriminator.eval()
    latents = torch.randn(6, generator.latent_dim)
    threes, fours = torch.full((6,), 3), torch.full((6,), 4)

    made = generator(latents, threes), generator(latents, fours)
    scores = discriminator(images(6), threes), discriminator(images(6), fours)

    assert torch.equal(*made) is not conditional
    assert torch.equal(*scores) is not conditional


@each_gan
@pytest.mark.parametrize("norm", ["none", "batch", "layer", "spectral"])
def test_a_discriminator_mixes_images_if_and_only_if_its_architecture_says_so(
    spec: Any, norm: str
) -> None:
    model = spec(width=4, discriminator_norm=norm)
    discriminator = seeded(lambda: model.build(10), 0).discriminator
    inputs, labels = images(6).requires_grad_(), torch.zeros(6, dtype=torch.long)

    (slope,) = torch.autograd.grad(discriminator(inputs, labels)[0], inputs)

    assert bool(slope[1:].any()) is model.mixes_images


@each_gan
def test_every_weight_of_a_gan_takes_part(spec: Any) -> None:
    generator, discriminator = spec(width=4, conditional=True).build(3)
    labels = torch.arange(3)

    discriminator(generator(torch.randn(3, generator.latent_dim), labels), labels).sum().backward()

    for net in (generator, discriminator):
        assert all(p.grad is not None for p in net.parameters())


@each_vae
def test_the_log_variance_of_an_encoder_stays_where_float32_can_raise_it(spec: Any) -> None:
    encoder, _ = spec(width=4, norm="none").build(6)

    _, logvar = encoder(images(3) * 1e6)

    assert logvar.exp().isfinite().all()
    assert (logvar.exp() > 0).all()


LAYERS = [
    lambda: nn.Linear(12, 7),
    lambda: nn.Linear(3, 20),
    lambda: nn.Conv2d(3, 8, 4, stride=2, padding=1),
]


def input_of(layer: nn.Module, count: int = 4) -> Tensor:
    random = torch.Generator().manual_seed(5)
    if isinstance(layer, nn.Linear):
        return torch.randn(count, layer.in_features, generator=random, dtype=torch.float64)
    return torch.randn(count, 3, 8, 8, generator=random, dtype=torch.float64)


def after_steps(layer: nn.Conv2d | nn.Linear, steps: int) -> SpectralNorm:
    normed = SpectralNorm(layer).double()
    with torch.no_grad():
        for _ in range(steps):
            normed(input_of(layer))
    return normed


def largest(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.flatten(1), ord=2))


@pytest.mark.parametrize("make", LAYERS, ids=["wide", "tall", "convolution"])
def test_after_many_steps_the_largest_singular_value_in_use_is_one(make: Any) -> None:
    """The layer is linear in its weight, so its output is that of weight / sigma, sigma exact."""
    layer = seeded(make, 0).double()
    normed = after_steps(layer, 300)
    scale = largest(layer.weight.detach())

    expected = seeded(make, 0).double()
    expected.load_state_dict({"weight": layer.weight / scale, "bias": layer.bias})

    assert largest(expected.weight.detach()) == pytest.approx(1)
    torch.testing.assert_close(normed(input_of(layer)), expected(input_of(layer)))


@pytest.mark.parametrize("make", LAYERS, ids=["wide", "tall", "convolution"])
def test_spectral_norm_and_its_gradient_are_those_of_torch(make: Any) -> None:
    layer = seeded(make, 0).double()
    normed = after_steps(layer, 300)
    theirs = parametrizations.spectral_norm(seeded(make, 0).double(), n_power_iterations=300)

    ours, reference = normed(input_of(layer)), theirs(input_of(layer))
    ours.square().sum().backward()
    reference.square().sum().backward()

    torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(layer.weight.grad, theirs.parametrizations.weight.original.grad)


def test_evaluation_leaves_the_vector_of_spectral_norm_as_it_was() -> None:
    normed = SpectralNorm(nn.Linear(6, 5)).eval()
    before = normed.vector.clone()

    normed(torch.zeros(1, 6))

    assert torch.equal(normed.vector, before)


def test_the_vector_of_spectral_norm_is_saved_with_the_weights() -> None:
    assert "vector" in SpectralNorm(nn.Linear(6, 5)).state_dict()


def test_in_one_process_batch_norm_is_that_of_torch() -> None:
    ours, theirs = BatchNorm2d(5), nn.BatchNorm2d(5)
    random = torch.Generator().manual_seed(0)

    for _ in range(3):
        x = torch.randn(8, 5, 4, 4, generator=random) * 3 + 1
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_layer_norm_makes_every_image_zero_mean_and_unit_variance() -> None:
    x = torch.randn(3, 8, 4, 4) * torch.tensor([0.5, 3.0, 40.0]).view(3, 1, 1, 1) + 7

    normed = norm_layer("layer", 8)(x).flatten(1)

    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(normed.var(dim=1, correction=0), torch.ones(3), rtol=1e-3, atol=0)


def test_no_norm_changes_nothing() -> None:
    x = torch.randn(2, 4, 3, 3)

    assert torch.equal(norm_layer("none", 4)(x), x)
