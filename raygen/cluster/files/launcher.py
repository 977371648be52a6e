"""The rules for a file of `ray up`: Ray's own schema first, then what it lets through."""

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema

from raygen.cluster.files.versions import PLACEHOLDER, commands, image, placeholders
from raygen.document import Document, Keys, brief
from raygen.errors import did_you_mean

# What Ray's code reads of `provider`, by its type; other types are not checked.
PROVIDER = {
    "aws": {
        "type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips",
        "security_group", "key_pair", "aws_credentials", "cloudwatch",
    },
    "gcp": {
        "type", "region", "availability_zone", "project_id", "gcp_credentials",
        "cache_stopped_nodes", "use_internal_ips",
    },
    "local": {"type", "head_ip", "worker_ips", "external_head_ip", "coordinator_address"},
}  # fmt: skip
# The fields of EC2's RunInstances, and SubnetIds, which Ray adds.
EC2 = {
    "AdditionalInfo", "BlockDeviceMappings", "CapacityReservationSpecification", "ClientToken",
    "CpuOptions", "CreditSpecification", "DisableApiStop", "DisableApiTermination", "DryRun",
    "EbsOptimized", "ElasticGpuSpecification", "ElasticInferenceAccelerators", "EnablePrimaryIpv6",
    "EnclaveOptions", "HibernationOptions", "IamInstanceProfile", "ImageId",
    "InstanceInitiatedShutdownBehavior", "InstanceMarketOptions", "InstanceType",
    "Ipv6AddressCount", "Ipv6Addresses", "KernelId", "KeyName", "LaunchTemplate",
    "LicenseSpecifications", "MaintenanceOptions", "MaxCount", "MetadataOptions", "MinCount",
    "Monitoring", "NetworkInterfaces", "NetworkPerformanceOptions", "Operator", "Placement",
    "PrivateDnsNameOptions", "PrivateIpAddress", "RamdiskId", "SecondaryInterfaces",
    "SecurityGroupIds", "SecurityGroups", "SubnetId", "SubnetIds", "TagSpecifications", "UserData",
}  # fmt: skip
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
WORLD = ("0.0.0.0/0", "::/0")
TOKEN = ".ray/auth_token"
MOST_SAID = 300  # characters of what the schema says: it repeats whole values
LOOPBACK = ("--dashboard-host=127.0.0.1", "--dashboard-host=localhost")


def check_launcher(document: Document) -> list[str]:
    """Return every mistake in a file of `ray up`, one line each."""
    mistakes = [*placeholders(document), *_schema(document)]
    if not mistakes or isinstance(document.data.get("provider"), dict):
        for rule in RULES:
            try:
                mistakes += rule(document)
            except (AttributeError, TypeError):
                if not mistakes:  # of another shape than the schema lets through: our own mistake
                    raise
    return list(dict.fromkeys(mistakes))


def _schema(document: Document) -> Iterator[str]:
    spec = find_spec("ray")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json"
    data = dict(document.data)
    if _kind(document) == "local":
        data.pop("min_workers", None)  # taken out by Ray before its schema sees it
    validator = jsonschema.Draft7Validator(json.loads(path.read_text(encoding="utf-8")))
    for error in validator.iter_errors(data):
        at: Keys = tuple(error.absolute_path)
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            names = set(error.schema.get("properties", {}))
            for name in sorted(set(error.instance) - names):
                yield _unknown(document, (*at, name), names)
        else:
            yield document.describe(at, brief(str(error.message), MOST_SAID))


def _names(document: Document) -> Iterator[str]:
    """Misspelt names where the schema accepts any."""
    names = PROVIDER.get(_kind(document))
    if names is not None:
        for name in document.data["provider"]:
            if name not in names:
                yield _unknown(document, ("provider", name), names)
    if _kind(document) == "aws":
        for node, config in _nodes(document).items():
            for name in config.get("node_config") or {}:
                if name not in EC2:
                    at = ("available_node_types", node, "node_config", name)
                    yield _unknown(document, at, EC2)


def _machines(document: Document) -> Iterator[str]:
    """On AWS each node needs an image, rights, and a closed door; on own machines an address."""
    if _kind(document) != "aws":
        return
    provider, head = document.data["provider"], document.data.get("head_node_type")
    if not _nodes(document):
        yield document.describe((), "available_node_types is missing: Ray's own has no GPU")
    if provider.get("cache_stopped_nodes", True):
        rule = "cache_stopped_nodes must be false: the disks of stopped nodes still cost"
        yield document.describe(("provider", "cache_stopped_nodes"), rule)
    for node, config in _nodes(document).items():
        at: Keys = ("available_node_types", node, "node_config")
        settings = config.get("node_config") or {}
        if "ImageId" not in settings:
            rule = "ImageId is missing: Ray's default is Ubuntu 18.04 with CUDA 11.2"
            yield document.describe(at, rule)
        if "IamInstanceProfile" not in settings:
            why = "it could not start workers" if node == head else "it could not reach the bucket"
            yield document.describe(at, f"IamInstanceProfile is missing: {why}")
        if "SecurityGroupIds" not in settings:
            rule = "SecurityGroupIds is missing: the group that Ray makes lets the world in by SSH"
            yield document.describe(at, rule)
        if node == head and "InstanceMarketOptions" in settings:
            rule = "the head must not be a spot instance: the search ends with it"
            yield document.describe((*at, "InstanceMarketOptions"), rule)
        if node == head and (config.get("resources") or {}).get("CPU") != 0:
            at = ("available_node_types", node, "resources")
            yield document.describe(at, "the head needs CPU: 0, or trials run beside the search")
    group = provider.get("security_group") or {}
    for index, rule in enumerate(group.get("IpPermissions") or []):
        if any(world in json.dumps(rule) for world in WORLD):
            at = ("provider", "security_group", "IpPermissions", index)
            yield document.describe(at, "opens a port to the world")


