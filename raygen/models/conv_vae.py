"""A convolutional VAE. Kingma and Welling 2014, with residual convolutions."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from raygen.image_shape import ImageShape
from raygen.models.layers import Norm, in_float32, norm_layer
from raygen.models.nets import Pass, VaeSpec

MOST = 8  # times `width`: channels grow no further at the smallest resolutions of large images


class ConvVae(VaeSpec):
    """Strided convolutions down to 4x4 and back, `depth` residual blocks at each scale.

    `width` is the channel count at half the resolution of images; it doubles at each further
    halving, up to 8 times.
    """

    name: Literal["conv_vae"] = "conv_vae"
    latent_dim: PositiveInt = 128
    width: PositiveInt = 64
    depth: Annotated[int, Field(ge=0, le=8)] = 1
    norm: Norm = "batch"

    def build(self, image: ImageShape, outputs: int) -> "ConvVaeNet":
        """Build the network; it ends in as many channels as its likelihood wants."""
        widths = [self.width * min(2**k, MOST) for k in range(image.halvings)]
        return ConvVaeNet(self.latent_dim, widths, self.depth, self.norm, image.channels, outputs)


class ConvVaeNet(nn.Module):
    """Encoder, one layer of latents whose prior is N(0, 1), decoder."""

    def __init__(
        self,
        latent_dim: int,
        widths: list[int],
        depth: int,
        norm: Norm,
        channels: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.latent_dim, self.layers = latent_dim, (latent_dim,)
        self.encoder = Encoder(latent_dim, widths, depth, norm, channels)
        self.decoder = Decoder(latent_dim, widths, depth, norm)
        self.to_parameters = nn.Conv2d(widths[0], outputs, 3, padding=1)

    def forward(self, images: Tensor, noise: Tensor) -> Pass:
        mean, logvar = self.encoder(images)
        log_ratio = 0.5 * logvar
        return Pass(self.decode(mean + torch.exp(log_ratio) * noise), mean, log_ratio)

    def decode(self, noise: Tensor) -> Tensor:
        """Latents (n, latent_dim) -> the parameters of the pixel likelihood."""
        return in_float32(self.to_parameters, self.decoder(noise))


class Encoder(nn.Module):
    """Images (n, c, h, w) -> mean and log-variance of q(z | x), each (n, latent_dim)."""

    def __init__(
        self, latent_dim: int, widths: list[int], depth: int, norm: Norm, channels: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for out in widths:
            layers += [nn.Conv2d(channels, out, 4, stride=2, padding=1)]
            layers += [Residual(out, norm) for _ in range(depth)]
            layers += [norm_layer(norm, out), nn.SiLU()]
            channels = out
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels * 4 * 4, 2 * latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.blocks(images).flatten(1)
        mean, logvar = in_float32(self.head, features).chunk(2, dim=1)
        # Outside of this range exp() leaves float32 long before training recovers.
        return mean, logvar.clamp(-12, 12)


class Decoder(nn.Module):
    """Latents (n, latent_dim) -> features (n, width, h, w)."""

    def __init__(self, latent_dim: int, widths: list[int], depth: int, norm: Norm) -> None:
        super().__init__()
        inner = widths[-1]
        self.project = nn.Linear(latent_dim, inner * 4 * 4)
        layers: list[nn.Module] = []
        for out in (*widths[-2::-1], widths[0]):
            layers += [Residual(inner, norm) for _ in range(depth)]
            layers += [norm_layer(norm, inner), nn.SiLU()]
            layers += [nn.ConvTranspose2d(inner, out, 4, stride=2, padding=1)]
            inner = out
        self.blocks = nn.Sequential(*layers, norm_layer(norm, inner), nn.SiLU())

    def forward(self, latents: Tensor) -> Tensor:
        return self.blocks(self.project(latents).view(len(latents), -1, 4, 4))


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
        return self.body(input) + input  # a sum has the memory format of its first part
