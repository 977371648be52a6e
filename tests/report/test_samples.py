"""Which pictures are shown, and that the right ones are."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from raygen.report.embedded_pictures import small_picture
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


def test_a_small_picture_is_the_top_rows_of_its_grid(tmp_path: Path) -> None:
    paint(tmp_path / "grid.png", 5, 0)
    picture = small_picture(tmp_path / "grid.png", 2.0, rows=4)
    assert picture is not None
    seen = Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))).convert("RGB")
    whole = Image.open(tmp_path / "grid.png").convert("RGB")

    assert (picture.width, picture.height) == (whole.width, whole.height // 2) == seen.size
    middle = whole.getpixel((8, 8))
    assert all(abs(a - b) < 40 for a, b in zip(seen.getpixel((8, 8)), middle, strict=True))  # pyright: ignore
    assert small_picture(tmp_path / "none.png", None, 4) is None
