"""Encoders of one's own: a `torch.nn.Module` whose features a distance compares."""

import torch
from torch import Tensor, nn

from raygen.errors import InputError
from raygen.metrics import FeatureEncoder
from raygen.plugins import place_of


def encoder_network(encoder: FeatureEncoder, device: torch.device) -> nn.Module:
    """Build the network of an encoder, frozen and in eval mode.

    A network with random weights gets the same ones every time.

    Raises:
        InputError: it cannot be built, with the place in the user's file, or is no module.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = encoder.network()
    except Exception as error:  # whatever the user's own code raises
        raise InputError(f"{encoder.name}: {place_of(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{encoder.name}: returns a {type(network).__name__}, but must return a "
            f"torch.nn.Module: uint8 images (n, c, h, w) -> features (n, {encoder.dim})"
        )
    return network.to(device).eval().requires_grad_(False)


@torch.no_grad()
def check_encoder(encoder: FeatureEncoder, network: nn.Module, images: Tensor) -> None:
    """Encode some images, before a search relies on it.

    Raises:
        InputError: it fails, or makes other features than it says.
    """
    try:
        shape = tuple(features_of(network, images).shape)
    except Exception as error:  # whatever the user's own code raises
        raise InputError(f"{encoder.name}: {place_of(error)}") from error
    if shape != (len(images), encoder.dim):
        raise InputError(
            f"{encoder.name}: turns {len(images)} images into features {shape}, but says dim="
            f"{encoder.dim}, so they must be {(len(images), encoder.dim)}"
        )


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """Features (n, dim) of uint8 images (n, c, h, w), in float32."""
    return network(images).float()
