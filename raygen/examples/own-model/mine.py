"""An architecture, a loss and a metric of your own, which own.yaml searches."""

from pydantic import PositiveInt
from torch import nn

from raygen.losses.adversarial import GanLoss
from raygen.metrics import metric
from raygen.models import GanNets, GanSpec


class Generator(nn.Module):
    def __init__(self, latent_dim, width, image):
        super().__init__()
        self.latent_dim, self.shape = latent_dim, image.chw
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, image.values), nn.Tanh()
        )

    def forward(self, latents, labels):  # (n, latent_dim), (n,) -> (n, c, h, w) in [-1, 1]
        return self.layers(latents).view(-1, *self.shape)


class Discriminator(nn.Module):
    def __init__(self, width, image):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(image.values, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, images, labels):  # (n, c, h, w), (n,) -> logits (n,)
        return self.layers(images).squeeze(1)


class Mine(GanSpec):  # its typed fields are what YAML files and --set may set and search
    latent_dim: PositiveInt = 64
    width: PositiveInt = 32

    def build(self, image, classes):  # image.channels, image.size; the number of classes
        return GanNets(
            Generator(self.latent_dim, self.width, image), Discriminator(self.width, image)
        )


squares = GanLoss(  # of real and fake logits, both to be minimised
    discriminator=lambda real, fake: ((real - 1) ** 2).mean() + (fake**2).mean(),
    generator=lambda real, fake: ((fake - 1) ** 2).mean(),
    chance=0.5,  # the discriminator's loss where it can only guess
)


@metric("maximize", label="sharpness")
def sharpness(images, real):  # uint8 (n, c, h, w), as many of each, on the device of the trial
    return (images[..., 1:].float() - images[..., :-1].float()).abs().mean()
