"""A command of the user's, run at events."""

import json
import os
import signal
import subprocess

from raygen.callbacks import CommandSpec, Event
from raygen.errors import RaygenError
from raygen.integrations.notable import Notable


class Command(Notable):
    """Runs a shell command, with the event as JSON on its standard input.

    Its line, hook, study, trial and value are in $RAYGEN_EVENT, $RAYGEN_HOOK and so on, too.
    """

    def __init__(self, spec: CommandSpec) -> None:
        super().__init__(spec.on)
        self.command, self.seconds = spec.run, spec.seconds

    def send(self, event: Event) -> None:
        content = event.as_json()
        names = ("hook", "study", "trial", "value", "state", "folder")
        facts = {f"RAYGEN_{name.upper()}": str(content.get(name, "")) for name in names}
        process = subprocess.Popen(
            self.command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "RAYGEN_EVENT": str(event), **facts},
        )  # fmt: skip
        try:
            _, said = process.communicate(json.dumps(content, default=str).encode(), self.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it started, too
            process.communicate()
            raise RaygenError(f"{self.command}: killed after {self.seconds:g} s") from None
        if process.returncode:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise RaygenError(f"{self.command}: exit code {process.returncode} {last}".rstrip())
