"""cluster/gpu.yaml through Ray's AWS provider, against moto: what EC2 is asked for, read back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.files import filled

moto = pytest.importorskip("moto", reason="moto is not installed")
TABLE = "{:<13} {:<11} {:<22} {:<14} {:<9} {}"


@pytest.fixture
def ec2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An AWS account with the names that gpu.yaml asks its user for."""
    for key, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-west-2",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    (tmp_path / ".ssh").mkdir()
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        import boto3

        iam = boto3.client("iam")
        for name in ("raygen-head", "raygen-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        yield boto3.client("ec2")


def test_the_nodes_of_gpu_yaml_are_what_the_file_says_and_are_terminated(ec2: Any) -> None:
    from ray.autoscaler._private.providers import _NODE_PROVIDERS, _get_node_provider
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_USER_NODE_TYPE

    group = ec2.create_security_group(GroupName="own", Description="own")["GroupId"]
    image = ec2.describe_images()["Images"][0]["ImageId"]
    text = filled("gpu.yaml").replace("sg-0123456789", group)
    config = prepare_config(yaml.safe_load(text.replace("ami-0a2b85e15b7c0ac34", image)))
    validate_config(config)
    provider = _NODE_PROVIDERS["aws"](config["provider"])
    config = provider.bootstrap_config(provider.fillout_available_node_types_resources(config))
    cloud = _get_node_provider(config["provider"], config["cluster_name"])
    types = config["available_node_types"]
    for name, node in types.items():
        kind = "head" if name == config["head_node_type"] else "worker"
        tags = {TAG_RAY_NODE_KIND: kind, TAG_RAY_USER_NODE_TYPE: name, TAG_RAY_NODE_NAME: name}
        cloud.create_node(dict(node["node_config"]), tags, 1)

    found = {}
    print("\n" + TABLE.format("node", "type", "image", "profile", "market", "groups"))
    for reservation in ec2.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            row = (
                instance["InstanceType"],
                instance["ImageId"],
                instance["IamInstanceProfile"]["Arn"].rpartition("/")[2],
                instance.get("InstanceLifecycle", "on-demand"),
                [each["GroupId"] for each in instance["SecurityGroups"]],
            )
            found[tags[TAG_RAY_USER_NODE_TYPE]] = row
            print(TABLE.format(tags[TAG_RAY_USER_NODE_TYPE], *map(str, row)))
    made = ec2.describe_security_groups()["SecurityGroups"]
    world = [g["GroupName"] for g in made if "0.0.0.0/0" in str(g["IpPermissions"])]

    assert found == {
        "head": ("m6i.2xlarge", image, "raygen-head", "on-demand", [group]),
        "gpu.spot": ("g5.xlarge", image, "raygen-worker", "spot", [group]),
        "gpu.ondemand": ("g6.xlarge", image, "raygen-worker", "on-demand", [group]),
    }
    assert types["gpu.spot"]["resources"]["GPU"] == 1  # as EC2 describes the type
    assert types["gpu.spot"]["resources"]["accelerator_type:A10G"] == 1
    assert types["head"]["resources"]["CPU"] == 0
    assert world == []  # Ray made no group of its own, which lets the world try port 22

    for node in cloud.non_terminated_nodes({}):
        cloud.terminate_node(node)
    states = {
        instance["State"]["Name"]
        for reservation in ec2.describe_instances()["Reservations"]
        for instance in reservation["Instances"]
    }
    assert states == {"terminated"}  # and not stopped, with disks that still cost
