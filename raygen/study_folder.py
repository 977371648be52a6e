"""The study folder: the only code that knows its file names.

<study>/
journal.jsonl             append-only, one record a line: the truth
study.json                what was searched, how, where, and how it ended
space.yaml                the search space after all overrides
plugins/                  copies of the user's own code that it names
trials.csv history.csv rungs.csv; replicates.csv: the finalists with other seeds
optuna.log                the same study for optuna-dashboard (never read back)
artifacts/                its sample grids, for optuna-dashboard
tensorboard/0007/         a trial's curves for TensorBoard (never read back)
real.png                  64 real training images
trials/0007/              best.pt, last.pt, error.txt; samples-, interpolation-000012000.png and
                          reconstructions- of a VAE, from the same latents and images in all trials
evaluation.json           metrics by raygen evaluate (here, or in a trial's folder)
augment.json              what generated images do for a classifier (here, or in a trial's folder)
.origin                   only of a copy: the URI that it was fetched from
ablation.json ablation/    what raygen ablate measured, and its trainings
notes.jsonl               what people wrote of it by raygen note
audit.json audit.png      nearness of generated to training images; the nearest pairs
"""

from pathlib import Path
from typing import NamedTuple

from raygen.errors import InputError, did_you_mean


class StudyFolder(NamedTuple):
    """Every path inside one study's folder."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def study(self) -> Path:
        return self.root / "study.json"

    @property
    def space(self) -> Path:
        return self.root / "space.yaml"

    @property
    def plugins(self) -> Path:
        return self.root / "plugins"

    @property
    def origin(self) -> Path:
        return self.root / ".origin"

    @property
    def optuna(self) -> Path:
        return self.root / "optuna.log"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def curves(self) -> Path:
        return self.root / "tensorboard"

    @property
    def ablation(self) -> Path:
        return self.root / "ablation.json"

    @property
    def notes(self) -> Path:
        return self.root / "notes.jsonl"

    @property
    def real(self) -> Path:
        return self.root / "real.png"

    def table(self, name: str) -> Path:
        return self.root / f"{name}.csv"

    def trial(self, number: int) -> "TrialFolder":
        return TrialFolder(self.root / "trials" / f"{number:04d}")


class TrialFolder(NamedTuple):
    """Every path inside one trial's folder."""

    root: Path

    @property
    def best(self) -> Path:
        return self.root / "best.pt"

    @property
    def last(self) -> Path:
        return self.root / "last.pt"

    @property
    def error(self) -> Path:
        return self.root / "error.txt"

    def samples(self, kimg: float) -> Path:
        return self.picture("samples", kimg)

    def picture(self, name: str, kimg: float) -> Path:
        """samples, interpolation, or reconstructions (VAE): one of each per milestone."""
        return self.root / f"{name}-{round(kimg * 1000):09d}.png"

    def all_samples(self) -> dict[float, Path]:
        """Every sample grid by kimg, in order."""
        return self.all_pictures("samples")

    def all_pictures(self, name: str) -> dict[float, Path]:
        """Every picture of that name by kimg, in order."""
        paths = sorted(self.root.glob(f"{name}-*.png"))
        return {int(path.stem.removeprefix(f"{name}-")) / 1000: path for path in paths}


class UseFolder(NamedTuple):
    """What the commands that use a model leave in the folder of its study or trial."""

    root: Path

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation.json"

    @property
    def augment(self) -> Path:
        return self.root / "augment.json"

    @property
    def audit(self) -> Path:
        return self.root / "audit.json"

    @property
    def audit_pairs(self) -> Path:
        return self.root / "audit.png"


STUDIES = Path("runs")  # where they are kept, unless --storage says otherwise


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study."""
    return StudyFolder(folder).journal.is_file()


def holds_studies(folder: Path) -> bool:
    """Whether there are studies in a folder, which is none itself."""
    return not is_study(folder) and any(folder.glob(f"*/{StudyFolder(folder).journal.name}"))


def newest(folder: Path) -> Path | None:
    """Return the study in a folder whose journal was written last; None without one."""
    journals = list(folder.glob(f"*/{StudyFolder(folder).journal.name}"))
    return max(journals, key=lambda path: path.stat().st_mtime).parent if journals else None


def named_study(path: Path) -> Path:
    """Return the study of that name in runs/ unless the path itself is one; else the path.

    Raises:
        InputError: there is neither, but a study of a similar name.
    """
    if len(path.parts) != 1 or is_study(path):
        return path
    if is_study(STUDIES / path):
        return STUDIES / path
    if path.exists():
        return path
    names = [folder.name for folder in STUDIES.glob("*") if is_study(folder)]
    if hint := did_you_mean(path.name, names):
        raise InputError(f"{path}: no such study{hint}")
    return path
