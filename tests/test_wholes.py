"""What a user starts is followed to its end: each shipped space to its page, each command after it.

The unit tests of every part were green while every VAE search ended in a traceback.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from PIL import Image
from sklearn.datasets import load_digits

from raygen.cli import main
from raygen.data.shapes import draw_shapes
from raygen.project_folder import EXAMPLES
from raygen.results import best_model, failed, fresh, load_results
from raygen.results import full_measurements as measured
from raygen.results.changes import changes, read_ablation, start_to_best
from test_plugins import LAYERS, MODEL, SPACE, forget

FILES = sorted((Path(__file__).parents[1] / "search_spaces").glob("*.yaml"))
OWN = EXAMPLES / "own-trainer" / "own.yaml"
EVERY_COMMAND = ("gan.yaml", "vae.yaml", "own.yaml")  # one of each family meets every command
# Only the budget, the widths and the device are cut: every block of a file is kept.
CUT = (
    "data={source: shapes, limit: 512}", "resources={cpus: 1, gpus: 0}", "budget.trials=3",
    "budget.kimg=0.048", "scheduler.grace_kimg=0.016", "space.batch_size=16",
    "space.model.width=16", "finalists.count=2", "finalists.seeds=1", "finalists.sample_seeds=2",
    "space.ema.half_life_kimg=0.05",
)  # fmt: skip
BY_FAMILY = {
    "gan": ("objective=fd_classifier", "evaluation={samples: 400, first_samples: 360}",
            "finalists.samples=400"),
    "vae": ("evaluation.samples=64", "evaluation.first_samples=32", "finalists.samples=64"),
}  # fmt: skip
MORE = {
    "sngan.yaml": ("space.model.discriminator_width=16", "evaluation.precision=tf32"),
    "biggan.yaml": ("space.model.discriminator_width=16",),
    "style_gan.yaml": ("space.model.latent_dim=16", "space.model.minibatch_std=4"),
    "speedrun_gan.yaml": ("space.model.latent_dim=16",),
    "speedrun_vae.yaml": ("space.model.layers=2", "space.model.finest=16"),
    # The gradient of a penalty through grouped convolutions takes seconds an image on a CPU.
    "r3gan.yaml": ("space.model.growth=1", "space.model.expansion=1", "space.model.blocks=1",
                   "space.batch_size=4", "budget.kimg=0.024", "scheduler.grace_kimg=0.008"),
}  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("cluster")]


class Project:
    """A user's folder: commands run in it, and must not print a traceback."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        patch.chdir(folder)

    def run(self, *words: object, codes: tuple[int, ...] = (0,)) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        transcript = f"raygen {shlex.join(map(str, words))}: {result.exit_code}\n{result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit), transcript
        assert "Traceback" not in result.output, transcript
        assert result.exit_code in codes, transcript
        return result

    def search(self, space: Path, *settings: str) -> Path:
        """Run a search to its end; return the folder of its study."""
        words = [word for each in settings for word in ("--set", each)]
        # 3: some trials failed; their reasons are in the page.
        result = self.run("tune", "--space", space, *words, codes=(0,))
        page = self.folder / result.stdout.strip().splitlines()[-1]
        check_page(page.read_text(encoding="utf-8"))
        return self.folder / "runs" / space.stem


def check_page(html: str) -> None:
    assert html.rstrip().endswith("</html>")
    assert "could not be drawn" not in html
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert data is not None
    json.loads(data[1])


# Where not every command meets its study.
FEW = ("budget.trials=2", "finalists.count=1")


def cuts_of(file: Path) -> list[str]:
    few = () if file.name in EVERY_COMMAND else FEW
    text = file.read_text(encoding="utf-8")
    family = "vae" if "family: vae" in text else "gan"  # of one's own as of GANs
    return [*CUT, *BY_FAMILY[family], *MORE.get(file.name, ()), *few]


