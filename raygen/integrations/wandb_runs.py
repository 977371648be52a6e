"""Weights & Biases: a run for each trial, in one group."""

from typing import Any

from raygen.callbacks import Callback, Event, WandbSpec
from raygen.integrations.environment import need


class WandbRuns(Callback):
    """Logs metrics, losses and sample grids over the images seen, and how each trial ended."""

    def __init__(self, spec: WandbSpec) -> None:
        need("wandb")
        self.spec, self.runs = spec, dict[int, Any]()

    def on_report(self, event: Event) -> None:
        assert event.kimg is not None
        content: dict[str, Any] = {**event.curves}
        if event.picture is not None:
            import wandb

            content["samples"] = wandb.Image(str(event.picture))
        self._run(event).log(content, step=round(event.kimg * 1000))

    def on_trial_end(self, event: Event) -> None:
        assert event.trial is not None
        run = self._run(event)
        run.summary.update({"state": event.state, "reason": event.reason, "best": event.value})
        del self.runs[event.trial]
        run.finish(exit_code=0 if event.state in ("completed", "stopped") else 1)

    def on_study_end(self, event: Event) -> None:
        for run in self.runs.values():
            run.finish()
        self.runs.clear()

    def _run(self, event: Event) -> Any:
        """The run of a trial; one of an earlier session goes on."""
        assert event.trial is not None
        if event.trial not in self.runs:
            import wandb

            event.folder.mkdir(parents=True, exist_ok=True)
            self.runs[event.trial] = wandb.init(
                project=self.spec.project,
                entity=self.spec.entity,
                mode=self.spec.mode,
                dir=str(event.folder),
                id=f"{event.study_id}-{event.trial:04d}",
                name=f"{event.study} {event.trial}",
                group=f"{event.study} {event.study_id}",
                job_type="trial" if event.of is None else "replicate",
                config=dict(event.config),
                resume="allow",
                reinit="create_new",  # trials run side by side
                settings=wandb.Settings(console="off", silent=True, init_timeout=30),
            )
        return self.runs[event.trial]
