"""Studies to report on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raygen.results import Results, load_results
from report.journals import Record, make_info, write_demo, write_study


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Results]:
    """Write records under tmp_path/<folder> and read them back."""

    def make(records: list[Record], folder: str = "study", **changes: Any) -> Results:
        return load_results(write_study(tmp_path / folder, make_info(**changes), records))

    return make


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a realistic study of 30 trials with pictures."""
    return write_demo(tmp_path_factory.mktemp("demo") / "shapes-gan")
