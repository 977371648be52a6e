"""What an account offers: an image, a network, zones with the machines, and room for them."""

from collections.abc import Iterable, Iterator, Mapping
from string import ascii_lowercase as LETTERS
from typing import Any, NamedTuple

from raygen.cluster.aws.account import Account, absent, error_code
from raygen.cluster.aws.request import ClusterRequest
from raygen.errors import InputError, did_you_mean, refuse

# AWS's public parameter: the newest deep learning AMI with the open NVIDIA driver and no framework.
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
# Service Quotas of EC2, in vCPUs, by the first letters of a machine's type and its market.
QUOTAS = {
    ("g", "spot"): "L-3819A6DF",
    ("g", "on-demand"): "L-DB2E81BA",
    ("p", "spot"): "L-7212CCBC",
    ("p", "on-demand"): "L-417A185B",
    ("m", "on-demand"): "L-1216C47A",
}
FAMILIES = {"vt": "g", "c": "m", "r": "m", "t": "m"}  # that share a quota with another
SEPARATE = ("p5", "p6")  # whose spot machines have quotas of their own


class Need(NamedTuple):
    """How many vCPUs the cluster takes at its largest, and how many the account may have."""

    market: str
    machines: int
    type: str
    vcpus: int
    quota: float | None  # None: could not be read

    @property
    def enough(self) -> bool:
        return self.quota is not None and self.quota >= self.vcpus

    def __str__(self) -> str:
        text = f"{self.machines} × {self.type}: {self.vcpus} vCPUs {self.market}"
        if self.quota is None:
            return f"{text}; the quota could not be read: look at it in Service Quotas, EC2"
        least = "" if self.enough else ": fewer machines will start; raise it in Service Quotas"
        return f"{text}, quota {self.quota:g}{least}"


class Site(NamedTuple):
    """Where a cluster goes in an account."""

    image: str
    image_origin: str
    vpc: str
    vpc_origin: str
    zones: list[str]
    needs: list[Need]


def survey(account: Account, request: ClusterRequest, head_type: str) -> Site:
    """Look at what there is; nothing is made.

    Raises:
        InputError: no image, no network, no such machine, or no zone with all of them.
    """
    if request.image:
        image, image_origin = _given(account, request.image)
    else:
        image, image_origin = _kept(account, request.image_in_file) or _newest(account)
    vpc, vpc_origin = (request.vpc, "--vpc") if request.vpc else _default_vpc(account)
    gpu_types = {"--spot-type": request.spot_type, "--on-demand-type": request.on_demand_type}
    vcpus = _vcpus(account, head_type, gpu_types)
    zones = _zones(account, vpc, {head_type, *gpu_types.values()})
    machines = (
        ("on-demand", 1, head_type),
        ("spot", request.max_workers, request.spot_type),
        ("on-demand", request.max_on_demand, request.on_demand_type),
    )
    needs = [
        Need(market, count, name, count * vcpus[name], _quota(account, name, market))
        for market, count, name in machines
    ]
    return Site(image, image_origin, vpc, vpc_origin, zones, needs)


def _newest(account: Account) -> tuple[str, str]:
    client = account.client("ssm")
    try:
        parameter = client.get_parameter(Name=IMAGE)["Parameter"]
    except client.exceptions.ParameterNotFound as error:
        rule = "give --image AMI, an Ubuntu image with an NVIDIA driver"
        raise InputError(f"no deep learning image in {account.region}: {rule}") from error
    return parameter["Value"], "the newest deep learning image (Ubuntu 22.04, NVIDIA driver)"


def _given(account: Account, image: str) -> tuple[str, str]:
    client = account.client("ec2")
    try:
        (facts,) = client.describe_images(ImageIds=[image])["Images"]
    except (client.exceptions.ClientError, ValueError) as error:
        if error_code(error) not in ("InvalidAMIID.NotFound", ""):
            raise
        raise InputError(f"--image {image}: no such image in {account.region}") from error
    return image, str(facts.get("Name", "--image"))


