"""A Ray cluster: connecting to one, its nodes, its jobs, and the files that describe it."""

import os
import sys

from raygen.home import has_token

# Read by Ray as it is imported. Under `uv run`, Ray would start every worker with another `uv run`:
# 20 s more for the first trials, and workers without Ray where the options of the two differ.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


def use_token() -> None:
    """Authenticate with the token of this machine; called before Ray is imported, which reads this.

    Ray does so by itself with the cluster that it starts, but not with one that is there. Nothing
    changes where Ray was imported before: the processes that it starts would read this, and refuse
    those of this process, which did not.
    """
    if has_token() and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
