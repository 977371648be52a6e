"""The list of architectures, and layers against those of torch."""

import importlib
import pkgutil
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import raygen.models
from raygen.image_shape import CIFAR10
from raygen.models import ConvVae, GanModel, VaeModel, conv_vae, layers, r3gan
from raygen.models.layers import BatchNorm2d, SpectralNorm, norm_layer
from raygen.models.r3gan import R3gan
from raygen.spec import Spec

PARTS = {"nets", "layers"}


def specs_in(union: Any) -> list[type[Spec]]:
    """The classes of Model, of A | B, or of Annotated[A | B, ...]."""
    if isinstance(union, type):
        return [union] if issubclass(union, Spec) else []
    return [spec for part in get_args(union) for spec in specs_in(part)]


GANS, VAES = specs_in(GanModel), specs_in(VaeModel)


def seeded(build: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    return build()


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
            normed.iterate()
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


def test_a_pass_leaves_the_vector_of_spectral_norm_as_it_was() -> None:
    normed = SpectralNorm(nn.Linear(6, 5))
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


def test_two_workers_keep_the_variance_of_channels_whose_mean_is_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = torch.Generator().manual_seed(0)
    x = 30 + 0.01 * torch.randn(8, 5, 4, 4, generator=random)
    monkeypatch.setattr(layers, "world_size", lambda: 2)
    # The other worker has the same images.
    monkeypatch.setattr(layers, "all_reduce_sum", lambda moments: moments + moments.flip(0))
    ours, theirs = BatchNorm2d(5)(x), nn.BatchNorm2d(5).double()(x.double())

    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "model",
    [R3gan(width=8, growth=1, blocks=1, group_width=4), ConvVae(width=8)],
    ids=lambda model: model.name,
)
def test_sums_of_blocks_stay_channels_last_whatever_a_network_starts_from(model: Any) -> None:
    built = model.build(CIFAR10, 10 if isinstance(model, R3gan) else 6)
    network = built.generator if isinstance(model, R3gan) else built
    network = network.to(memory_format=torch.channels_last)
    seen = []

    def note(block: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in network.modules():
        if isinstance(module, r3gan.Block | conv_vae.Residual):
            module.register_forward_hook(note)
    latents = torch.randn(2, network.latent_dim)
    if isinstance(model, R3gan):
        network(latents, torch.zeros(2, dtype=torch.int64))
    else:
        network(torch.randn(2, 3, 32, 32), latents)

    assert seen
    assert all(seen)


def test_layer_norm_makes_every_image_zero_mean_and_unit_variance() -> None:
    x = torch.randn(3, 8, 4, 4) * torch.tensor([0.5, 3.0, 40.0]).view(3, 1, 1, 1) + 7

    normed = norm_layer("layer", 8)(x).flatten(1)

    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(normed.var(dim=1, correction=0), torch.ones(3), rtol=1e-3, atol=0)


def test_no_norm_changes_nothing() -> None:
    x = torch.randn(2, 4, 3, 3)

    assert torch.equal(norm_layer("none", 4)(x), x)
