"""What a user asks of `raygen cluster init aws`, checked before AWS is asked anything."""

import re
from ipaddress import ip_network
from typing import NamedTuple

from raygen.cluster.aws.account import region_problem
from raygen.errors import InputError, refuse

NAME = re.compile(r"[a-z][a-z0-9-]{0,24}[a-z0-9]")  # with account and region it names a bucket
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
TYPE = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
IMAGE = re.compile(r"ami-[0-9a-f]{8,17}")
VPC = re.compile(r"vpc-[0-9a-f]{8,17}")
WIDEST = {4: 8, 6: 32}  # the shortest prefix that is a network, and not a part of the world
MOST_WORKERS = 1000
MOST_ON_DEMAND = 2  # where spot machines are at their limit


class ClusterRequest(NamedTuple):
    """A cluster as its user wants it; None is what raygen finds out by itself."""

    name: str
    ssh_from: tuple[str, ...]
    spot_type: str
    on_demand_type: str
    max_workers: int
    bucket: str | None = None
    image: str | None = None
    vpc: str | None = None
    image_in_file: str | None = None  # of the cluster's file, where there is one

    @property
    def max_on_demand(self) -> int:
        return min(MOST_ON_DEMAND, self.max_workers)


def checked_request(request: ClusterRequest, region: str) -> ClusterRequest:
    """Return the request with its networks as AWS writes them.

    Raises:
        InputError: a value cannot be one, or SSH would be open to the world; one line for each.
    """
    rules = (
        ("--name", request.name, NAME, "2 to 26 of a-z, 0-9 and -, beginning with a letter"),
        ("--spot-type", request.spot_type, TYPE, "a machine such as g5.xlarge"),
        ("--on-demand-type", request.on_demand_type, TYPE, "a machine such as g6.xlarge"),
        ("--bucket", request.bucket, BUCKET, "the name of a bucket, without s3://"),
        ("--image", request.image, IMAGE, "an image such as ami-0123456789abcdef0"),
        ("--vpc", request.vpc, VPC, "a network such as vpc-0123456789abcdef0"),
    )
    mistakes = [
        f"{option} {value}: must be {rule}"
        for option, value, pattern, rule in rules
        if value is not None and not pattern.fullmatch(value)
    ]
    if problem := region_problem(region):
        mistakes.insert(0, f"--region {region}: {problem}")
    if not 1 <= request.max_workers <= MOST_WORKERS:
        mistakes.append(f"--max-workers {request.max_workers}: must be 1 to {MOST_WORKERS}")
    networks = []
    for text in request.ssh_from:
        try:
            networks.append(network(text))
        except InputError as error:
            mistakes.append(str(error))
    refuse(mistakes)
    return request._replace(ssh_from=tuple(dict.fromkeys(networks)))


def network(text: str) -> str:
    """Return a network as AWS writes it; an address is a network of one.

    Raises:
        InputError: it is none, or a part of the world.
    """
    try:
        parsed = ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise InputError(f"--ssh-from {text}: must be such as 203.0.113.7/32") from error
    if parsed.prefixlen < WIDEST[parsed.version]:
        rule = "opens SSH to the world; give your own address, such as 203.0.113.7/32"
        raise InputError(f"--ssh-from {text}: {rule}")
    return str(parsed)
