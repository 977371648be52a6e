"""`ray up cluster/gpu.yaml` by Ray's AWS provider: EC2 and S3 are moto, its instances hosts here.

Each node type has one fixed private address, that of a host which waits for it.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

import object_store
from cluster.hosts import NET, Network, require
from cluster.laptop import Laptop

pytestmark = [pytest.mark.slow, pytest.mark.ray]
REGION = "us-west-2"


@pytest.fixture
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    require()
    folder = tmp_path_factory.mktemp("aws")
    # The port is known before the hosts are, which find EC2 and S3 there.
    server = object_store.start("0.0.0.0")
    settings = object_store.access(f"http://{NET}.1:{server.get_host_and_port()[1]}", REGION)
    with Network(folder / "net", 3, settings) as net, pytest.MonkeyPatch.context() as patch:
        user = Laptop(folder, net, settings, "gpu.yaml")
        for key, value in settings.items():
            patch.setenv(key, value)
        user.run("raygen", "cluster", "init", "aws", "--yes", *network().split())
        file = folder / "gpu.yaml"
        file.write_text(on_hosts(file.read_text(), net))
        user.run("ray", "get-auth-token", "--generate")
        user.run("raygen", "validate", "gpu.yaml")
        yield user
    server.stop()


def network() -> str:
    """Make what an account has that is used already, and return the words that name it to init."""
    import boto3

    ec2, s3 = (boto3.client(name, region_name=REGION) for name in ("ec2", "s3"))
    # moto knows no TLS, which init's own bucket demands.
    s3.create_bucket(Bucket="raygen", CreateBucketConfiguration={"LocationConstraint": REGION})
    vpc = ec2.create_vpc(CidrBlock=f"{NET}.0/24")["Vpc"]["VpcId"]
    zone = {"CidrBlock": f"{NET}.0/24", "AvailabilityZone": f"{REGION}a"}
    subnet = ec2.create_subnet(VpcId=vpc, **zone)["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    ec2.create_key_pair(KeyName="raygen-key")
    image = ec2.describe_images()["Images"][0]["ImageId"]  # moto publishes none of its own
    return f"--bucket raygen --vpc {vpc} --image {image} --ssh-from {NET}.0/24"


def on_hosts(text: str, net: Network) -> str:
    """Return a cluster file for instances that are hosts of this machine, each with its address."""
    changes = [
        ("  cache_stopped_nodes", "  use_internal_ips: true\n  cache_stopped_nodes"),
        ("ssh_user: ubuntu", f"ssh_user: root\n  ssh_private_key: {net.key}"),
        ("idle_timeout_minutes: 10 ", "idle_timeout_minutes: 0.3 "),
        ("max_workers: 8\n    resources", "max_workers: 1\n    resources"),
        ("max_workers: 2\n    resources", "max_workers: 1\n    resources"),
    ]
    for host, kind in zip(net.hosts, ("m6i.2xlarge", "g5.xlarge", "g6.xlarge"), strict=True):
        lines = f"PrivateIpAddress: {host.address}\n      KeyName: raygen-key"
        changes.append((f"InstanceType: {kind}", f"InstanceType: {kind}\n      {lines}"))
    for old, new in changes:
        assert old in text, f"gpu.yaml has no {old!r}"
        text = text.replace(old, new)
    return text


def instances() -> dict[str, list[tuple[str, str]]]:
    """Market and state of every instance that there ever was, by its node type."""
    import boto3

    found: dict[str, list[tuple[str, str]]] = {}
    reservations = boto3.client("ec2", region_name=REGION).describe_instances()["Reservations"]
    for each in (instance for r in reservations for instance in r["Instances"]):
        tags = {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        market = each.get("InstanceLifecycle", "on-demand")
        row = (market, each["State"]["Name"])
        found.setdefault(tags["ray-user-node-type"], []).append(row)
    return found


def states(*names: str) -> set[str]:
    return {state for name in names for _, state in instances().get(name, [])}


def test_workers_come_with_demand_and_go_when_it_is_over(laptop: Laptop) -> None:
    laptop.run("ray", "up", "-y", "gpu.yaml")
    before: dict[str, Any] = instances()

    with laptop.timed("search from zero nodes"):
        settings = ("resources={cpus: 4}", "budget={trials: 2, kimg: 1}")
        sets = [word for setting in settings for word in ("--set", setting)]
        said = laptop.run(*laptop.tune("aws", *sets))
    during = instances()
    nodes = {r["node"] for r in laptop.records("aws") if r["kind"] == "start"}
    ends = [r["state"] for r in laptop.records("aws") if r["kind"] == "end"]

    with laptop.timed("workers gone again"):
        deadline = time.monotonic() + 900
        while states("gpu.spot", "gpu.ondemand") != {"terminated"}:
            assert time.monotonic() < deadline, instances()
            time.sleep(1)
    laptop.run("ray", "down", "-y", "gpu.yaml")

    assert before == {"head": [("on-demand", "running")]}
    assert ends == ["completed"] * 2, said
    assert nodes <= {"host1", "host2"}  # and not on the head
    assert during["gpu.spot"][0][0] == "spot"
    assert states("head", "gpu.spot", "gpu.ondemand") == {"terminated"}
