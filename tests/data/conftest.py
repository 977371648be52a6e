"""Every test of a reader has a cache of its own: decoded pixels are kept there."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))
