"""The rules for KubeRay's RayJob and RayCluster: every name, and what must hold on each pod.

The API server silently drops an unknown field unless it is asked to be strict, so a misspelt
`authOptions` would leave the cluster open.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from raygen.cluster.files.versions import image, placeholders
from raygen.document import Document, Keys
from raygen.errors import did_you_mean

Names = dict[
    str, Any
]  # name -> what may stand below it: names, [names] for a list, None = anything

_CONTAINER: Names = dict.fromkeys((
    "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe",
    "name", "ports", "readinessProbe", "resizePolicy", "restartPolicy", "securityContext",
    "startupProbe", "stdin", "stdinOnce", "terminationMessagePath", "terminationMessagePolicy",
    "tty", "volumeDevices", "workingDir",
))  # fmt: skip
_CONTAINER |= {
    "resources": {"limits": None, "requests": None, "claims": None},
    "volumeMounts": [dict.fromkeys((
        "name", "mountPath", "mountPropagation", "readOnly", "recursiveReadOnly", "subPath",
        "subPathExpr",
    ))],
}  # fmt: skip
_POD: Names = dict.fromkeys((
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy",
    "enableServiceLinks", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers",
    "hostname", "imagePullSecrets", "nodeName", "nodeSelector", "os", "overhead",
    "preemptionPolicy", "priority", "priorityClassName", "readinessGates", "resourceClaims",
    "restartPolicy", "runtimeClassName", "schedulerName", "schedulingGates", "securityContext",
    "serviceAccountName", "setHostnameAsFQDN", "shareProcessNamespace", "subdomain",
    "terminationGracePeriodSeconds", "topologySpreadConstraints", "volumes",
))  # fmt: skip
_POD |= {
    "containers": [_CONTAINER],
    "initContainers": [_CONTAINER],
    "tolerations": [dict.fromkeys(("key", "operator", "value", "effect", "tolerationSeconds"))],
}
_TEMPLATE: Names = {"metadata": None, "spec": _POD}
_CLUSTER: Names = {
    **dict.fromkeys((
        "suspend", "managedBy", "headServiceAnnotations", "enableInTreeAutoscaling", "rayVersion",
        "gcsFaultToleranceOptions",
    )),
    "authOptions": {"mode": None},
    "autoscalerOptions": dict.fromkeys((
        "resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds",
        "upscalingMode", "version", "env", "envFrom", "volumeMounts",
    )),
    "headGroupSpec": {
        "template": _TEMPLATE,
        **dict.fromkeys((
            "headService", "enableIngress", "rayStartParams", "serviceType", "resources", "labels",
        )),
    },
    "workerGroupSpecs": [{
        "template": _TEMPLATE,
        **dict.fromkeys((
            "suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds",
            "rayStartParams", "scaleStrategy", "numOfHosts", "resources", "labels",
        )),
    }],
}  # fmt: skip
_JOB: Names = {
    **dict.fromkeys((
        "activeDeadlineSeconds", "backoffLimit", "preRunningDeadlineSeconds", "metadata",
        "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint",
        "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources", "entrypointNumCpus",
        "entrypointNumGpus", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend",
    )),
    "rayClusterSpec": _CLUSTER,
    "submitterPodTemplate": _TEMPLATE,
}  # fmt: skip
KINDS: dict[str, Names] = {
    kind: {"apiVersion": None, "kind": None, "metadata": None, "spec": spec}
    for kind, spec in (("RayJob", _JOB), ("RayCluster", _CLUSTER))
}
OPEN = ("LoadBalancer", "NodePort")


def check_manifest(document: Document) -> list[str]:
    """Return every mistake in a RayJob or RayCluster, one line each."""
    kind = document.data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        return [document.describe(("kind",), f"must be RayJob or RayCluster{hint}")]
    if document.data.get("apiVersion") != "ray.io/v1":
        return [document.describe(("apiVersion",), "must be ray.io/v1")]
    mistakes = [*placeholders(document), *_names(document, (), document.data, KINDS[kind])]
    at: Keys = ("spec", "rayClusterSpec") if kind == "RayJob" else ("spec",)
    spec = document.get(at)
    if not isinstance(spec, dict):
        return [*mistakes, document.describe(at, "is missing: the cluster itself")]
    mistakes += [*_cluster(document, at, spec), *_pods(document, at, spec)]
    if kind == "RayJob" and document.get(("spec", "shutdownAfterJobFinishes")) is not True:
        rule = "shutdownAfterJobFinishes must be true: idle GPUs cost as much as busy ones"
        mistakes.append(document.describe(("spec",), rule))
    return mistakes


def _names(document: Document, at: Keys, value: Any, names: Any) -> Iterator[str]:
    if isinstance(names, list):
        if not isinstance(value, list):
            yield document.describe(at, "must be a list")
            return
        for index, inside in enumerate(value):
            yield from _names(document, (*at, index), inside, names[0])
    elif isinstance(names, dict):
        if not isinstance(value, dict):
            yield document.describe(at, "must hold settings")
            return
        for name, inside in value.items():
            if name not in names:
                hint = did_you_mean(name, names)
                yield document.describe((*at, name), f"unknown name{hint}")
            else:
                yield from _names(document, (*at, name), inside, names[name])


def _cluster(document: Document, at: Keys, spec: dict[str, Any]) -> Iterator[str]:
    ours = version("ray")
    if spec.get("rayVersion") != ours:
        rule = f"must be {ours!r}, the Ray of this machine"
        yield document.describe((*at, "rayVersion"), rule)
    if document.get((*at, "authOptions", "mode")) != "token":
        rule = "authOptions: {mode: token} is missing: anyone who reaches a pod could run anything"
        yield document.describe((*at, "authOptions"), rule)
    head = (*at, "headGroupSpec")
    if str(document.get((*head, "rayStartParams", "num-cpus"))) != "0":
        rule = 'the head needs num-cpus: "0", or trials run beside the search'
        yield document.describe((*head, "rayStartParams"), rule)
    for name in (("serviceType",), ("headService", "spec", "type")):
        if document.get((*head, *name)) in OPEN:
            yield document.describe((*head, *name), "opens the dashboard outside of the cluster")
    if document.get((*head, "enableIngress")):
        yield document.describe((*head, "enableIngress"), "opens the dashboard to the world")


def _pods(document: Document, at: Keys, spec: dict[str, Any]) -> Iterator[str]:
    groups: list[Keys] = [(*at, "headGroupSpec")]
    workers = spec.get("workerGroupSpecs")
    count = len(workers) if isinstance(workers, list) else 0
    groups += [(*at, "workerGroupSpecs", i) for i in range(count)]
    for group in groups:
        pod: Keys = (*group, "template", "spec")
        containers = document.get((*pod, "containers"))
        if not isinstance(containers, list) or not containers:
            yield document.describe(group, "template.spec.containers is missing")
            continue
        name = document.get((*pod, "containers", 0, "image"))
        if isinstance(name, str):
            yield from image(document, (*pod, "containers", 0, "image"), name)
        else:
            yield document.describe((*pod, "containers", 0), "image is missing")
        account = document.get((*pod, "serviceAccountName"))
        if account is None and _uses_s3(document):
            rule = "serviceAccountName is missing: the pod could not reach the bucket"
            yield document.describe(pod, rule)


def _uses_s3(document: Document) -> bool:
    return "s3://" in str(document.get(("spec", "entrypoint")))
