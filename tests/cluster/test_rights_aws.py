"""What Ray's AWS provider does with the file of raygen cluster init aws, and whether IAM lets it.

Two witnesses: the policies as they are against IAM's rules (cluster/policies.py), and moto's IAM,
which knows actions, but on EC2 neither resources nor conditions.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from cluster.account import NUMBER, REGION, account, recorded_calls
from cluster.policies import EC2, Question, allows, asked_of_iam
from raygen.cli import main

BUCKET = f"raygen-{NUMBER}-{REGION}"
HEAD, WORKER = f"raygen-{REGION}-head", f"raygen-{REGION}-worker"
CLUSTER = "ray-cluster-name"
Call = tuple[str, dict[str, Any]]


class Launched(NamedTuple):
    """A cluster whose file Ray has accepted."""

    session: Any
    config: dict[str, Any]
    policies: dict[str, dict[str, Any]]
    tags: dict[str, dict[str, str]]  # of what init made, by id


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """`ray up` as far as its first machine."""
    from ray.autoscaler._private.aws.utils import client_cache, resource_cache
    from ray.autoscaler._private.providers import _NODE_PROVIDERS
    from ray.autoscaler._private.util import prepare_config, validate_config

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, account(home, patch) as session:
        patch.chdir(home)
        for cache in (client_cache, resource_cache):
            cache.cache_clear()
        words = shlex.split("cluster init aws --ssh-from 203.0.113.7 --yes")
        assert CliRunner().invoke(main, words).exit_code == 0
        config = prepare_config(yaml.safe_load(Path("gpu.yaml").read_text()))
        validate_config(config)
        provider = _NODE_PROVIDERS["aws"](config["provider"])
        config = provider.fillout_available_node_types_resources(config)
        config = provider.bootstrap_config(config)
        iam, ec2, s3 = (session.client(name) for name in ("iam", "ec2", "s3"))
        s3.create_bucket(Bucket="another", CreateBucketConfiguration={"LocationConstraint": REGION})
        policies = {
            name: iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"]
            for name in (HEAD, WORKER)
        }
        groups = ec2.describe_security_groups()["SecurityGroups"]
        yield Launched(session, config, policies, {
            group["GroupId"]: {tag["Key"]: tag["Value"] for tag in group.get("Tags", [])}
            for group in groups
        })  # fmt: skip
        for cache in (client_cache, resource_cache):
            cache.cache_clear()


def life_of_workers(config: dict[str, Any]) -> list[str]:
    """What the autoscaler on the head does with workers, from their start to their end."""
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_NODE_STATUS

    cloud = _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)
    started: list[str] = []
    for name in ("gpu.spot", "gpu.ondemand"):
        tags = {TAG_RAY_NODE_KIND: "worker", TAG_RAY_NODE_NAME: name}
        node = config["available_node_types"][name]["node_config"]
        started += cloud.create_node(dict(node), tags, 1)
    assert set(cloud.non_terminated_nodes({TAG_RAY_NODE_KIND: "worker"})) == set(started)
    for node in started:
        cloud.set_node_tags(node, {TAG_RAY_NODE_STATUS: "up-to-date", TAG_RAY_NODE_NAME: "again"})
        assert cloud.internal_ip(node)
        assert cloud.is_running(node)
    cloud.terminate_node(started[0])
    cloud.terminate_nodes(started[1:])
    assert cloud.non_terminated_nodes({}) == []
    return started


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Call]]:
    """Begin to record what AWS is asked."""
    return lambda: recorded_calls(monkeypatch)


def test_rays_provider_takes_the_file_as_it_is_and_makes_nothing_but_a_key_pair(
    launched: Launched,
) -> None:
    ec2 = launched.session.client("ec2")
    nodes = launched.config["available_node_types"]
    subnets = {subnet["SubnetId"]: subnet for subnet in ec2.describe_subnets()["Subnets"]}
    groups = [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]]

    assert nodes["gpu.spot"]["resources"]["GPU"] == 1
    assert sorted(groups) == ["default", "raygen-cluster-raygen"]
    for node in nodes.values():
        zones = [subnets[name]["AvailabilityZone"] for name in node["node_config"]["SubnetIds"]]
        assert zones == [f"{REGION}{letter}" for letter in "abc"]
        assert node["node_config"]["KeyName"] == f"ray-autoscaler_{REGION}"


def test_the_head_may_do_all_that_rays_provider_asks_of_aws_and_the_worker_none(
    launched: Launched, record: Callable[[], list[Call]]
) -> None:
    calls = record()
    workers = life_of_workers(launched.config)
    tags = launched.tags | {worker: {CLUSTER: "raygen"} for worker in workers}
    roles = {HEAD: HEAD, WORKER: WORKER}

    asked = [question for call in calls for question in asked_of_iam(*call, tags, roles)]

    assert {operation for operation, _ in calls} == {
        "RunInstances", "DescribeInstances", "CreateTags", "TerminateInstances",
    }  # fmt: skip
    assert len(asked) > 20
    assert [question for question in asked if not allows(launched.policies[HEAD], question)] == []
    assert [question for question in asked if allows(launched.policies[WORKER], question)] == []
    used = {question.action for question in asked}
    granted = {
        action
        for statement in launched.policies[HEAD]["Statement"]
        for action in statement["Action"]
        if not action.startswith("s3:")
    }
    assert granted == used  # and nothing that is not needed


def of(kind: str) -> str:
    return f"{EC2}{kind}/{kind}-1"


FOR_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
ROLE = f"arn:aws:iam::{NUMBER}:role/"
ANOTHER = {f"aws:{which}/{CLUSTER}": "another" for which in ("RequestTag", "ResourceTag")}
FORBIDDEN = [
    Question("ec2:TerminateInstances", of("instance")),
    Question("ec2:TerminateInstances", of("instance"), ANOTHER),
    Question("ec2:CreateTags", of("instance"), {f"aws:RequestTag/{CLUSTER}": "raygen"}),
    Question("ec2:CreateTags", of("security-group"), {"ec2:CreateAction": "RunInstances"}),
    Question("ec2:RunInstances", of("instance"), ANOTHER),
    Question("ec2:RunInstances", of("security-group")),
    Question("ec2:DescribeInstances", "*", {"aws:RequestedRegion": "eu-west-1"}),
    Question("ec2:AuthorizeSecurityGroupIngress", of("security-group")),
    Question("iam:PassRole", f"{ROLE}Administrator", FOR_EC2),
    Question("iam:PassRole", f"{ROLE}{HEAD}", FOR_EC2),
    Question("iam:PassRole", f"{ROLE}{WORKER}", {"iam:PassedToService": "lambda.amazonaws.com"}),
    Question("s3:GetObject", "arn:aws:s3:::another/runs"),
    Question("s3:ListBucket", "arn:aws:s3:::another"),
    Question("s3:DeleteBucket", f"arn:aws:s3:::{BUCKET}"),
    Question("s3:PutBucketPolicy", f"arn:aws:s3:::{BUCKET}"),
]


def test_neither_head_nor_worker_may_touch_anything_else(launched: Launched) -> None:
    for policy in launched.policies.values():
        assert [question for question in FORBIDDEN if allows(policy, question)] == []


def keys_of(session: Any, role: str) -> dict[str, str]:
    """What a machine with this role finds in its metadata."""
    arn = f"arn:aws:iam::{NUMBER}:role/{role}"
    given = session.client("sts").assume_role(RoleArn=arn, RoleSessionName="machine")["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


@pytest.mark.parametrize("role", [HEAD, WORKER])
def test_motos_iam_lets_the_head_start_workers_and_use_the_bucket_and_the_worker_only_the_latter(
    launched: Launched, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    import boto3
    from moto.core import set_initial_no_auth_action_count
    from ray.autoscaler._private.aws.utils import resource_cache

    # Actions as they are; resources and conditions of EC2 in the only form that moto knows.
    policy = json.loads(json.dumps(launched.policies[role]))
    for statement in policy["Statement"]:
        if not statement["Sid"].endswith(("Bucket", "Objects")):
            statement["Resource"] = "*"
            statement.pop("Condition", None)
    iam, s3 = launched.session.client("iam"), launched.session.client("s3")
    iam.put_role_policy(RoleName=role, PolicyName=role, PolicyDocument=json.dumps(policy))
    s3.delete_bucket_policy(Bucket=BUCKET)  # whose condition moto takes for one that holds
    for key, value in keys_of(launched.session, role).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    resource_cache.cache_clear()

    @set_initial_no_auth_action_count(0)
    def as_this_machine() -> None:
        from botocore.exceptions import ClientError

        if role == HEAD:
            life_of_workers(launched.config)
        else:
            with pytest.raises(ClientError, match=r"not authorized|UnauthorizedOperation"):
                boto3.client("ec2").describe_instances()
        machine = boto3.client("s3")
        machine.put_object(Bucket=BUCKET, Key="runs/a", Body=b"1")
        assert machine.get_object(Bucket=BUCKET, Key="runs/a")["Body"].read() == b"1"
        assert machine.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
        machine.delete_object(Bucket=BUCKET, Key="runs/a")
        with pytest.raises(ClientError, match="AccessDenied"):
            machine.put_object(Bucket="another", Key="runs/a", Body=b"1")
        with pytest.raises(ClientError, match="AccessDenied"):
            boto3.client("iam").list_roles()

    as_this_machine()
