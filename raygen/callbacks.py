"""Callbacks: who hears of a search while it runs, and what they hear.

A callback of one's own is a class derived from `Callback`, named in `callbacks:` as
`file.py:Class`. It runs in the process of `raygen tune`, in a thread of its own, so that it can
neither slow nor end the search.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from raygen.errors import did_you_mean
from raygen.plugins import argument_problem, is_reference
from raygen.spec import Spec, imported
from raygen.study_folder import StudyFolder

Hook = Literal["study_start", "report", "new_best", "trial_end", "failure", "study_end"]
VARIABLE = re.compile(r"\$(?P<name>[A-Za-z_]\w*)")
# A part of a path that is as long as this, with digits or without, is taken for a token.
TOKEN = re.compile(r"(?=[^/]*[0-9]).{16,}|.{32,}")


@dataclass(frozen=True)
class Event:
    """Something that happened in a search.

    `value` is the objective: of the milestone (report), the best of the trial (trial_end,
    new_best, failure) or the best of the study (study_end); None if there is none.
    """

    hook: Hook
    study: str  # its name
    folder: Path
    time: float  # seconds since 1970
    objective: str
    study_id: str = ""  # of this study only, also when it goes on
    trial: int | None = None
    of: int | None = None  # the finalist that this trial repeats with another seed
    kimg: float | None = None
    value: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    losses: Mapping[str, float | None] = field(default_factory=dict)
    images_per_second: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)  # searched settings, by dotted name
    config: Mapping[str, Any] = field(default_factory=dict)  # all settings of the trial, nested
    state: str = ""  # of a trial that ended, or of the study
    reason: str = ""

    @property
    def curves(self) -> dict[str, float]:
        """What a milestone brought, as loggers name it; without what is not finite."""
        losses = {f"losses/{name}": value for name, value in self.losses.items()}
        rows = {**self.metrics, **losses, "images_per_second": self.images_per_second}
        return {name: value for name, value in rows.items() if value is not None}

    @property
    def picture(self) -> Path | None:
        """The sample grid of a milestone, where it is kept on this machine."""
        if self.trial is None or self.kimg is None:
            return None
        path = StudyFolder(self.folder).trial(self.trial).samples(self.kimg)
        return path if path.is_file() else None

    def as_json(self) -> dict[str, Any]:
        """Return what is set, as an object of JSON."""
        content = {**vars(self), "folder": str(self.folder)}
        return {name: value for name, value in content.items() if value not in (None, "", {})}

    def __str__(self) -> str:
        """Say what happened, in a line."""
        value = "" if self.value is None else f"{self.objective} {self.value:.4g}"
        match self.hook:
            case "study_start":
                text = "the search begins"
            case "report":
                text = f"trial {self.trial} at {self.kimg:g} kimg: {value or 'no value'}"
            case "new_best":
                text = f"new best: trial {self.trial}, {value}"
            case "trial_end" | "failure" if self.trial is not None:
                text = f"trial {self.trial} {self.state}{f', {value}' if value else ''}"
            case _:
                text = f"the search {self.state}{f', best {value}' if value else ''}"
        return f"{self.study}: {text}{f' ({self.reason})' if self.reason else ''}"


class Callback:
    """Base of all callbacks: override the hooks that matter.

    Hooks of one callback are called in order, from one thread, and may take their time; what they
    raise is shown, and after several errors in a row the callback is left out.
    """

    def on_study_start(self, event: Event) -> None:
        """A search begins, or goes on."""

    def on_report(self, event: Event) -> None:
        """A trial reached a milestone."""

    def on_new_best(self, event: Event) -> None:
        """A trial has a better objective than all before it, measured with as many samples."""

    def on_trial_end(self, event: Event) -> None:
        """A trial ended, however it did."""

    def on_failure(self, event: Event) -> None:
        """A trial failed, was lost or ran out of memory, or the search failed."""

    def on_study_end(self, event: Event) -> None:
        """The search ended; nothing follows."""


def _no_secret(address: str) -> str:
    """Refuse an address that is a secret: it would be kept with the study."""
    if VARIABLE.fullmatch(address):
        return address
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http(s) address, or a variable of the environment: $NAME")
    if (
        parts.username
        or parts.query
        or parts.fragment
        or any(map(TOKEN.fullmatch, parts.path.split("/")))
    ):
        raise ValueError(
            "holds what may be a secret, and settings are kept with the study; put it in a "
            "variable of the environment, and name that: $NAME"
        )
    return address


def _if_text(name: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {name: value} if isinstance(value, str) else value)


NOTABLE: tuple[Hook, ...] = ("new_best", "failure", "study_end")


class WandbSpec(Spec):
    """A run of Weights & Biases for each trial, in one group; the key is $WANDB_API_KEY."""

    project: str = "raygen"
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None  # None: $WANDB_MODE, or online


class MlflowSpec(Spec):
    """A run of MLflow for the study, and one below it for each trial.

    Without a URI that of $MLFLOW_TRACKING_URI; without an experiment one of the study's name.
    """

    tracking_uri: Annotated[str, AfterValidator(_no_secret)] | None = None
    experiment: str | None = None


class WebhookSpec(Spec):
    """An event as JSON, by POST; its line is in `text`, as chats show it."""

    url: Annotated[str, AfterValidator(_no_secret)]
    on: tuple[Hook, ...] = NOTABLE


class CommandSpec(Spec):
    """A shell command, with the event as JSON on its standard input and its line in $RAYGEN_EVENT.

    It is killed after `seconds`.
    """

    run: Annotated[str, Field(min_length=1)]
    on: tuple[Hook, ...] = NOTABLE
    seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0


class OwnSpec(Spec):
    """A callback of the user's, and the arguments that it is made with."""

    name: str
    arguments: dict[str, Any] = {}

    @model_validator(mode="after")
    def _can_be_made(self) -> "OwnSpec":
        kind = imported(self.name)
        if not isinstance(kind, type) or not issubclass(kind, Callback):
            raise ValueError(f"{self.name}: must be a class derived from raygen.Callback")
        if problem := argument_problem(kind, self.arguments):
            raise ValueError(f"{self.name}: {problem}")
        return self


class CallbackSpec(Spec):
    """One callback: wandb, mlflow, {webhook: URL}, {command: …} or {"file.py:Class": {…}}."""

    wandb: WandbSpec | None = None
    mlflow: MlflowSpec | None = None
    webhook: Annotated[WebhookSpec, _if_text("url")] | None = None
    command: Annotated[CommandSpec, _if_text("run")] | None = None
    own: OwnSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        given = {given: {}} if isinstance(given, str) else given
        if not isinstance(given, Mapping):
            return given
        if len(given) != 1:
            raise ValueError("must be one callback: a name, or a mapping of a name to its settings")
        ((name, settings),) = given.items()
        if is_reference(name):
            return {"own": {"name": name, "arguments": settings or {}}}
        names = [known for known in cls.model_fields if known != "own"]
        if name not in names:
            raise ValueError(
                f"{name}: unknown name, choose from {', '.join(names)}, or file.py:Class"
                f"{did_you_mean(str(name), names)}"
            )
        return {name: {} if settings is None else settings}

    @property
    def name(self) -> str:
        """What it is called: wandb, webhook, … or the reference of a class."""
        if self.own is not None:
            return self.own.name
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def settings(self) -> Spec:
        """The settings of the callback that it is."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return next(value for value in values if value is not None)
