"""The search: the only package that imports Ray and Optuna."""

import os

# Read by Ray as it is imported. Under `uv run`, Ray would start every worker with another `uv run`:
# 20 s more for the first trials, and workers without Ray where the options of the two differ.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
