"""An AWS account that moto plays, with what moto leaves out of a real one."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

loaders = pytest.importorskip("botocore.loaders", reason="boto3 is not installed")

REGION = "us-west-2"
NUMBER = "123456789012"
ROOM = 64.0  # vCPUs of each quota
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # three seconds of each test
}


MODELS = functools.cache(loaders.create_loader)


@contextmanager
def account(home: Path, patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty account; a session of boto3. `home` is that of its user."""
    moto = pytest.importorskip("moto", reason="moto is not installed")
    for key, value in {**KEYS, "HOME": str(home)}.items():
        patch.setenv(key, value)
    for key in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        patch.delenv(key, raising=False)
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    # One reader of the models of the services, which take seconds to read, for all sessions.
    patch.setattr("botocore.session.create_loader", MODELS)
    with moto.mock_aws(config={"core": {"reset_boto3_session": False}}):
        import boto3
        from moto.servicequotas.models import ServiceQuotasBackend

        def quota(self: Any, service_code: str, quota_code: str) -> Any:
            assert service_code == "ec2"
            return {"QuotaCode": quota_code, "Value": ROOM}

        publish_image()
        patch.setattr(ServiceQuotasBackend, "get_service_quota", quota)
        yield boto3.Session()


def publish_image(region: str = REGION) -> str:
    """Let moto's AWS publish an image under the name at which raygen looks; return it."""
    import boto3
    from moto.ssm.models import Parameter, ssm_backends

    from raygen.cluster.aws.survey import IMAGE

    ec2 = boto3.client("ec2", region_name=region)
    image = ec2.register_image(Name="deep learning", ImageLocation="s3")["ImageId"]
    ssm_backends[NUMBER][region]._parameters[IMAGE].append(
        Parameter(NUMBER, IMAGE, image, "String", "", "", "", 0, 1, "text", tier="Standard")
    )
    return image


def listing(session: Any) -> dict[str, Any]:
    """All that could be made in the account, by kind."""
    ec2, iam, s3 = (session.client(name) for name in ("ec2", "iam", "s3"))
    machines = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    return {
        "buckets": sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"]),
        "groups": sorted(g["GroupName"] for g in ec2.describe_security_groups()["SecurityGroups"]),
        "machines": [m["InstanceId"] for m in machines if m["State"]["Name"] != "terminated"],
        "roles": sorted(
            role["RoleName"]
            for role in iam.list_roles()["Roles"]
            if not role["Path"].startswith("/aws-service-role/")
        ),
        "profiles": sorted(
            profile["InstanceProfileName"]
            for profile in iam.list_instance_profiles()["InstanceProfiles"]
        ),
        "policies": sorted(p["PolicyName"] for p in iam.list_policies(Scope="Local")["Policies"]),
    }


def recorded_calls(patch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What AWS is asked from now on: operations and what they were given."""
    from botocore.client import BaseClient

    calls: list[tuple[str, dict[str, Any]]] = []
    call = BaseClient._make_api_call  # pyright: ignore[reportAttributeAccessIssue]

    def recorded(self: Any, operation: str, given: dict[str, Any]) -> Any:
        calls.append((operation, given))
        return call(self, operation, given)

    patch.setattr(BaseClient, "_make_api_call", recorded)
    return calls
