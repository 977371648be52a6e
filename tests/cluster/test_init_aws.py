"""raygen cluster init aws and remove, on an account that moto plays."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cluster.account import NUMBER, REGION, account, listing, publish_image, recorded_calls
from raygen.cli import main
from raygen.cluster.aws import survey
from raygen.cluster.files import check_cluster

BUCKET = f"raygen-{NUMBER}-{REGION}"
HEAD, WORKER = f"raygen-{REGION}-head", f"raygen-{REGION}-worker"
GROUP = "raygen-cluster-raygen"
INIT = "cluster init aws --ssh-from 203.0.113.7"
MADE = {"buckets": [BUCKET], "roles": [HEAD, WORKER], "profiles": [HEAD, WORKER]}
CHANGES = ("Create", "Put", "Add", "Authorize", "Revoke", "Delete", "Update", "Remove", "Detach")


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account of a user whose home and current folder are the test's."""
    monkeypatch.chdir(tmp_path)
    with account(tmp_path, monkeypatch) as session:
        yield session


@pytest.fixture
def calls(aws: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What AWS is asked from now on: operations and what they were given."""
    return recorded_calls(monkeypatch)


def raygen(line: str, code: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(main, shlex.split(line), input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(line: str, *parts: str, code: int = 2) -> None:
    """One line on stderr after the plan, and nothing was made."""
    lines = raygen(line, code).stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert sum(text.startswith("error: ") for text in lines) == 1
    for part in parts:
        assert part in lines[-1]


def group_of(aws: Any) -> dict[str, Any]:
    groups = aws.client("ec2").describe_security_groups()["SecurityGroups"]
    (group,) = [group for group in groups if group["GroupName"] == GROUP]
    return group


def policy(aws: Any, role: str) -> dict[str, Any]:
    return aws.client("iam").get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]


def document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_an_empty_account_becomes_a_cluster_and_then_empty_again(aws: Any) -> None:
    before = listing(aws)

    said = raygen(f"{INIT} --yes")
    made = listing(aws)
    check_cluster(Path("gpu.yaml"))
    raygen("validate gpu.yaml")
    raygen("cluster remove gpu.yaml --yes")

    assert {kind: made[kind] for kind in MADE} == MADE
    assert "wrote gpu.yaml\n" in said.stderr
    assert said.stdout.splitlines() == [
        "ray up gpu.yaml",
        f"raygen doctor --cluster gpu.yaml --storage s3://{BUCKET}/runs",
        f"raygen tune gan --cluster gpu.yaml --storage s3://{BUCKET}/runs",
        "ray down gpu.yaml",
        "raygen cluster remove gpu.yaml",
    ]
    assert listing(aws) == before
    assert raygen("cluster remove gpu.yaml --yes").stdout == "nothing to remove\n"
    assert (Path(".ray") / "auth_token").stat().st_mode & 0o777 == 0o600


def test_a_second_init_and_a_dry_run_change_nothing(aws: Any, calls: list[Any]) -> None:
    raygen(f"{INIT} --yes")
    text, after = Path("gpu.yaml").read_text(), listing(aws)
    calls.clear()

    again = raygen(INIT)  # and needs no consent
    plan = raygen(f"{INIT} --dry-run")

    assert "gpu.yaml: nothing to change" in again.stderr
    assert not [operation for operation, _ in calls if operation.startswith(CHANGES)]
    assert Path("gpu.yaml").read_text() == text
    assert listing(aws) == after
    assert "make " not in plan.stdout


def test_a_dry_run_prints_every_policy_as_it_is_made_then(aws: Any) -> None:
    before = listing(aws)
    plan = raygen(f"{INIT} --dry-run").stdout
    documents = [json.loads(text) for text in re.findall(r"^\{\n.*?^\}$", plan, re.M | re.S)]
    assert listing(aws) == before
    assert not Path("gpu.yaml").exists()

    raygen(f"{INIT} --yes")

    assert policy(aws, HEAD) in documents
    assert policy(aws, WORKER) in documents
    stored = json.loads(aws.client("s3").get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert stored["Statement"] == documents[-1:]


def test_the_file_says_what_the_account_has_and_keeps_its_comments(aws: Any) -> None:
    raygen(f"{INIT} --yes --name deep-2 --max-workers 1 --spot-type g6.xlarge"
           " --on-demand-type g5.xlarge")  # fmt: skip

    text = Path("gpu.yaml").read_text()
    config = yaml.safe_load(text)
    nodes = {name: node["node_config"] for name, node in config["available_node_types"].items()}
    image = aws.client("ssm").get_parameter(Name=survey.IMAGE)["Parameter"]["Value"]
    assert config["cluster_name"] == "deep-2"
    assert config["provider"]["availability_zone"] == f"{REGION}a,{REGION}b,{REGION}c"
    assert {node["ImageId"] for node in nodes.values()} == {image}
    assert nodes["head"]["IamInstanceProfile"] == {"Name": f"deep-2-{REGION}-head"}
    assert nodes["gpu.spot"]["InstanceType"] == "g6.xlarge"
    assert nodes["gpu.ondemand"]["InstanceType"] == "g5.xlarge"
    _, *workers = config["available_node_types"].values()
    assert [node["max_workers"] for node in workers] == [1, 1]
    assert text.startswith("# ray up gpu.yaml\n")
    assert "# terminate: the disk of a stopped node still costs" in text
    assert "REPLACE-ME" not in text
    assert f"s3://deep-2-{NUMBER}-{REGION}/runs" in text


def test_nothing_is_open_to_the_world(aws: Any) -> None:
    raygen(f"{INIT} --yes --ssh-from 2001:db8::7 --ssh-from 198.51.100.0/24")

    group = group_of(aws)
    inside, *ssh = group["IpPermissions"]
    assert inside["IpProtocol"] == "-1"
    assert [pair["GroupId"] for pair in inside["UserIdGroupPairs"]] == [group["GroupId"]]
    assert {(r["IpProtocol"], r["FromPort"], r["ToPort"]) for r in ssh} == {("tcp", 22, 22)}
    cidrs = {source["CidrIp"] for rule in ssh for source in rule["IpRanges"]}
    assert cidrs == {"203.0.113.7/32", "198.51.100.0/24"}
    assert {s["CidrIpv6"] for rule in ssh for s in rule["Ipv6Ranges"]} == {"2001:db8::7/128"}
    s3 = aws.client("s3")
    blocked = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4
    assert all(blocked.values())
    rules = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}


def test_everything_carries_the_name_of_the_cluster(aws: Any) -> None:
    raygen(f"{INIT} --yes")

    iam, tag = aws.client("iam"), {"Key": "raygen-cluster", "Value": "raygen"}
    for role in (HEAD, WORKER):
        assert iam.get_role(RoleName=role)["Role"]["Tags"] == [tag]
        profile = iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
        assert profile["Tags"] == [tag]
        assert [each["RoleName"] for each in profile["Roles"]] == [role]
    assert tag in group_of(aws)["Tags"]
    assert aws.client("s3").get_bucket_tagging(Bucket=BUCKET)["TagSet"] == [tag]


@pytest.mark.parametrize("last", range(1, 17, 3))
def test_an_init_that_broke_off_is_completed_and_a_remove_that_broke_off_too(
    aws: Any, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import EndpointConnectionError

    before = listing(aws)
    call = BaseClient._make_api_call  # pyright: ignore[reportAttributeAccessIssue]
    done = 0

    def breaks(self: Any, operation: str, given: dict[str, Any]) -> Any:
        nonlocal done
        if operation.startswith(CHANGES):
            done += 1
            if done > last:
                raise EndpointConnectionError(endpoint_url="https://aws")
        return call(self, operation, given)

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", breaks)
        refused(f"{INIT} --yes", "AWS cannot be reached", code=4)
    raygen(f"{INIT} --yes")
    assert "nothing to change" in raygen(INIT).stderr

    done = 0
    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", breaks)
        CliRunner().invoke(main, shlex.split("cluster remove gpu.yaml --yes"))
    raygen("cluster remove gpu.yaml --yes")
    assert listing(aws) == before


def test_what_somebody_changed_is_set_right_and_what_they_added_to_the_bucket_stays(
    aws: Any,
) -> None:
    raygen(f"{INIT} --yes")
    s3, ec2, iam = (aws.client(name) for name in ("s3", "ec2", "iam"))
    group = group_of(aws)["GroupId"]
    world = {"CidrIp": "0.0.0.0/0", "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    ec2.authorize_security_group_ingress(GroupId=group, **world)
    s3.delete_public_access_block(Bucket=BUCKET)
    rule = {"Sid": "Mine", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket",
            "Resource": f"arn:aws:s3:::{BUCKET}"}  # fmt: skip
    s3.put_bucket_policy(Bucket=BUCKET, Policy=document(rule))
    wide = document({"Effect": "Allow", "Action": "*", "Resource": "*"})
    iam.put_role_policy(RoleName=WORKER, PolicyName=WORKER, PolicyDocument=wide)

    plan = raygen(f"{INIT} --dry-run").stdout
    raygen(f"{INIT} --yes")

    assert "close tcp 22 from 0.0.0.0/0" in plan
    assert "no public access" in plan
    assert "0.0.0.0/0" not in str(group_of(aws)["IpPermissions"])
    assert policy(aws, WORKER) != json.loads(wide)
    statements = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert [statement["Sid"] for statement in statements] == ["Mine", "RaygenTlsOnly"]


def test_a_policy_that_somebody_gave_to_a_role_is_in_the_plan_and_stays(aws: Any) -> None:
    raygen(f"{INIT} --yes")
    iam = aws.client("iam")
    wide = document({"Effect": "Allow", "Action": "*", "Resource": "*"})
    arn = iam.create_policy(PolicyName="Everything", PolicyDocument=wide)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=WORKER, PolicyArn=arn)
    iam.put_role_policy(RoleName=HEAD, PolicyName="mine", PolicyDocument=wide)

    again = raygen(INIT).stderr

    for policy_name, role in (("Everything", WORKER), ("mine", HEAD)):
        (line,) = [line for line in again.splitlines() if policy_name in line]
        assert line.startswith("LOOK      policy")
        assert line.endswith(f"on {role}, not raygen's: stays until `raygen cluster remove`")
    assert iam.list_role_policies(RoleName=HEAD)["PolicyNames"] == [HEAD, "mine"]
    raygen("cluster remove gpu.yaml --yes")
    assert listing(aws)["roles"] == []


def test_a_profile_that_holds_another_role_gets_its_own_back(aws: Any) -> None:
    raygen(f"{INIT} --yes")
    iam = aws.client("iam")
    iam.create_role(RoleName="admin", AssumeRolePolicyDocument="{}")
    iam.remove_role_from_instance_profile(InstanceProfileName=WORKER, RoleName=WORKER)
    iam.add_role_to_instance_profile(InstanceProfileName=WORKER, RoleName="admin")

    assert "the role in its profile" in raygen(f"{INIT} --yes").stderr

    (role,) = iam.get_instance_profile(InstanceProfileName=WORKER)["InstanceProfile"]["Roles"]
    assert role["RoleName"] == WORKER


@pytest.mark.parametrize("kind", ["bucket", "group", "role", "profile"])
def test_what_raygen_did_not_make_is_refused_by_init_and_left_by_remove(
    aws: Any, kind: str
) -> None:
    if kind == "bucket":
        place = {"LocationConstraint": REGION}
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        aws.client("s3").put_object(Bucket=BUCKET, Key="cat.png", Body=b"")
    elif kind == "group":
        aws.client("ec2").create_security_group(GroupName=GROUP, Description="mine")
    elif kind == "role":
        aws.client("iam").create_role(RoleName=HEAD, AssumeRolePolicyDocument="{}")
    else:
        aws.client("iam").create_instance_profile(InstanceProfileName=HEAD)
    before = listing(aws)

    refused(f"{INIT} --yes", "is not raygen's", "give")
    Path("gpu.yaml").write_text(f"cluster_name: raygen\nprovider: {{type: aws, region: {REGION}}}")
    left = raygen("cluster remove gpu.yaml --yes --with-data")

    assert left.stdout == "nothing to remove\n"
    assert "not made by raygen" in left.stderr
    assert listing(aws) == before


def test_a_bucket_of_the_users_own_is_used_as_it_is_and_never_removed(aws: Any) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="pictures", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="pictures", Key="cat.png", Body=b"")
    before = listing(aws)

    raygen(f"{INIT} --yes --bucket pictures")
    assert "s3://pictures/runs" in Path("gpu.yaml").read_text()
    assert "arn:aws:s3:::pictures/*" in json.dumps(policy(aws, WORKER))
    raygen("cluster remove gpu.yaml --yes --with-data")

    assert listing(aws) == before
    assert s3.list_objects_v2(Bucket="pictures")["KeyCount"] == 1
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchTagSet"):
        s3.get_bucket_tagging(Bucket="pictures")


def test_a_bucket_that_is_denied_is_one_line_and_does_not_keep_remove_from_the_rest(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    raygen(f"{INIT} --yes")
    call = BaseClient._make_api_call  # pyright: ignore[reportAttributeAccessIssue]

    def denied(self: Any, operation: str, given: dict[str, Any]) -> Any:
        if operation == "HeadBucket":
            raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, operation)
        return call(self, operation, given)

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", denied)
        refused(f"{INIT} --yes --bucket theirs", "bucket theirs", "another account's")
        raygen("cluster remove gpu.yaml --yes --with-data")

    assert listing(aws)["buckets"] == [BUCKET]
    assert listing(aws)["roles"] == []


def test_clusters_of_one_name_in_two_regions_have_nothing_in_common(aws: Any) -> None:
    publish_image("us-east-1")  # whose buckets are made in another way
    raygen(f"{INIT} --yes")
    before = listing(aws)

    raygen(f"{INIT} --yes --region us-east-1 east")
    both = listing(aws)
    raygen("cluster remove east/gpu.yaml --yes")

    assert both["buckets"] == [f"raygen-{NUMBER}-us-east-1", BUCKET]
    assert len(both["roles"]) == 4
    assert listing(aws) == before
    assert "nothing to change" in raygen(INIT).stderr


def test_studies_are_removed_only_if_that_is_asked_for_with_all_their_versions(aws: Any) -> None:
    raygen(f"{INIT} --yes")
    s3 = aws.client("s3")
    s3.delete_bucket_policy(
        Bucket=BUCKET
    )  # moto refuses whatever a statement with a condition names
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=BUCKET, Key="runs/gan/journal", Body=body)
    s3.delete_object(Bucket=BUCKET, Key="runs/gan/journal")

    kept = raygen("cluster remove gpu.yaml --yes").stdout
    assert f"left bucket {BUCKET}: it is not empty; --with-data" in kept
    assert listing(aws)["buckets"] == [BUCKET]
    assert listing(aws)["roles"] == []
    gone = raygen("cluster remove gpu.yaml --yes --with-data")

    assert "with ALL studies in it" in gone.stderr
    assert listing(aws)["buckets"] == []


def test_machines_that_still_run_must_go_first(aws: Any) -> None:
    raygen(f"{INIT} --yes")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "ray-cluster-name", "Value": "raygen"}]}]
    ec2 = aws.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    machine = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags
    )["Instances"][0]["InstanceId"]  # fmt: skip

    refused("cluster remove gpu.yaml --yes", machine, "ray down")
    assert {kind: listing(aws)[kind] for kind in MADE} == MADE
    ec2.terminate_instances(InstanceIds=[machine])
    raygen("cluster remove gpu.yaml --yes")


def test_nothing_happens_without_consent(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing(aws)
    refused(INIT, "--yes is needed where nobody can be asked")
    refused("cluster init aws", "--ssh-from is missing")
    assert listing(aws) == before

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("raygen.cli.cluster.sys", type("Sys", (), {"stdin": Terminal()}))
    no = raygen("cluster init aws", code=1, answer="203.0.113.7\nn\n")
    assert "nothing was changed" in no.stderr
    assert listing(aws) == before
    raygen("cluster init aws", answer="203.0.113.7\ny\n")
    raygen("cluster remove gpu.yaml", code=1, answer="n\n")
    assert {kind: listing(aws)[kind] for kind in MADE} == MADE


def test_a_file_of_the_users_is_not_overwritten(aws: Any) -> None:
    before = listing(aws)
    Path("gpu.yaml").write_text("mine: 1\n")

    refused(f"{INIT} --yes", "gpu.yaml:1: exists and differs", "--force")
    assert listing(aws) == before
    raygen(f"{INIT} --yes --force")
    text = Path("gpu.yaml").read_text()
    Path("gpu.yaml").write_text(text.replace("VolumeSize: 150", "VolumeSize: 300"))
    line = text[: text.index("VolumeSize: 150")].count("\n") + 1
    refused(f"{INIT} --yes", f"gpu.yaml:{line}:", "VolumeSize: 300", "VolumeSize: 150")
    refused(f"{INIT} --dry-run", f"gpu.yaml:{line}:", "VolumeSize: 300", "VolumeSize: 150")
    Path("gpu.yaml").write_bytes(b"\xff")
    refused(f"{INIT} --dry-run", "gpu.yaml:1: exists and differs")


def test_a_file_that_cannot_be_written_is_noticed_before_anything_is_made(
    aws: Any, calls: list[Any]
) -> None:
    Path("note").write_text("")

    refused(f"{INIT} --yes note/deep", "note/deep/gpu.yaml: ", "note is not a folder")
    assert not calls  # not even asked for its number
    refused(f"{INIT} --yes --force /proc/raygen", "/proc/raygen/gpu.yaml: could not be written",
            code=1)  # fmt: skip
    refused(f"{INIT} --yes --force {'long' * 100}", "File name too long", code=1)

    assert not [operation for operation, _ in calls if operation.startswith(CHANGES)]


@pytest.mark.parametrize(
    ("region", "near"), [("us-wst-2", "us-west-2"), ("us-west-2a", "us-west-2"), ("Oregon", "such")]
)
def test_a_region_that_aws_does_not_have_is_one_line_with_the_nearest(
    aws: Any, calls: list[Any], region: str, near: str
) -> None:
    refused(f"{INIT} --region {region}", f"--region {region}: must be an AWS region", near)
    Path("gpu.yaml").write_text(f"cluster_name: raygen\nprovider: {{type: aws, region: {region}}}")
    refused("cluster remove gpu.yaml", f"gpu.yaml:2:23: provider.region: '{region}': must", near)

    assert not calls


def test_a_newer_image_does_not_change_a_cluster_that_has_one(aws: Any) -> None:
    raygen(f"{INIT} --yes")
    text = Path("gpu.yaml").read_text()
    newest = publish_image()

    raygen("cluster init aws --ssh-from 198.51.100.4 --yes")  # the laptop has moved

    assert Path("gpu.yaml").read_text() == text
    assert "198.51.100.4/32" in str(group_of(aws)["IpPermissions"])
    raygen("cluster init aws --ssh-from 198.51.100.4 --yes --force")
    assert newest in Path("gpu.yaml").read_text()


def test_a_small_quota_and_one_that_cannot_be_read_are_said(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.servicequotas.exceptions import NoSuchResource
    from moto.servicequotas.models import ServiceQuotasBackend

    def unread(*_: Any, **__: Any) -> None:
        raise NoSuchResource

    small = raygen(f"{INIT} --dry-run --max-workers 17").stdout.splitlines()
    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", unread)
    unknown = raygen(f"{INIT} --dry-run").stdout.splitlines()

    (spot,) = [line for line in small if "× g5.xlarge" in line]
    assert spot.startswith("LOOK")
    assert "17 × g5.xlarge: 68 vCPUs spot, quota 64: fewer machines will start" in spot
    assert sum("the quota could not be read" in line for line in unknown) == 3


@pytest.mark.parametrize(
    ("name", "market", "code"),
    [
        ("g5.xlarge", "spot", "L-3819A6DF"),
        ("g6e.12xlarge", "on-demand", "L-DB2E81BA"),
        ("vt1.3xlarge", "spot", "L-3819A6DF"),
        ("p4d.24xlarge", "spot", "L-7212CCBC"),
        ("p5.48xlarge", "on-demand", "L-417A185B"),
        ("p5.48xlarge", "spot", None),
        ("m6i.2xlarge", "on-demand", "L-1216C47A"),
        ("c7i-flex.large", "on-demand", "L-1216C47A"),
        ("u-6tb1.metal", "on-demand", None),
    ],
)
def test_each_machine_is_counted_against_the_quota_of_its_family(
    name: str, market: str, code: str | None
) -> None:
    assert survey.quota_code(name, market) == code


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ("--ssh-from 0.0.0.0/0", ["opens SSH to the world"]),
        ("--ssh-from ::/0", ["opens SSH to the world"]),
        ("--ssh-from 0.0.0.0/1", ["opens SSH to the world"]),
        ("--ssh-from home", ["--ssh-from home", "203.0.113.7/32"]),
        ("--name Raygen", ["--name Raygen"]),
        ("--name 'a: b'", ["--name a: b"]),
        ("--bucket s3://mine", ["--bucket s3://mine", "without s3://"]),
        ("--image ubuntu", ["--image ubuntu"]),
        ("--vpc default", ["--vpc default"]),
        ("--max-workers 0", ["--max-workers 0"]),
        ("--spot-type g5", ["--spot-type g5"]),
    ],
)
def test_what_cannot_be_is_one_line_before_aws_is_asked_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr("raygen.cluster.aws.account.Account", None)

    refused(f"{INIT} --yes {more}", *parts)

    assert not Path("gpu.yaml").exists()


def test_all_that_cannot_be_is_said_at_once(aws: Any) -> None:
    wrong = "--name 'my cluster' --max-workers 0 --bucket s3://x --ssh-from home"

    said = raygen(f"{INIT} --yes {wrong}", 2).stderr.splitlines()

    assert [line.split()[1] for line in said] == [
        "--name", "--bucket", "--max-workers", "--ssh-from",
    ]  # fmt: skip


def test_what_aws_does_not_have_is_one_line_and_makes_nothing(aws: Any) -> None:
    before = listing(aws)

    refused(f"{INIT} --yes --image ami-00000000", "ami-00000000: no such image in us-west-2")
    refused(f"{INIT} --yes --spot-type g5.xlrge", "--spot-type g5.xlrge: no such machine in",
            "us-west-2; did you mean 'g5.xlarge'?")  # fmt: skip
    refused(f"{INIT} --yes --spot-type m6i.xlarge", "m6i.xlarge", "NVIDIA")
    refused(f"{INIT} --yes --spot-type g5g.xlarge", "g5g.xlarge", "x86_64")

    assert listing(aws) == before
    assert not Path("gpu.yaml").exists()


def test_an_account_without_a_network_a_zone_or_an_image_is_one_line(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    refused(f"{INIT} --yes --vpc {vpc}", "no subnet that gives out public addresses")
    zone = {"VpcId": vpc, "CidrBlock": "10.0.0.0/24", "AvailabilityZone": f"{REGION}d"}
    subnet = ec2.create_subnet(**zone)["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    refused(f"{INIT} --yes --vpc {vpc}", f"no zone of {vpc}", "g5.xlarge: us-west-2a", "--region")
    refused(f"{INIT} --yes --region eu-west-1", "no deep learning image in eu-west-1", "--image")

    default = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]
    for each in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=each["SubnetId"])
    ec2.delete_vpc(VpcId=default["VpcId"])
    refused(f"{INIT} --yes", "no default VPC in us-west-2", "aws ec2 create-default-vpc", "--vpc")


@pytest.mark.parametrize(
    ("code", "said", "exit_code"),
    [
        ("UnauthorizedOperation", "lack the right to CreateSecurityGroup", 4),
        ("AccessDenied", "lack the right to CreateSecurityGroup", 4),
        ("ExpiredToken", "log in again", 4),
        ("RequestLimitExceeded", "run the same command again", 4),
        ("BucketAlreadyExists", "give --bucket NAME", 2),
        ("DependencyViolation", "wait a minute", 1),
        ("VpcLimitExceeded", "AWS refuses CreateSecurityGroup: VpcLimitExceeded: because", 1),
    ],
)
def test_what_aws_answers_is_one_line_that_says_what_to_do(
    aws: Any, monkeypatch: pytest.MonkeyPatch, code: str, said: str, exit_code: int
) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

    call = BaseClient._make_api_call  # pyright: ignore[reportAttributeAccessIssue]

    def refuses(self: Any, operation: str, given: dict[str, Any]) -> Any:
        if operation == "CreateSecurityGroup":
            raise ClientError({"Error": {"Code": code, "Message": "because\nof"}}, operation)
        return call(self, operation, given)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuses)

    refused(f"{INIT} --yes", said, code=exit_code)


def test_no_credentials_no_region_and_no_boto3_are_one_line_each(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("AWS_DEFAULT_REGION")
        refused(INIT, "--region is missing")
    with monkeypatch.context() as patch:
        patch.setattr("boto3.DEFAULT_SESSION", None)  # which remembers them
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        refused(INIT, "no AWS credentials", "aws configure", code=4)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_PROFILE", "nobody")
        patch.setattr("boto3.DEFAULT_SESSION", None)
        refused(INIT, "nobody")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "boto3", None)
        refused(INIT, "uv sync --extra aws")
        refused(f"{INIT} --region us-west-2", "uv sync --extra aws")


def test_remove_needs_the_file_of_a_cluster_on_aws(aws: Any) -> None:
    Path("local.yaml").write_text("cluster_name: mine\nprovider: {type: local}\n")
    refused("cluster remove local.yaml", "local.yaml:2:", "nothing was made")
    refused("cluster remove nope.yaml", "nope.yaml: no such file")
    Path("slurm.sh").write_text("#!/bin/bash\n")
    refused("cluster remove slurm.sh", "slurm.sh: nothing was made for this cluster")
    Path("bare.yaml").write_text("provider: {type: aws}\n")
    refused("cluster remove bare.yaml", "needs cluster_name and provider.region")
