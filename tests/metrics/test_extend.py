"""The metric of docs/extend.md, added as that page says."""

import importlib
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raygen import metrics
from raygen.data import ImageData, Split, fingerprint
from raygen.metrics import EVERY, METRICS, Metric, extractors, too_few
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.model import Generative
from raygen.metrics.statistic import (
    Examined,
    Measured,
    model_statistic,
    once_per_subject,
    sample_statistic,
)
from raygen.report.labels import metric_label, short_metric

CPU = torch.device("cpu")
PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
WIDTH = 5


class Grey:
    """A model all of whose images have one level of grey."""

    device, latent_dim, classes, parameters = CPU, 4, 1, 2_500_000

    def __init__(self, level: int) -> None:
        self.level = level

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.full((len(labels), 3, 32, 32), self.level, dtype=torch.uint8)


@pytest.fixture
def data() -> ImageData:
    split = Split(torch.full((120, 3, 32, 32), 10, dtype=torch.uint8), torch.zeros(120).long())
    return ImageData("grey", ("grey",), split, split, fingerprint(split))


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The file and the entry of the page; its extractor is a plain one, of brightness."""
    section = PAGE.read_text().split("\n## A metric\n")[1].split("\n## ")[0]
    file, entry = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "mean_gap.py").write_text(file)
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    for name, metric in eval(f"{{{entry}}}", {"Metric": Metric, "EVERY": EVERY}).items():
        monkeypatch.setitem(METRICS, name, metric)

    def features(images: Tensor) -> Tensor:
        return images.float().mean(dim=(1, 2, 3))[:, None].expand(-1, WIDTH)

    network = extractors.Network(features, WIDTH, "brightness", {"encoder": "brightness"})
    kind = extractors.Kind(WIDTH, lambda *_: {}, lambda *_: network)
    monkeypatch.setitem(extractors.EXTRACTORS, "inception", kind)
    yield "mean_gap"
    sys.modules.pop("raygen.metrics.mean_gap", None)
    vars(metrics).pop("mean_gap", None)


def test_the_metric_of_the_page_is_measured_with_its_protocol(added: str, data: ImageData) -> None:
    score = Evaluator((added, "million_parameters"), data, 110, CPU)(Grey(13))[added]

    assert score.value == pytest.approx(3 * math.sqrt(WIDTH))
    assert score.protocol["metric"] == added
    assert score.protocol["norm"] == "Euclidean"
    assert score.protocol["encoder"] == "brightness"
    assert score.protocol["reference"] == "train, 110 of 120 images"
    assert score.protocol["data_hash"] == data.fingerprint
    assert score.protocol["samples"] == 110


def test_the_metric_of_the_page_has_a_name_in_the_report(added: str) -> None:
    assert metric_label(added) == short_metric(added) == "mean gap"


def test_the_metric_of_the_page_is_refused_too_few_real_images(added: str) -> None:
    split = Split(torch.zeros(9, 3, 32, 32, dtype=torch.uint8), torch.zeros(9).long())
    few = ImageData("few", ("x",), split, split, "0" * 16)

    said = extractors.too_few_real(added, few)

    assert said is not None
    assert said.startswith("mean_gap needs 100 or more real images")


@pytest.mark.parametrize("name", METRICS)
def test_every_entry_names_what_computes_it_and_how_it_is_shown(name: str) -> None:
    metric = METRICS[name]

    statistic = model_statistic(name) if metric.features is None else sample_statistic(name)

    assert callable(statistic.compute)
    assert metric.label
    assert len(short_metric(name)) <= 24
    assert too_few(name, metric.least_samples) is None


def test_what_is_shared_is_computed_once_for_each_evaluation() -> None:
    calls: list[object] = []

    @once_per_subject
    def count(measured: Measured) -> int:
        calls.append(measured)
        return len(calls)

    first, second = (Measured(1, {}, None, None, None, 0, None) for _ in range(2))

    assert [count(first), count(first), count(second), count(first)] == [1, 1, 2, 1]


def test_parameters_need_no_images() -> None:
    model: Generative = Grey(0)
    examined = Examined(model, torch.zeros(0, 3, 32, 32, dtype=torch.uint8), 0)

    assert model_statistic("million_parameters").compute(examined) == 2.5