def save_shapes(file: Path) -> Path:
    """Few held-out images: each milestone of a VAE passes all of them."""
    train, test = (draw_shapes(count, seed) for count, seed in ((512, 0), (128, 1)))
    np.savez(file, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    return file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


@pytest.mark.parametrize("file", [*FILES, OWN], ids=lambda file: file.name)
def test_a_shipped_space_ends_in_its_page_and_every_command_takes_its_study(
    project: Project, file: Path
) -> None:
    cuts = cuts_of(file)
    if "evaluation.samples=64" in cuts:
        cuts.append(f"data={{path: {save_shapes(project.folder / 'shapes.npz')}}}")
    study = project.search(file, *cuts)
    results = load_results(study)
    model = best_model(results)
    assert model is not None
    assert results.info["state"] == "finished"

    # The number of the headline is that of the file that every command means.
    afresh = fresh(results, model)
    assert afresh is not None
    headline = afresh[results.metric]["value"]
    evaluation = json.loads(project.run("evaluate", study, "--json").stdout)["evaluations"][0]
    assert evaluation["metrics"][results.metric]["value"] == pytest.approx(headline, rel=1e-6)
    assert evaluation["trial"] == model.run
    page = project.run("report", study).stdout.strip()
    html = (project.folder / page).read_text(encoding="utf-8")
    check_page(html)
    useless = model.trial in failed(results)  # after 48 images a GAN may draw one picture
    assert ("Do not use the best trial" if useless else f"trials/{model.run:04d}/best.pt") in html

    said = project.run("generate", study, "--count", 4, "--out", "few.png").stderr
    assert f"using trials/{model.run:04d}/best.pt" in said
    assert (project.folder / "few.png").is_file()
    checked = project.run("status", study, "--check").stdout
    assert "are reproduced exactly" in checked
    if file.name in EVERY_COMMAND:
        use(project, study)


POPULATION = """
family: gan
data: {source: shapes, limit: 512}
objective: fd_classifier
evaluation: {samples: 360}
budget: {trials: 4, kimg: 0.192}
scheduler: {name: pbt, interval_kimg: 0.064}
sampler: {name: quasi_random}
finalists: {count: 1, seeds: 1}
compute: {compile: false}
space:
  model: {name: dcgan, width: 16, latent_dim: 16}
  optimizer: {generator_lr: {float: [1e-4, 1e-2], log: true}, beta1: {float: [0.0, 0.9]}}
  ema: {half_life_kimg: {float: [0.01, 0.1], log: true}}
  augment: "translation,cutout"
  augment_p: {float: [0.1, 1.0]}
  batch_size: 16
"""


def test_one_of_a_population_trained_alone_repeats_what_its_ancestors_were(
    project: Project,
) -> None:
    space = project.folder / "population.yaml"
    space.write_text(POPULATION)
    study = project.search(space)
    trials = load_results(study).trials.set_index("trial")
    history = load_results(study).history.set_index(["trial", "kimg"])["fd_classifier"]
    copies = trials[(trials["from_kimg"] > 0) & (trials["state"] == "completed")]
    records = [json.loads(line) for line in (study / "journal.jsonl").read_text().splitlines()]
    parents = {r["trial"]: r.get("parent") for r in records if r["kind"] == "suggest"}

    assert (trials["state"] == "completed").sum() == 4
    assert len(trials) == 6  # a quarter of four was replaced at each of two intervals
    assert "reproduced exactly" in project.run("status", study, "--check").stdout
    number = int(copies.index[-1])
    config = project.run("best", study, "--trial", number).stdout
    (project.folder / "copy.yaml").write_text(config)
    said = project.run("train", "copy.yaml", "--out", "alone").stderr
    lineage = number
    for kimg in (0.192, 0.128, 0.064):
        while kimg <= trials.loc[lineage, "from_kimg"]:
            lineage = parents[lineage]
        assert f"fd_classifier {history[lineage, kimg]:.5g}" in said


CALLBACKS = """
callbacks: [{wandb: {mode: offline}}, {mlflow: {tracking_uri: $TRACKING}},
            {webhook: "http://127.0.0.1:9/"}]
"""


def test_a_search_over_code_of_ones_own_ends_in_its_page_and_refuses_other_code(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget()
    monkeypatch.setenv("TRACKING", f"sqlite:///{project.folder}/mlflow.db")
    space = SPACE + CALLBACKS
    for name, text in {"mine.py": MODEL, "mylayers.py": LAYERS, "own.yaml": space}.items():
        (project.folder / name).write_text(text, encoding="utf-8")

    study = project.search(Path("own.yaml"))

    results = load_results(study)
    assert results.info["state"] == "finished"
    assert {c["model"]["name"] for c in results.configs.values()} == {"mine.py:Mine"}
    assert (study / "plugins" / "mylayers.py").read_text(encoding="utf-8") == LAYERS
    # Two loggers, and a webhook that nobody answers, which costs the search nothing.
    runs = len(results.trials) + len(results.replicates)
    assert len(list(study.glob("wandb/offline-run-*/*.wandb"))) == runs
    logged = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = logged.get_experiment_by_name(study.name)
    assert experiment is not None
    assert len(logged.search_runs([experiment.experiment_id])) == 1 + runs
    project.run("generate", study, "--count", 4, "--out", "few.png")
    project.run("report", study)
    assert "are reproduced exactly" in project.run("status", study, "--check").stdout
    (project.folder / "mylayers.py").write_text(LAYERS + "# changed\n", encoding="utf-8")
    forget()
    refused = project.run("tune", "--space", "own.yaml", "--trials", 3, codes=(2,)).stderr
    assert "plugins.mylayers.py: was" in refused


def save_faces(folder: Path) -> Path:
    """600 pictures of 64x64 without classes, as FFHQ and CelebA come: one flat folder."""
    images, _ = draw_shapes(600, seed=3, size=64)
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:05d}.png")
    return folder


def save_digits(file: Path) -> Path:
    """The 8x8 digits of scikit-learn at 28x28 and in grey, as MNIST comes."""
    digits = load_digits()
    pixels = (digits.images * 255 / 16).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((28, 28))) for image in pixels]
    np.savez(file, images=np.stack(large), labels=digits.target)
    return file


