"""Weights & Biases, MLflow, TensorBoard, webhooks and commands: callbacks of a search."""

import importlib
from collections.abc import Sequence

from raygen.callbacks import (
    Callback,
    CallbackSpec,
    CommandSpec,
    MlflowSpec,
    OwnSpec,
    WandbSpec,
    WebhookSpec,
)
from raygen.errors import InputError
from raygen.integrations.tensorboard import Tensorboard
from raygen.plugins import place_of, resolve
from raygen.spec import Spec
from raygen.study_folder import StudyFolder

# Where the class of each is; its module is imported once it is asked for.
CLASSES: dict[type[Spec], str] = {
    WandbSpec: "wandb_runs:WandbRuns",
    MlflowSpec: "mlflow_runs:MlflowRuns",
    WebhookSpec: "webhook:Webhook",
    CommandSpec: "command:Command",
}


def callbacks_of(
    specs: Sequence[CallbackSpec], more: Sequence[Callback], folder: StudyFolder
) -> dict[str, Callback]:
    """All callbacks of a search, TensorBoard's among them, by what messages call them.

    Raises:
        InputError: as make_callback.
    """
    made = [(spec.name, make_callback(spec)) for spec in specs]
    made += [(type(callback).__name__, callback) for callback in more]
    named: dict[str, Callback] = {str(folder.curves): Tensorboard(folder.curves)}
    for name, callback in made:
        named[name if name not in named else f"{name} ({len(named)})"] = callback
    return named


def make_callback(spec: CallbackSpec) -> Callback:
    """Make a callback of its settings.

    Raises:
        InputError: a package, a variable of the environment or what the user's class needs is
            missing.
    """
    settings = spec.settings
    if isinstance(settings, OwnSpec):
        try:
            return resolve(settings.name)(**settings.arguments)
        except Exception as error:  # whatever its author raises
            raise InputError(f"callbacks: {settings.name}: {place_of(error)}") from error
    file, _, name = CLASSES[type(settings)].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)(settings)
