"""A small StyleGAN2. Karras et al. 2019; 2020 a (its networks); 2020 b (its setup for CIFAR-10)."""

import math
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from raygen.image_shape import ImageShape
from raygen.models.layers import double, halve, in_float32, residual_widths
from raygen.models.nets import GanNets, GanSpec

MAPPING_RATE = 0.01  # the learning rate of the mapping network, in those of the others
EPSILON = 1e-8
# Of a leaky ReLU, so that it keeps the mean square. It has no sign: it may come before or after.
GAIN = math.sqrt(2)


class StyleGan(GanSpec):
    """The latent becomes a style, by which each convolution weighs its channels.

    Every stage has `width` channels; above 32x32, half as many at each doubling. The discriminator
    compares groups of `minibatch_std` images (0 or 1: none), by which a batch must divide. The
    paper's network for CIFAR-10 has a width of 512, groups of 32, and no shortcuts (`residual`) in
    the discriminator. With `conditional`, a class embedding stands beside the latent, and the
    discriminator projects on another. As for CIFAR-10 there, two latents are never mixed and no
    path length is penalised; unlike there, no noise is added to the channels, since all random
    numbers of a step come in the latent.
    """

    name: Literal["style_gan"] = "style_gan"
    latent_dim: PositiveInt = 512  # that of styles, too
    width: PositiveInt = 256
    mapping_layers: PositiveInt = 2
    minibatch_std: Annotated[int, Field(ge=0)] = 4
    residual: bool = True

    @property
    def compared_images(self) -> int:
        """How many images, next to each other in a batch, the discriminator compares."""
        return max(1, self.minibatch_std)

    def build(self, image: ImageShape, classes: int) -> GanNets:
        """Build both networks, untrained."""
        labels = classes if self.conditional else 0
        widths = residual_widths(self.width, image)
        return GanNets(
            Generator(self.latent_dim, self.mapping_layers, widths, image.channels, labels),
            Discriminator(
                widths[::-1], self.residual, self.compared_images, image.channels, labels
            ),
        )


