"""Arguments and options that several commands share, and how they print a result."""

import json
from typing import Any

import click

from raygen.cli.group import StudyPath
from raygen.terminal import say, tell

EXISTING = StudyPath(weights=True, exists=True)
STUDY = StudyPath()
SETTING = click.option(
    "--set", "settings", multiple=True, metavar="A.B=C", help="Override one setting of the file."
)
TRIAL = click.option(
    "--trial",
    type=click.IntRange(0),
    help="Use the checkpoint of this trial of a study instead of the best.",
)
DATA = click.option(
    "--data", metavar="PATH", help="Training images, if the checkpoint does not name them."
)
PLAIN_HTTP = click.option(
    "--plain-http",
    metavar="HOST",
    help="With --cluster http://HOST: send Ray's token there in clear text.",
)
SEND_KEYS = click.option(
    "--send-keys",
    is_flag=True,
    help="With --cluster: send this machine's storage keys to a cluster without its own.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def answer(as_json: bool, text: object, **content: Any) -> None:
    """Print the result of a command: as text, or with --json as one object."""
    say(json.dumps({"schema": 1, **content}) if as_json else text)


def newest_study() -> str:
    """Return the study that was started last, for a command that was given none, and say which."""
    from raygen.study_folder import STUDIES, newest

    if click.get_current_context().resilient_parsing:  # a shell asks what could stand here
        return ""
    folder = newest(STUDIES)
    if folder is None:
        raise click.UsageError("there is no study in runs/: name a STUDY")
    tell(f"study: {folder}")
    return str(folder)
