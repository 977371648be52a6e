"""Ray's cluster files and KubeRay's manifests: what Ray's own schema lets through."""

from collections.abc import Mapping
from typing import Any

from raygen.resources import Resources


def most_trials(config: Mapping[str, Any], resources: Resources) -> int:
    """Return how many trials a cluster holds once it has grown as far as its file lets it.

    A GPU node whose resources the file leaves to the cloud counts as one place.
    """
    types = dict(config.get("available_node_types") or {})
    workers = {name: node for name, node in types.items() if name != config.get("head_node_type")}
    places = []
    for node in workers.values():
        offered = dict(node.get("resources") or {})
        wanted = resources.bundle
        fits = [int(offered[key] / n + 1e-9) for key, n in wanted.items() if key in offered]
        places += [min(fits, default=1)] * int(node.get("max_workers", 0))
    nodes = int(config.get("max_workers", len(places)))
    return resources.trials_on(sum(sorted(places, reverse=True)[:nodes]))
