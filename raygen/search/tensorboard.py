"""Learning curves for TensorBoard, written as trials report; never read back."""

from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from raygen.journal.records import End, Record, Report
from raygen.notices import Notice


class Curves:
    """One run per trial below a folder: its metrics, losses and speed over the images seen.

    In a thread of its own: the loop that handles trials must not wait for an import or a disk. On
    a full disk it gives up, and the search continues.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = lambda text: None) -> None:
        self.folder, self.tell = folder, tell
        self.records: SimpleQueue[Report | End | None] = SimpleQueue()
        self.thread = Thread(target=self._write, daemon=True)
        self.thread.start()

    def __call__(self, record: Record | Notice) -> None:
        """Take in a record of the journal."""
        if isinstance(record, Report | End):
            self.records.put(record)

    def close(self) -> None:
        """Write what is left."""
        self.records.put(None)
        self.thread.join()

    def _write(self) -> None:
        try:
            self._follow()
        except Exception as error:  # of tensorboardX, of a full disk, of a folder that is gone
            self.tell(f"{self.folder}: no longer written, the search continues: {error}")
            while self.records.get() is not None:
                pass

    def _follow(self) -> None:
        writers: dict[int, Any] = {}
        while (record := self.records.get()) is not None:
            trial = record.trial
            if isinstance(record, End):
                if trial in writers:
                    writers.pop(trial).close()
                continue
            if trial not in writers:
                from tensorboardX import SummaryWriter

                writers[trial] = SummaryWriter(str(self.folder / f"{trial:04d}"))
            speed = {"images_per_second": record.images_per_second}
            images = round(record.kimg * 1000)
            for group in (record.metrics, record.losses, speed):
                for name, value in group.items():
                    if value is not None:  # not finite: the trial's reason tells of it
                        writers[trial].add_scalar(name, value, images, walltime=record.time)
            writers[trial].flush()
        for writer in writers.values():
            writer.close()