def _kept(account: Account, image: str | None) -> tuple[str, str] | None:
    """The image that the cluster's file has, while AWS has it: a newer one changes no file."""
    if image is None:
        return None
    with absent("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"):
        if account.client("ec2").describe_images(ImageIds=[image])["Images"]:
            return image, "that of the file; --force takes the newest"
    return None


def _default_vpc(account: Account) -> tuple[str, str]:
    filters = [{"Name": "is-default", "Values": ["true"]}]
    vpcs = account.client("ec2").describe_vpcs(Filters=filters)["Vpcs"]
    if not vpcs:
        rule = f"run `aws ec2 create-default-vpc --region {account.region}`, or give --vpc"
        raise InputError(f"no default VPC in {account.region}: {rule}")
    return vpcs[0]["VpcId"], "the default VPC"


def _vcpus(account: Account, head: str, gpu_types: Mapping[str, str]) -> Mapping[str, int]:
    """How many each machine has; `gpu_types` are those of the workers, by the option for them."""
    client = account.client("ec2")
    try:
        names = sorted({head, *gpu_types.values()})
        kinds = client.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
    except client.exceptions.ClientError as error:
        if error_code(error) != "InvalidInstanceType":
            raise
        named = [*gpu_types.items(), ("the head's", head)]
        raise InputError("\n".join(_unknown(account, named))) from error
    by_name = {kind["InstanceType"]: kind for kind in kinds}
    refuse(
        f"{option} {name}: must be an x86_64 machine with NVIDIA GPUs"
        for option, name in gpu_types.items()
        if not _fits(by_name[name])
    )
    return {name: kind["VCpuInfo"]["DefaultVCpus"] for name, kind in by_name.items()}


def _unknown(account: Account, named: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line for each machine that the region does not have, with the nearest of its family."""
    pages = account.client("ec2").get_paginator("describe_instance_type_offerings").paginate()
    offered = {offer["InstanceType"] for page in pages for offer in page["InstanceTypeOfferings"]}
    for option, name in named:
        if name not in offered:
            hint = did_you_mean(name, sorted(offered))
            yield f"{option} {name}: no such machine in {account.region}{hint}"


def _fits(kind: Mapping[str, Any]) -> bool:
    makers = {gpu["Manufacturer"] for gpu in kind.get("GpuInfo", {}).get("Gpus", [])}
    return makers == {"NVIDIA"} and "x86_64" in kind["ProcessorInfo"]["SupportedArchitectures"]


def _zones(account: Account, vpc: str, types: set[str]) -> list[str]:
    """The zones with all of these machines and a subnet that gives out public addresses."""
    ec2 = account.client("ec2")
    filters = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = ec2.describe_subnets(Filters=filters)["Subnets"]
    public = {subnet["AvailabilityZone"] for subnet in subnets if subnet["MapPublicIpOnLaunch"]}
    if not public:
        raise InputError(f"{vpc} has no subnet that gives out public addresses: give another --vpc")
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": sorted(types)}],
    )
    offers = [offer for page in pages for offer in page["InstanceTypeOfferings"]]
    offered = {
        name: {offer["Location"] for offer in offers if offer["InstanceType"] == name}
        for name in sorted(types)
    }
    zones = sorted(public.intersection(*offered.values()))
    if not zones:
        where = "; ".join(f"{name}: {', '.join(sorted(z)) or '-'}" for name, z in offered.items())
        raise InputError(
            f"no zone of {vpc} has all machines ({where}): give other types or another --region"
        )
    return zones


def quota_code(name: str, market: str) -> str | None:
    """Return the quota against which a machine counts; None if raygen knows none."""
    letters = name[: len(name) - len(name.lstrip(LETTERS))]
    separate = market == "spot" and name.startswith(SEPARATE)
    return None if separate else QUOTAS.get((FAMILIES.get(letters, letters), market))


def _quota(account: Account, name: str, market: str) -> float | None:
    code = quota_code(name, market)
    if code is None:
        return None
    client = account.client("service-quotas")
    try:
        return client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except client.exceptions.ClientError:
        return None  # said in the plan: a right that is nice to have must not stop anyone
