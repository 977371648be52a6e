"""MLflow: a run for the study, and one below it for each trial."""

import os
from typing import Any

from raygen.callbacks import Callback, Event, MlflowSpec
from raygen.document import flatten
from raygen.integrations.environment import expanded, need

# Of MLflow's own: by default a request to a dead server is tried for minutes.
HASTY = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
STATUS = {"completed": "FINISHED", "stopped": "KILLED", "interrupted": "KILLED"}
LONGEST = 500  # characters of a parameter


class MlflowRuns(Callback):
    """Logs metrics and losses over the images seen, and the sample grids as artifacts.

    What it logged before is found again by its tags when a study goes on.
    """

    def __init__(self, spec: MlflowSpec) -> None:
        need("mlflow")
        for name, value in HASTY.items():
            os.environ.setdefault(name, value)
        self.uri = expanded(spec.tracking_uri) if spec.tracking_uri else None
        self.experiment, self.client, self.runs = spec.experiment, None, dict[int | None, str]()
        self.experiment_id = ""

    def on_study_start(self, event: Event) -> None:
        self._run(event)

    def on_report(self, event: Event) -> None:
        from mlflow.entities import Metric

        assert event.kimg is not None
        run, when, step = self._run(event), round(event.time * 1000), round(event.kimg * 1000)
        metrics = [Metric(name, value, when, step) for name, value in event.curves.items()]
        self._client().log_batch(run, metrics=metrics)
        if event.picture is not None:
            self._client().log_artifact(run, str(event.picture))

    def on_trial_end(self, event: Event) -> None:
        self._end(event, STATUS.get(event.state, "FAILED"))

    def on_study_end(self, event: Event) -> None:
        self._end(event, "FINISHED" if event.state == "finished" else "FAILED")

    def _end(self, event: Event, status: str) -> None:
        run, client = self._run(event), self._client()
        client.set_tag(run, "raygen.state", f"{event.state} {event.reason}".strip())
        if event.value is not None:
            client.log_metric(run, f"best_{event.objective}", event.value)
        client.set_terminated(run, status)

    def _client(self) -> Any:
        if self.client is None:
            from mlflow import MlflowClient

            self.client = MlflowClient(self.uri)
        return self.client

    def _run(self, event: Event) -> str:
        """The run of a trial, or of the study: an earlier session's, or a new one."""
        if event.trial in self.runs:
            return self.runs[event.trial]
        client = self._client()
        if not self.experiment_id:
            name = self.experiment or event.study
            earlier = client.get_experiment_by_name(name)
            self.experiment_id = (
                earlier.experiment_id if earlier else client.create_experiment(name)
            )
        trial = "study" if event.trial is None else str(event.trial)
        tags = {"raygen.study": event.study_id, "raygen.trial": trial}
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = client.search_runs([self.experiment_id], wanted, max_results=1)
        if runs:
            run = runs[0].info.run_id
            client.update_run(run, status="RUNNING")
        else:
            run = self._new_run(event, tags)
        self.runs[event.trial] = run
        return run

    def _new_run(self, event: Event, tags: dict[str, str]) -> str:
        from mlflow.entities import Param

        if event.trial is not None:
            study = self._run(Event("study_start", event.study, event.folder, event.time,
                                    event.objective, event.study_id))  # fmt: skip
            tags = {**tags, "mlflow.parentRunId": study}
        name = event.study if event.trial is None else f"{event.study} {event.trial}"
        client = self._client()
        run = client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id
        params = [Param(key, str(v)[:LONGEST]) for key, v in flatten(event.config).items()]
        client.log_batch(run, params=params)
        return run
