"""Images of a function of one's own, and of the Hugging Face hub."""

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raygen import plugins
from raygen.data import DataSpec, load_data
from raygen.data.shapes import draw_shapes
from raygen.errors import InputError

MINE = """
import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4

class Pictures:
    classes = ["a", "b", "c", "d"]

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, row):
        return Image.fromarray(PIXELS[row]), LABELS[row]

class Bare(Pictures):
    def __getitem__(self, row):
        return PIXELS[row]

class Half(Pictures):
    def __getitem__(self, row):
        return [PIXELS[row], LABELS[row] if row else None]

class Floats(Pictures):
    def __getitem__(self, row):
        return PIXELS[row] / 255, 0

def dataset(): return Pictures()
def pair(): return Pictures(), Pictures()
def unlabelled(): return Bare()
def arrays(): return {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS, "y_test": LABELS}
def floats(): return Floats()
def nothing(): return None
def fails(): return {}["odd"]
def listed(): return [Pictures(), Pictures()]
def ragged(): return {"images": [PIXELS[0], PIXELS[1, :3]]}
def half(): return Half()
def three(): return 1, 2, 3
number = 3
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path) -> types.ModuleType:
    (tmp_path / "pictures.py").write_text(MINE)
    plugins._plugins.pop("pictures.py", None)  # that of another test
    plugins.look_in(tmp_path)
    return sys.modules[plugins.resolve("pictures.py:dataset").__module__]


def test_a_dataset_is_read_as_pictures_with_their_classes(mine: types.ModuleType) -> None:
    data = load_data(DataSpec(source="pictures.py:pair"))

    assert data.name == "pair"
    assert data.classes == ("a", "b", "c", "d")
    assert torch.equal(data.train.images, torch.from_numpy(mine.PIXELS).permute(0, 3, 1, 2))
    assert data.test.labels.tolist() == mine.LABELS.tolist()
    assert load_data(DataSpec(source="pictures.py:arrays")).fingerprint == data.fingerprint
    # Without a split for testing one image in ten is held out, as of any data.
    assert [len(s.labels) for s in load_data(DataSpec(source="pictures.py:dataset"))[2:4]] == [
        36,
        4,
    ]


def test_settings_of_the_data_hold_for_it_too(mine: types.ModuleType) -> None:
    bare = load_data(DataSpec(source="pictures.py:unlabelled", size=32, channels=1))

    assert bare.classes == ("all",)
    assert bare.image.chw == (1, 32, 32)
    assert load_data(DataSpec(source="pictures.py:pair", labels="none")).classes == ("all",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("floats", "data.source: pictures.py:floats: train[0]: float64 (16, 16, 3), but pictures"),
        ("nothing", "train: a NoneType without items or without a length"),
        ("fails", "pictures.py:36: KeyError: 'odd'"),
        ("listed", "train[0]: a Pictures that is no array"),
        ("ragged", "pictures.py:ragged: images: a list that is no array"),
        ("half", "train[1]: some have a label and some have none; set data.labels=none"),
        ("three", "returns 3 things; one dataset is needed, or a pair"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_data(DataSpec(source=f"pictures.py:{name}"))

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_source_must_be_a_function() -> None:
    with pytest.raises(ValueError, match="must be a function that returns images"):
        DataSpec(source="pictures.py:number")
    with pytest.raises(ValueError, match="did you mean 'pair'"):
        DataSpec(source="pictures.py:pare")


def test_a_set_of_the_hub_is_read_as_the_folder_that_it_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is not reached by tests: its downloader is replaced."""
    folder, asked = tmp_path / "snapshot", []
    images, labels = draw_shapes(20, 0)
    for number, image in enumerate(images):
        place = folder / "train" / str(labels[number])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(
            place / f"{number}.png"
        )

    def snapshot_download(repo: str, **more: object) -> str:
        asked.append((repo, more))
        if repo == "no/thing":
            raise OSError("404 Client Error\nmore")
        return str(folder)

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setattr("raygen.data.hub.find_spec", lambda name: hub)

    data = load_data(DataSpec(path="hf://user/shapes@v2"))

    assert asked == [("user/shapes", {"repo_type": "dataset", "revision": "v2"})]
    assert data.name == "shapes"
    assert data.fingerprint == load_data(DataSpec(path=str(folder))).fingerprint
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"data\.path: hf://no/thing: OSError: 404 Client Error$"):
        load_data(DataSpec(path="hf://no/thing"))
    with pytest.raises(InputError, match="must be hf://USER/NAME"):
        load_data(DataSpec(path="hf://a/b/c"))
    monkeypatch.setattr("raygen.data.hub.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs huggingface_hub"):
        load_data(DataSpec(path="hf://user/shapes"))
