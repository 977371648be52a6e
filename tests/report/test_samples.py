"""Which pictures are shown, and that the right ones are."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from raygen.report.embedded_pictures import tiles_picture
from raygen.report.samples import STEPS, checkpoints, samples_section
from raygen.results import Results
from report.journals import end, paint, report, suggest

Make = Callable[..., Results]


def study_of(make_study: Make, times: list[float], best: float, **changes: str) -> Results:
    records = suggest(0, {"a": 1})
    records += [report(0, kimg, 1.0 if kimg == best else 2.0 + kimg) for kimg in times]
    study = make_study([*records, end(0)], **changes)
    for kimg in times:
        paint(study.folder.trial(0).samples(kimg), int(kimg), 0)
    return study


def test_the_first_the_last_and_the_best_checkpoint_are_always_shown(make_study: Make) -> None:
    times = [float(kimg) for kimg in range(1, 21)]
    table = checkpoints(study_of(make_study, times, best=8.0), 0)

    assert len(table) == STEPS
    assert {1.0, 8.0, 20.0} <= set(table["kimg"])
    assert table["kimg"].is_monotonic_increasing
    assert table.loc[table["best"], ["kimg", "value"]].to_numpy().tolist() == [[8.0, 1.0]]


def test_a_trial_without_pictures_says_so(make_study: Make) -> None:
    study = make_study([*suggest(0, {"a": 1}), report(0, 16, 3.0), end(0)])

    assert samples_section(study) == (
        "No samples to show: no trial with a value has saved a picture.",
        "",
    )


def test_a_vae_shows_reconstructions_prior_samples_and_interpolations(make_study: Make) -> None:
    study = study_of(make_study, [2.0, 16.0], best=16.0, family="vae")
    for name in ("reconstructions", "interpolation"):
        for kimg in (2.0, 16.0):
            paint(study.folder.trial(0).picture(name, kimg), 3, 0, tiles=4)
    body = samples_section(study)[1]
    views = re.findall(r"<figcaption>([^<]*)", body[body.index('class="views"') :])

    assert [caption.split(";")[0].split(",")[0] for caption in views] == [
        "Test images",
        "Drawn from the prior",
        "Interpolations",
    ]
    assert all(caption.endswith("at 16 kimg") for caption in views)


def test_tiles_are_those_of_the_grid_with_a_pixel_of_nothing_between(tmp_path: Path) -> None:
    colours = np.arange(64, dtype=np.uint8) * 4
    grid = np.repeat(np.repeat(colours.reshape(8, 8), 32, axis=0), 32, axis=1)
    Image.fromarray(np.stack([grid] * 3, axis=2)).save(tmp_path / "grid.png")

    picture = tiles_picture(tmp_path / "grid.png", rows=2, columns=5)

    assert picture is not None
    shown = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
    assert shown.size == (picture.width, picture.height) == (5 * 33 - 1, 2 * 33 - 1)
    pixels = np.asarray(shown.convert("RGBA"), dtype=int)
    assert (pixels[32, :, 3] == 0).all()
    assert (pixels[:, 32, 3] == 0).all()
    for row, column in ((0, 0), (0, 4), (1, 3)):
        tile = pixels[33 * row : 33 * row + 32, 33 * column : 33 * column + 32]
        assert abs(tile[..., 0] - int(colours[8 * row + column])).max() <= 4
        assert (tile[..., 3] == 255).all()
    assert tiles_picture(tmp_path / "none.png", 4) is None
    half = tiles_picture(tmp_path / "grid.png", 1, 6, largest=16)
    assert half is not None
    assert (half.width, half.height) == (6 * 17 - 1, 16)