@pytest.mark.parametrize("kind", ["faces", "digits"])
def test_a_search_over_other_images_ends_in_its_page_and_every_command_takes_its_study(
    project: Project, kind: str
) -> None:
    spaces = FILES[0].parent
    if kind == "faces":
        data = {"path": str(save_faces(project.folder / "faces")), "limit": 512}
        file, shape = spaces / "quickstart.yaml", [3, 64, 64]
    else:
        data = {"path": str(save_digits(project.folder / "digits.npz")), "size": 32, "fit": "pad"}
        file, shape = spaces / "vae.yaml", [1, 32, 32]

    images = f"data={json.dumps({**data, 'source': 'shapes'})}"
    study = project.search(file, *cuts_of(file), *FEW, images)

    results = load_results(study)
    assert results.info["data"]["image"] == shape
    assert results.info["data"]["classes"] == (["all"] if kind == "faces" else [*"0123456789"])
    model = best_model(results)
    assert model is not None
    grid = Image.open(study / "real.png")
    assert (grid.mode, grid.width) == ("RGB" if kind == "faces" else "L", 8 * shape[1])
    project.run("generate", study, "--count", 9, "--out", "few.npz")
    assert np.load("few.npz")["images"].shape == (9, shape[1], shape[2], shape[0])
    project.run("generate", study, "--count", 4, "--out", "few")
    assert Image.open("few/0.png").size == (shape[1], shape[2])
    project.run("generate", study, "--count", 2, "--like", "few/0.png", "--out", "like.gif")
    project.run("audit", study, "--samples", 100)
    project.run("export", study, "--out", "model.pt2")
    assert f"(n, {shape[0]}, {shape[1]}, {shape[2]})" in Path("model.md").read_text("utf-8")
    project.run("evaluate", study, "--samples", 400)
    codes = (2,) if kind == "faces" else (0,)
    project.run("augment", study, "--samples", 64, "--steps", 4, "--seeds", 1, codes=codes)
    project.run("evaluate", "few", "--data", data["path"], "--metrics", "kd_classifier",
                codes=(2,))  # fmt: skip
    assert "are reproduced exactly" in project.run("status", study, "--check").stdout


def use(project: Project, study: Path) -> None:
    """Every other command of the README, on a study that has ended."""
    results = load_results(study)
    model = best_model(results)
    assert model is not None
    project.run("generate", study, "--trial", 0, "--count", 4, "--out", "of_0.npz")
    project.run("audit", study, "--samples", 100)
    audit = json.loads((study / "audit.json").read_text(encoding="utf-8"))
    assert audit["model"]["trial"] == model.run
    project.run("augment", study, "--samples", 64, "--steps", 4, "--seeds", 1)
    project.run("export", study, "--out", "model.pt2")
    for table in ("trials", "history", "rungs", "replicates", "finalists", "full"):
        project.run("export", study, "-f", "json", "--table", table)
    assert set(measured(results)["metric"]) >= {results.metric}

    project.run("status", study)
    for trial in results.trials["trial"]:
        project.run("status", study, "--why", trial)
    project.run("status", study, "--at", "#5")
    project.run("ls", study.parent)
    said = project.run("replay", study, "--repeats", 2, codes=(2,)).stderr
    assert "a replay needs 10" in said  # of too few curves; tests/replay/test_replay.py has enough
    best = project.run("best", study).stdout
    Path("best.yaml").write_text(best, encoding="utf-8")
    project.run("train", "--config", "best.yaml", "--set", "kimg=0.032", "--set", "milestones=[]")
    way = start_to_best(results)
    project.run("ablate", study, codes=(0,) if way else (2,))
    if way:
        ablation = read_ablation(results)
        assert ablation is not None
        assert len(ablation.steps) == len(changes(results, *way)) + 1
    project.run("note", study, "as good as it looks")
    index = project.run("report", "--index", study.parent).stdout.strip()
    assert study.name in (project.folder / index).read_text(encoding="utf-8")
    # The page after everything that was measured of it, and against a copy of itself.
    check_page((project.folder / project.run("report", study).stdout.strip()).read_text())
    other = Path(shutil.copytree(study, "the_same_again"))
    project.run("report", study, other, "-o", "versus.html")
    # What raygen writes, raygen reads: the printed command goes on with the study.
    again = shlex.split(results.info["resume_command"])[1:]
    project.run(*again)
    project.run(*again, "--trials", 4)
    assert len(load_results(study).trials) == 4


def test_a_study_with_a_trade_off_ends_in_its_page(project: Project) -> None:
    file = next(file for file in FILES if file.name == "quickstart.yaml")
    settings = [
        *cuts_of(file),
        "trade_off=[million_parameters]",
        "space.model.width={int: [8, 16]}",
    ]
    study = project.search(file, *settings)
    model = best_model(load_results(study))

    assert model is not None
    said = project.run("generate", study, "--count", 4, "--out", "few.png").stderr
    assert f"using trials/{model.run:04d}/best.pt" in said
    project.run("evaluate", study)
    project.run("report", study)
