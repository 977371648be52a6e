"""A training script of your own, which own.yaml searches: what raygen asks of it is in `fit`."""

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from raygen.models import TrainerSpec


class Generator(nn.Module):
    def __init__(self, latent_dim, width, image):
        super().__init__()
        self.shape = image.chw
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, image.values), nn.Tanh()
        )

    def forward(self, latents, labels):  # (n, latent_dim), (n,) -> (n, c, h, w) in [-1, 1]
        return self.layers(latents).view(-1, *self.shape)


class Trainer(TrainerSpec):  # its typed fields are what YAML files and --set may set and search
    latent_dim: PositiveInt = 64
    width: PositiveInt = 128
    lr: PositiveFloat = 1e-3
    smoothing: float = 0.1

    def build(self, image, classes):  # also called to draw from a checkpoint
        return Generator(self.latent_dim, self.width, image)

    def fit(self, run):  # run.device, .seed, .classes, .image, .budget (images)
        generator = run.generator
        critic = nn.Sequential(
            nn.Flatten(), nn.Linear(run.image.values, self.width), nn.ReLU(),
            nn.Linear(self.width, 1),
        ).to(run.device)  # fmt: skip
        g_adam = torch.optim.Adam(generator.parameters(), self.lr, betas=(0.5, 0.99))
        c_adam = torch.optim.Adam(critic.parameters(), self.lr, betas=(0.5, 0.99))
        run.keep(critic=critic, g_adam=g_adam, c_adam=c_adam)  # saved, and restored on resuming

        for images, labels in run.batches():  # (batch_size, c, h, w) in [-1, 1], (batch_size,)
            fake = generator(torch.randn(len(images), self.latent_dim, device=run.device), labels)
            real_logits, fake_logits = critic(images), critic(fake.detach())
            target = torch.full_like(real_logits, 1 - self.smoothing)
            c_loss = F.binary_cross_entropy_with_logits(real_logits, target)
            c_loss = c_loss + F.softplus(fake_logits).mean()
            c_adam.zero_grad()
            c_loss.backward()
            c_adam.step()

            g_loss = F.softplus(-critic(fake)).mean()
            g_adam.zero_grad()
            g_loss.backward()
            g_adam.step()
            yield {"critic": c_loss, "generator": g_loss}  # after each step; no .item(): it waits
