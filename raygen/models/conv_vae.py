"""A convolutional VAE for 32x32 images. Kingma and Welling 2014, with residual convolutions."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from raygen.models.layers import Norm, norm_layer
from raygen.models.nets import VaeNets
from raygen.spec import Spec


class ConvVae(Spec):
    """Three strided convolutions down to 4x4 and back, `depth` residual blocks at each scale.

    `width` is the channel count at 16x16; it doubles at each halving of the resolution.
    """

    name: Literal["conv_vae"] = "conv_vae"
    latent_dim: PositiveInt = 128
    width: PositiveInt = 64
    depth: Annotated[int, Field(ge=0, le=8)] = 1
    norm: Norm = "batch"

    def build(self, channels: int) -> VaeNets:
        """Build both networks; the decoder ends in as many channels as its likelihood wants."""
        return VaeNets(
            Encoder(self.latent_dim, self.width, self.depth, self.norm),
            Decoder(self.latent_dim, self.width, self.depth, self.norm, channels),
        )


class Encoder(nn.Module):
    """Images (n, 3, 32, 32) -> mean and log-variance of q(z | x), each (n, latent_dim)."""

    def __init__(self, latent_dim: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(channels, out, 4, stride=2, padding=1)]
            layers += [Residual(out, norm) for _ in range(depth)]
            layers += [norm_layer(norm, out), nn.SiLU()]
            channels = out
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels * 4 * 4, 2 * latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.head(self.blocks(images).flatten(1)).chunk(2, dim=1)
        # Outside of this range exp() leaves float32 long before training recovers.
        return mean, logvar.clamp(-12, 12)


class Decoder(nn.Module):
    """Latents (n, latent_dim) -> the parameters of the pixel likelihood (n, channels, 32, 32)."""

    def __init__(self, latent_dim: int, width: int, depth: int, norm: Norm, channels: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.project = nn.Linear(latent_dim, 4 * width * 4 * 4)
        layers: list[nn.Module] = []
        inner = 4 * width
        for out in (2 * width, width, width):
            layers += [Residual(inner, norm) for _ in range(depth)]
            layers += [norm_layer(norm, inner), nn.SiLU()]
            layers += [nn.ConvTranspose2d(inner, out, 4, stride=2, padding=1)]
            inner = out
        self.blocks = nn.Sequential(*layers, norm_layer(norm, inner), nn.SiLU())
        self.to_parameters = nn.Conv2d(inner, channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.project(latents).view(len(latents), -1, 4, 4)
        return self.to_parameters(self.blocks(x))


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), pre-activated. He et al. 2016 (b)."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm_layer(norm, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            norm_layer(norm, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, input: Tensor) -> Tensor:
        return input + self.body(input)