class Generator(nn.Module):
    """Latents (n, latent_dim) and labels (n,) -> images (n, c, h, w) in [-1, 1].

    The image is the sum of what each resolution adds to it. Karras et al. 2020 a, figure 7 b. The
    paper's is unbounded. This one ends in tanh, as every generator here does: images are evaluated
    in [-1, 1], and the discriminator would see what is cut off there. So that tanh is not saturated
    from the start, the sum is divided by the root of its number of parts.
    """

    def __init__(
        self, latent_dim: int, mapping_layers: int, widths: list[int], channels: int, classes: int
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.mapping = Mapping(latent_dim, mapping_layers, classes)
        self.start = nn.Parameter(torch.randn(widths[0], 4, 4))
        styled = partial(StyledConv, latent_dim)
        self.first = styled(widths[0], widths[0])
        self.up = nn.ModuleList(styled(a, b, up=True) for a, b in pairwise(widths))
        self.same = nn.ModuleList(styled(width, width) for width in widths[1:])
        self.to_rgb = nn.ModuleList(ToRgb(latent_dim, width, channels) for width in widths)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        style = self.mapping(latents, labels)
        x = self.first(self.start.expand(len(latents), -1, -1, -1), style)
        first, *others = self.to_rgb
        image = first(x, style)
        for up, same, to_rgb in zip(self.up, self.same, others, strict=True):
            x = same(up(x, style), style)
            image = double(image) + to_rgb(x, style)
        return torch.tanh(image / math.sqrt(len(self.to_rgb)))


class Discriminator(nn.Module):
    """Images (n, c, h, w) and labels (n,) -> logits (n,); large means "real".

    Karras et al. 2020 a, figure 7 c. The projection (Miyato and Koyama 2018) is on a normalised
    embedding.
    """

    def __init__(
        self, widths: list[int], residual: bool, compared: int, channels: int, classes: int
    ) -> None:
        super().__init__()
        last = widths[-1]
        self.from_rgb = EqualConv(channels, widths[0], 1, gain=GAIN)
        self.stages = nn.Sequential(*(Down(a, b, residual) for a, b in pairwise(widths)))
        self.compared = compared
        self.conv = EqualConv(last + int(compared > 1), last, 3, gain=GAIN)
        self.linear = EqualLinear(last * 4 * 4, last, gain=GAIN)
        self.score = EqualLinear(last, last if classes else 1)
        self.embedding = nn.Embedding(classes, last) if classes else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = self.stages(_leaky(self.from_rgb(images)))
        scores = in_float32(self._scores, x)
        if self.embedding is None:
            return scores.squeeze(1)
        direction = normalise(self.embedding(labels)) / math.sqrt(scores.shape[1])
        return (scores * direction).sum(dim=1)

    def _scores(self, features: Tensor) -> Tensor:
        if self.compared > 1:
            features = torch.cat([features, minibatch_std(features, self.compared)], dim=1)
        x = _leaky(self.conv(features)).flatten(1)
        return self.score(_leaky(self.linear(x)))


class Mapping(nn.Module):
    """Latents (n, d) and labels (n,) -> styles (n, d), in float32.

    Karras et al. 2019, section 2 and appendix C, where its learning rate is a hundredth. With
    classes a normalised embedding stands beside the normalised latent. 2020 b, appendix D.
    """

    def __init__(self, dim: int, layers: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, dim) if classes else None
        first = 2 * dim if classes else dim
        self.layers = nn.ModuleList(
            EqualLinear(dim if index else first, dim, gain=GAIN, rate=MAPPING_RATE)
            for index in range(layers)
        )

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = normalise(latents)
        if self.embedding is not None:
            x = torch.cat([x, normalise(self.embedding(labels))], dim=1)
        for layer in self.layers:
            x = _leaky(in_float32(layer, x))
        return x


class StyledConv(nn.Module):
    """A modulated convolution and a leaky ReLU: (n, c, h, w), (n, d) -> (n, out, h, w).

    Each image's weights are those of the layer times its style s per input channel, divided by
    their norm per output channel ("demodulation"). Karras et al. 2020 a, section 2.2. A convolution
    is linear: scaling inputs and outputs in place of weights, one convolution serves the whole
    batch, where a kernel for each image would need grouped ones, which are slow. `up` doubles the
    resolution before.
    """

    def __init__(self, style_dim: int, channels: int, out: int, up: bool = False) -> None:
        super().__init__()
        self.up = up
        self.style = EqualLinear(style_dim, channels, start=1.0)
        self.weight = nn.Parameter(torch.randn(out, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, input: Tensor, style: Tensor) -> Tensor:
        scale = in_float32(self.style, style)
        # Only their direction matters; of unit norm for a scale of 1, they are above epsilon.
        weight = self.weight / math.sqrt(self.weight[0].numel())
        with torch.autocast(input.device.type, enabled=False):
            norm = scale.square() @ weight.square().sum(dim=(2, 3)).mT + EPSILON
            factor = GAIN * norm.rsqrt()
        x = _times(input, scale)
        x = F.conv2d(double(x) if self.up else x, weight, padding=1)
        return _leaky(_times(x, factor) + (GAIN * self.bias).to(x.dtype).view(-1, 1, 1))


class ToRgb(nn.Module):
    """What a resolution adds to the image, in float32: (n, c, h, w), (n, d) -> (n, channels, h, w).

    Modulated and not demodulated. Karras et al. 2020 a, section 4.1 and appendix B.
    """

    def __init__(self, style_dim: int, width: int, channels: int) -> None:
        super().__init__()
        self.style = EqualLinear(style_dim, width, start=1.0)
        self.conv = EqualConv(width, channels, 1)

    def forward(self, input: Tensor, style: Tensor) -> Tensor:
        return in_float32(self.conv, _times(input, in_float32(self.style, style)))


class Down(nn.Module):
    """Half the resolution, by two convolutions: (n, c, h, w) -> (n, out, h/2, w/2).

    With a shortcut the sum is divided by the root of 2, so that its variance is that of its parts.
    """

    def __init__(self, channels: int, out: int, residual: bool) -> None:
        super().__init__()
        share = math.sqrt(0.5) if residual else 1.0
        self.conv1 = EqualConv(channels, channels, 3, gain=GAIN)
        self.conv2 = EqualConv(channels, out, 3, gain=GAIN * share, down=True)
        self.shortcut = EqualConv(channels, out, 1, gain=share, bias=False) if residual else None

    def forward(self, input: Tensor) -> Tensor:
        x = _leaky(self.conv2(_leaky(self.conv1(input))))
        # Averages and a 1x1 convolution commute: after them, it costs a quarter.
        return x if self.shortcut is None else x + self.shortcut(halve(input))


class EqualConv(nn.Module):
    """A convolution whose weights are drawn from N(0, 1) and scaled as He et al. 2015 in each pass.

    So Adam changes all of them by the same share in a step: an equalised learning rate (Karras et
    al. 2018, section 4.1). What it gives is multiplied by `gain`; `down` halves it.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        size: int,
        gain: float = 1.0,
        bias: bool = True,
        down: bool = False,
    ) -> None:
        super().__init__()
        self.gain, self.down = gain, down
        self.weight = nn.Parameter(torch.randn(out, channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight * (self.gain / math.sqrt(self.weight[0].numel()))
        bias = None if self.bias is None else self.gain * self.bias
        size = weight.shape[-1]
        if not self.down:
            return F.conv2d(input, weight, bias, padding=size // 2)
        # The mean over 2x2 pixels of a convolution is a convolution by the mean of its shifted
        # kernel, at half the resolution: with 16 weights in place of 9, at a quarter of the places.
        spread = F.avg_pool2d(F.pad(weight, (1, 1, 1, 1)), 2, stride=1)
        return F.conv2d(input, spread, bias, stride=2, padding=size // 2)


class EqualLinear(nn.Module):
    """A linear layer, as EqualConv: biases begin at `start`, and all learn at `rate` of the rate.

    Weights that are larger by 1 / rate and scaled down by it change by `rate` times as much.
    """

    def __init__(
        self, features: int, out: int, gain: float = 1.0, start: float = 0.0, rate: float = 1.0
    ) -> None:
        super().__init__()
        self.gain, self.rate = gain, rate
        self.weight = nn.Parameter(torch.randn(out, features) / rate)
        self.bias = nn.Parameter(torch.full((out,), start / rate))

    def forward(self, input: Tensor) -> Tensor:
        scale = self.gain * self.rate
        weight = self.weight * (scale / math.sqrt(self.weight.shape[1]))
        return F.linear(input, weight, scale * self.bias)


def minibatch_std(features: Tensor, compared: int) -> Tensor:
    """How much groups of images differ, as one more channel: (n, c, h, w) -> (n, 1, h, w).

    The standard deviation over a group, averaged over channels and pixels. Karras et al. 2018,
    section 3. Groups are of neighbours, where the paper's code takes images from all over the
    batch: so the halves of a batch that divide by `compared` have theirs for themselves, and so do
    the parts of several workers. Where n does not divide by it, groups are smaller.
    """
    group = math.gcd(len(features), compared)
    groups = features.unflatten(0, (-1, group))
    variance = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
    spread = (variance + EPSILON).sqrt().mean(dim=(1, 2, 3))
    height, width = features.shape[2:]
    return spread.view(-1, 1, 1, 1, 1).expand(-1, group, 1, height, width).flatten(0, 1)


def normalise(vectors: Tensor) -> Tensor:
    """Scale to a mean square of 1: (n, d) -> (n, d). Karras et al. 2018, section 4.2."""
    return vectors * (vectors.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


def _times(images: Tensor, factor: Tensor) -> Tensor:
    """Per image and channel: (n, c, h, w), (n, c); in the precision of the images."""
    return images * factor.to(images.dtype)[:, :, None, None]


def _leaky(input: Tensor) -> Tensor:
    return F.leaky_relu(input, 0.2)
