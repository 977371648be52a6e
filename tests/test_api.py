"""raygen in Python: the example of the docs runs as it is written, and imports nothing early."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import raygen
from raygen.errors import InputError
from raygen.results import best_trial, load_results


def test_importing_raygen_loads_nothing_that_is_slow() -> None:
    heavy = "torch", "ray", "optuna", "pandas", "plotly", "numpy", "pydantic"
    code = f"import raygen, sys; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_everything_public_is_there_and_nothing_else_is_made_up() -> None:
    assert all(callable(getattr(raygen, name)) for name in raygen.__all__)
    with pytest.raises(AttributeError, match="no attribute 'tuna'"):
        _ = raygen.tuna  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("before", "mode"), [("", "token"), ("import ray", None)])
def test_a_token_is_used_unless_ray_was_imported_without_it(
    tmp_path: Path, before: str, mode: str | None
) -> None:
    """Ray reads this as it is imported; a server that it starts later reads it, too, and would
    refuse a process that did not."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    code = f"""{before}
import os, raygen
try:
    raygen.tune({{"family": "gan"}})
except raygen.errors.InputError:
    print(os.environ.get("RAY_AUTH_MODE"))
"""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{mode}\n"


def test_a_space_without_a_name_is_refused() -> None:
    with pytest.raises(InputError, match="needs a name"):
        raygen.tune({"family": "gan"})


def test_a_training_yields_its_milestones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {
        "family": "gan", "data": {"source": "shapes", "limit": 400}, "objective": "fd_classifier",
        "evaluation": {"samples": 400}, "kimg": 0.064, "milestones": [0.032],
        "trial": {"model": {"width": 4}, "batch_size": 16},
    }  # fmt: skip

    milestones = list(raygen.train(config, out="out", set={"seed": 3}))

    assert [m.kimg for m in milestones] == [0.032, 0.064]
    value = milestones[-1].scores["fd_classifier"].value
    assert value > 0
    generator = raygen.Generator("out", device="cpu")
    one = generator(4, seed=2)
    assert one.shape == (4, 3, 32, 32)
    assert torch.equal(one, generator(4, seed=2))
    assert not torch.equal(one, generator(4, seed=3))
    assert generator(torch.zeros(2, generator.latent_dim)).shape == (2, 3, 32, 32)
    assert generator(3, label="star").shape == (3, 3, 32, 32)
    with pytest.raises(InputError, match="label 'moon': the model has circle"):
        generator(3, label="moon")


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_the_example_of_the_docs_runs_as_it_is_written(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (repository / "docs" / "python.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.S)
    assert example is not None
    names: dict = {}

    exec(example[1], names)

    study = names["study"]
    results = load_results(tmp_path / "runs" / "from_python")
    assert study.best == best_trial(results)
    assert study.config == results.configs[study.best]
    assert names["images"].shape == (16, 3, 32, 32)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert len(study.figures) > 5
    assert len(study.finalists) == 1
    assert "<table" in study._repr_html_()
    assert repr(study) == "LoadedStudy('runs/from_python': finished, 3 trials)"
    once = raygen.train(study.training, set={"threads": 1, "seed": 5}, out=tmp_path / "once")
    assert [round(progress.kimg, 3) for progress in once][-1] == 0.064
    measured = raygen.evaluate(study.folder, "fd_classifier", samples=400)
    assert list(measured) == ["fd_classifier"]
    heard: list[raygen.Event] = []
    listener = raygen.Callback()
    listener.on_trial_end = heard.append
    again = raygen.tune(
        tmp_path / "runs" / "from_python" / "space.yaml", name="from_python",
        set={"budget.trials": 4}, callbacks=[listener], quiet=True,
    )  # fmt: skip
    assert len(again.trials) == 4
    assert [(event.trial, event.state) for event in heard if event.of is None] == [
        (4, again.trials["state"].iloc[3])  # 3 is a replicate
    ]
