"""The cluster files of this repository, filled in as a user fills them in."""

import platform
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "cluster"
FILLED = {
    "gpu.yaml": {"ami-REPLACE-ME": "ami-0a2b85e15b7c0ac34", "sg-REPLACE-ME": "sg-0123456789"},
    "local.yaml": {
        "head_ip: REPLACE-ME": "head_ip: 10.0.0.10",
        "[REPLACE-ME]": "[10.0.0.11, 10.0.0.12]",
        "ssh_user: REPLACE-ME": "ssh_user: ubuntu",
    },
    "kuberay.yaml": {
        "s3://REPLACE-ME": "s3://bucket",
        "REPLACE-ME/raygen": "registry.example.org/raygen",
        "&account REPLACE-ME": "&account raygen",
    },
}


def filled(name: str, *changes: tuple[str, str]) -> str:
    """Return a file with its placeholders filled in, for this Python, and some texts changed."""
    text = (FOLDER / name).read_text()
    python = ".".join(platform.python_version_tuple()[:2])
    text = text.replace("--python 3.11", f"--python {python}")
    text = text.replace("-py311-", f"-py{python.replace('.', '')}-")
    for old, new in [*FILLED[name].items(), *changes]:
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text
