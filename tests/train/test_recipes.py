"""Every recipe learns real photographs, and settings that are bad on purpose end early.

The recipes, the bad settings and what is asked of them stand in benchmarks/recipes.py.
"""

from pathlib import Path

import pytest

from raygen.data import DataSpec, ImageData, load_data
from raygen.trial import parse_trial
from recipes import BAD, BROKEN, LONGEST, RECIPES, learn

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "cifar10_jpeg"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason=f"needs photographs in {PHOTOGRAPHS}"),
]
KIMG = 1.5  # of the good ones
QUICK = ("gan: generator rate 2e-6, 5 steps of the other", "vae: beta 10,000", "ladder_vae: rate 1")


@pytest.fixture(scope="module")
def photographs() -> ImageData:
    return load_data(DataSpec(path=str(PHOTOGRAPHS), limit=10_000))


@pytest.fixture(autouse=True)
def cache() -> None:
    """Keep the user's cache, unlike the other tests here: a classifier takes a minute to train."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_beats_its_untrained_self_by_its_factor_and_is_never_flagged(
    name: str, photographs: ImageData
) -> None:
    recipe = RECIPES[name]

    trial = parse_trial(recipe.settings)
    found = learn(trial, photographs, KIMG, samples=500, seed=1, evaluations=5)

    assert found["diverged"] is None
    assert found["spent"] == 1
    assert found["factor"] > recipe.factor
    assert not found["useless"]


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_within_a_short_budget_is_known_as_useless(
    name: str, photographs: ImageData
) -> None:
    outcome = learn(parse_trial(BROKEN[name]), photographs, 0.75, samples=500, seed=1)

    assert outcome["useless"]


@pytest.mark.parametrize("name", QUICK)
def test_bad_settings_end_early_with_the_right_reason(name: str, photographs: ImageData) -> None:
    bad = BAD[name]

    found = learn(parse_trial(bad.settings), photographs, 20.0, samples=500, seed=1)

    assert found["diverged"].startswith(bad.reasons)
    assert found["spent"] <= LONGEST
