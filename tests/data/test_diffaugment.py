"""DiffAugment and ADA's changes against torchvision and plain loops, and their gradients."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from raygen.data.ada import blit, geometric
from raygen.data.augmentation import AUGMENTS, Policy, PolicyName
from raygen.data.diffaugment import color, cutout, translation


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def rows(*numbers: float) -> Tensor:
    return torch.tensor([numbers]).expand(5, -1)


@pytest.mark.parametrize("first", [0.0, 0.06, 0.5, 0.93, 0.999])
def test_a_translation_is_that_of_torchvision_with_zeros_coming_in(
    images: Tensor, first: float
) -> None:
    down, right = int(first * 9) - 4, int(0.7 * 9) - 4  # -4 to 4 pixels: an eighth of 32

    moved = translation(images, rows(first, 0.7))

    expected = tv.affine(images, 0.0, [right, down], 1.0, [0.0, 0.0])
    assert torch.equal(moved, expected)


def test_translations_reach_an_eighth_of_the_side_both_ways_and_are_equally_likely() -> None:
    dot = torch.zeros(9000, 1, 32, 32)
    dot[:, :, 16, 16] = 1
    uniform = torch.rand(9000, 2, generator=torch.Generator().manual_seed(1))

    places = translation(dot, uniform)[:, 0].flatten(1).argmax(dim=1)

    counts = torch.bincount(places // 32 - 12, minlength=9)
    assert len(counts) == 9
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize(("row", "column"), [(0.0, 0.0), (0.5, 0.25), (0.99, 0.4)])
def test_cutout_zeroes_a_square_of_half_the_side_around_its_point(
    images: Tensor, row: float, column: float
) -> None:
    expected = images.clone()
    middle = int(row * 33), int(column * 33)
    for y in range(32):
        for x in range(32):
            if -8 <= y - middle[0] < 8 and -8 <= x - middle[1] < 8:
                expected[:, :, y, x] = 0

    assert torch.equal(cutout(images, rows(row, column)), expected)


def test_half_of_every_number_leaves_the_colours_as_they_are(images: Tensor) -> None:
    torch.testing.assert_close(color(images, rows(0.5, 0.5, 0.5)), images)


def test_brightness_adds_saturation_and_contrast_scale(images: Tensor) -> None:
    brighter = color(images, rows(0.9, 0.5, 0.5))
    grey = color(images, rows(0.5, 0.0, 0.5))
    flat = color(images, rows(0.5, 0.5, 0.0))

    torch.testing.assert_close(brighter, images + 0.4)
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand_as(images))
    torch.testing.assert_close(
        flat.std(dim=(1, 2, 3)), 0.5 * images.std(dim=(1, 2, 3)), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("name", AUGMENTS)
def test_where_a_pixel_comes_from_does_not_depend_on_the_precision_of_networks(
    images: Tensor, name: str
) -> None:
    """The discriminator and the generator step see the same change, one of them in autocast."""
    change, numbers = AUGMENTS[name]
    uniform = torch.rand(len(images), numbers, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        fast = change(images, uniform)

    assert torch.equal(fast, change(images, uniform))


@pytest.mark.parametrize("name", AUGMENTS)
def test_gradients_pass_through_every_change(images: Tensor, name: str) -> None:
    double = images[:2, :, ::4, ::4].double().requires_grad_()
    uniform = torch.full((2, AUGMENTS[name].numbers), 0.3, dtype=torch.float64)

    assert torch.autograd.gradcheck(lambda x: AUGMENTS[name].change(x, uniform), double)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [0, 1])
def test_a_blit_mirrors_turns_and_moves_whole_pixels(
    images: Tensor, mirror: int, turn: int
) -> None:
    numbers = rows(0.2 + 0.6 * (1 - mirror), (turn + 0.5) / 4, 0.93, 0.06)  # 4 down, 4 left

    changed = blit(images, numbers)

    expected = tv.horizontal_flip(images) if mirror else images
    expected = torch.rot90(expected, turn, dims=(2, 3))
    expected = F.pad(expected, (4, 4, 4, 4), mode="reflect")[:, :, :32, 8:]
    assert torch.equal(changed, expected)


def test_a_geometric_change_in_the_middle_of_all_numbers_changes_nothing(images: Tensor) -> None:
    middle = rows(0.5, 0.0, 0.5, 0.0, 0.5, 0.5)
    torch.testing.assert_close(geometric(images, middle), images)


@pytest.mark.parametrize("first", [0.25, 0.5, 0.75])
def test_quarters_of_a_turn_are_exact_and_add_up(images: Tensor, first: float) -> None:
    once = geometric(images, rows(0.5, first, 0.5, 0.0, 0.5, 0.5))
    apart = geometric(images, rows(0.5, first - 0.25, 0.5, 0.25, 0.5, 0.5))

    torch.testing.assert_close(once, apart, atol=1e-4, rtol=0)
    quarters = round(4 * first)
    turned = [torch.rot90(images, sign * quarters, dims=(2, 3)) for sign in (1, -1)]
    assert min(float((once - other).abs().max()) for other in turned) < 1e-4


def test_geometric_changes_are_those_of_torchvision_inside_the_image() -> None:
    """Scaled by 2^(0.2 z) and moved by z / 8 of the side, in the middle that no edge reaches."""
    picture = tv.gaussian_blur(torch.rand(1, 3, 64, 64), [9, 9], [3.0, 3.0])
    u = float(0.5 * (1 + torch.erf(torch.tensor(1.0) / 2**0.5)))  # one standard deviation

    larger = geometric(picture, torch.tensor([[u, 0.0, 0.5, 0.0, 0.5, 0.5]]))
    moved = geometric(picture, torch.tensor([[0.5, 0.0, 0.5, 0.0, u, 0.5]]))

    scale = tv.affine(picture, 0.0, [0, 0], 2**0.2, [0.0, 0.0], tv.InterpolationMode.BILINEAR)
    shift = tv.affine(picture, 0.0, [0, 8], 1.0, [0.0, 0.0], tv.InterpolationMode.BILINEAR)
    for ours, theirs in ((larger, scale), (moved, shift)):
        inside = (slice(None), slice(None), slice(16, 48), slice(16, 48))
        torch.testing.assert_close(ours[inside], theirs[inside], atol=2e-3, rtol=0)


def test_a_policy_with_a_probability_changes_that_share_of_images_by_each_part() -> None:
    images = torch.rand(4000, 3, 8, 8) * 0.5 + 0.25
    policy = Policy("color,cutout", always=False)
    uniform = torch.rand(4000, policy.numbers, generator=torch.Generator().manual_seed(2))

    assert policy.numbers == Policy("color,cutout").numbers + 2
    assert torch.equal(policy(images, uniform, torch.tensor(0.0)), images)
    changed = policy(images, uniform, torch.tensor(0.3))
    cut = (changed == 0).flatten(1).any(dim=1)
    touched = (changed != images).flatten(1).any(dim=1)
    assert cut.float().mean() == pytest.approx(0.3, abs=0.03)
    assert touched.float().mean() == pytest.approx(1 - 0.7**2, abs=0.03)
    whole = policy(images, uniform, torch.tensor(1.0))
    kept = torch.ones(policy.numbers, dtype=torch.bool)
    kept[[3, 6]] = False  # the numbers that decide
    assert torch.equal(whole, Policy("color,cutout")(images, uniform[:, kept]))


def test_a_policy_applies_its_changes_in_order_with_their_own_numbers(images: Tensor) -> None:
    policy = Policy("color,cutout")
    uniform = torch.rand(5, policy.numbers, generator=torch.Generator().manual_seed(2))

    expected = cutout(color(images, uniform[:, :3]), uniform[:, 3:])

    assert torch.equal(policy(images, uniform), expected)


def test_no_policy_changes_nothing_and_needs_no_numbers(images: Tensor) -> None:
    policy = Policy("none")

    assert policy.numbers == 0
    assert policy(images, torch.empty(5, 0)) is images


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("colour", "unknown augmentation 'colour'.*did you mean 'color'"),
        ("color,none", "unknown augmentation 'none'"),
        ("cutout,cutout", "twice"),
    ],
)
def test_a_policy_that_is_none_is_refused(names: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(PolicyName).validate_python(names)
