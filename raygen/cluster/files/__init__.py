"""Files that describe clusters: for Ray's launcher (`ray up`), KubeRay and Slurm, checked.

Ray's schema accepts any name under `provider` and `node_config`, and fills what a file leaves out
with an old image, a nightly wheel, an open dashboard and no authentication. The rules here are for
what follows from that.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raygen.cluster.files.growth import most_trials
from raygen.cluster.files.kuberay import check_manifest
from raygen.cluster.files.launcher import check_launcher
from raygen.cluster.files.slurm import check_script, is_script
from raygen.document import Document, load_document
from raygen.errors import refuse

__all__ = ["check_cluster", "check_script", "describes_cluster", "is_script", "most_trials"]


def describes_cluster(data: Mapping[str, Any]) -> bool:
    """Whether a YAML file is one of these, and no search space."""
    return bool({"apiVersion", "provider", "cluster_name", "available_node_types"} & set(data))


def check_cluster(file: Path) -> Document:
    """Read and check a cluster file.

    Raises:
        InputError: one line per mistake, each with file, line, column, value and rule.
    """
    document = load_document(file)
    check = check_manifest if "apiVersion" in document.data else check_launcher
    refuse(check(document))
    return document