def _addresses(document: Document) -> Iterator[str]:
    provider = document.data["provider"]
    if _kind(document) != "local" or "coordinator_address" in provider:
        return
    head, workers = provider.get("head_ip"), provider.get("worker_ips")
    if not head:
        yield document.describe(("provider",), "head_ip is missing")
    if not isinstance(workers, list):
        yield document.describe(("provider",), "worker_ips is missing: a list of addresses")
        return
    for index, address in enumerate(workers):
        if address == head and PLACEHOLDER not in str(head):
            yield document.describe(("provider", "worker_ips", index), "is also the head")
        elif address in workers[:index]:
            yield document.describe(("provider", "worker_ips", index), "appears twice")
    for name in ("min_workers", "max_workers"):
        number = document.data.get(name)
        if isinstance(number, int) and number != len(workers):
            rule = f"must be the number of worker_ips, {len(workers)}, or be left out"
            yield document.describe((name,), rule)
    starts = " ".join(document.data.get(STARTS[0]) or [])
    if "RAY_enable_autoscaler_v2=0" not in starts:
        rule = (
            "the head needs RAY_enable_autoscaler_v2=0: version 2 never starts one of the workers"
        )
        yield document.describe((STARTS[0],), rule)


def _software(document: Document) -> Iterator[str]:
    docker = document.data.get("docker") or {}
    places: list[tuple[Keys, Mapping[str, Any]]] = [(("docker",), docker)]
    for node, config in _nodes(document).items():
        places.append((("available_node_types", node, "docker"), config.get("docker") or {}))
    for at, container in places:
        for name in ("image", "head_image", "worker_image"):
            if isinstance(container.get(name), str):
                yield from image(document, (*at, name), container[name])
    if "setup_commands" not in document.data:
        yield document.describe((), "setup_commands is missing: Ray's own installs a nightly wheel")
        return
    given = bool(docker.get("image") or docker.get("head_image"))
    lines = [line for line in document.data["setup_commands"] or [] if isinstance(line, str)]
    yield from commands(document, ("setup_commands",), lines, given)


def _doors(document: Document) -> Iterator[str]:
    """Every node demands the token, and the dashboard listens on loopback."""
    options = json.dumps(document.data.get("docker") or {})
    mounts = document.data.get("file_mounts") or {}
    if not any(str(target).endswith(TOKEN) for target in mounts):
        rule = f"the token is not sent to the nodes: add '~/{TOKEN}': '~/{TOKEN}'"
        yield document.describe(("file_mounts",), rule)
    for name in STARTS:
        lines = document.data.get(name)
        if lines is None:
            rule = "Ray's own opens the dashboard to the network" if name == STARTS[0] else ""
            rule = rule or "Ray's own joins without a token"
            yield document.describe((), f"{name} is missing: {rule}")
            continue
        for index, line in enumerate(lines):
            if "ray start" not in line:
                continue
            if "RAY_AUTH_MODE=token" not in line + options:
                rule = "needs RAY_AUTH_MODE=token: a node without it admits anyone, or cannot join"
                yield document.describe((name, index), rule)
            if "--head" in line and not any(host in line for host in LOOPBACK):
                rule = (
                    "needs --dashboard-host=127.0.0.1: a dashboard lets its visitors run anything"
                )
                yield document.describe((name, index), rule)


RULES: tuple[Callable[[Document], Iterator[str]], ...] = (
    _names, _machines, _addresses, _software, _doors,
)  # fmt: skip


def _unknown(document: Document, at: Keys, names: set[str]) -> str:
    return document.describe(at, f"unknown name{did_you_mean(str(at[-1]), sorted(names))}")


def _kind(document: Document) -> str:
    provider = document.data.get("provider")
    return str(provider.get("type")) if isinstance(provider, dict) else ""


def _nodes(document: Document) -> dict[str, dict[str, Any]]:
    types = document.data.get("available_node_types")
    nodes = types if isinstance(types, dict) else {}
    return {name: config for name, config in nodes.items() if isinstance(config, dict)}
