"""Learning curves for TensorBoard, written as trials report; never read back."""

from pathlib import Path
from typing import Any

from raygen.callbacks import Callback, Event


class Tensorboard(Callback):
    """One run per trial below a folder: its metrics, losses and speed over the images seen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.writers = folder, dict[int, Any]()

    def on_report(self, event: Event) -> None:
        from tensorboardX import SummaryWriter

        assert event.trial is not None
        assert event.kimg is not None
        if event.trial not in self.writers:
            self.writers[event.trial] = SummaryWriter(str(self.folder / f"{event.trial:04d}"))
        writer, images = self.writers[event.trial], round(event.kimg * 1000)
        speed = {"images_per_second": event.images_per_second}
        for group in (event.metrics, event.losses, speed):
            for name, value in group.items():
                if value is not None:  # not finite: the trial's reason tells of it
                    writer.add_scalar(name, value, images, walltime=event.time)
        writer.flush()

    def on_trial_end(self, event: Event) -> None:
        assert event.trial is not None
        if event.trial in self.writers:
            self.writers.pop(event.trial).close()

    def on_study_end(self, event: Event) -> None:
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()
