"""What every runner writes of a milestone: pictures, best and last checkpoint."""

from typing import Any

from raygen.data.pictures import save_grid
from raygen.study_folder import TrialFolder
from raygen.training.checkpoint import checkpoint, save
from raygen.training.loop import Progress
from raygen.trial import Trial


def record(
    folder: TrialFolder, trial: Trial, seed: int, data: dict[str, Any], progress: Progress
) -> None:
    """Write one milestone into the folder of a trial; only the first rank of a group calls it.

    A diverged state is not kept: what is on disk stays the last healthy one.

    Raises:
        StorageError: the disk is full; what was there before is intact.
    """
    save_grid(progress.samples, folder.samples(progress.kimg))
    for name, images in progress.views.items():
        save_grid(images, folder.picture(name, progress.kimg))
    if progress.diverged is not None:
        return
    # The best first: training goes on from the last one, so nothing before it may be missing.
    if progress.best:
        save(folder.best, checkpoint(trial, seed, data, progress, full=False))
    save(folder.last, checkpoint(trial, seed, data, progress, full=True))
