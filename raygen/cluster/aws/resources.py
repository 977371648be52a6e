"""What `raygen cluster init aws` makes: each can be looked at, made or completed, and removed."""

import json
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Protocol

from raygen.cluster.aws.account import Account, absent, error_code
from raygen.cluster.aws.rights import TAG, TRUST, Policy, tls_only

PRIVATE = {
    "BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}  # fmt: skip
ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
SPOT = "spot.amazonaws.com"
US_EAST = "us-east-1"  # the one region that S3 does not want to be told
Rule = tuple[str, int, int, str]  # protocol, first port, last port, source


class State(NamedTuple):
    """What is there: nothing, raygen's, the user's own bucket, or somebody else's."""

    status: Literal["absent", "ours", "brought", "foreign"]
    lacks: tuple[str, ...] = ()  # of what exists: what `make` adds or changes

    @property
    def complete(self) -> bool:
        """Whether nothing has to be made."""
        return self.status in ("ours", "brought") and not self.lacks


class Resource(Protocol):
    """One thing in the account. `purpose` is what a plan says of it."""

    kind: str
    name: str
    purpose: str

    def look(self) -> State:
        """Return what is there now."""
        ...

    def make(self) -> None:
        """Make it, or add what it lacks."""
        ...

    def remove(self) -> str:
        """Take it away, and return what was left of it, and why; "" if nothing was."""
        ...


class Bucket:
    """Studies and checkpoints: encrypted, private, over TLS only."""

    kind = "bucket"
    purpose = "studies and checkpoints; encrypted, no public access, TLS only"

    def __init__(self, account: Account, name: str, cluster: str, given: bool = False) -> None:
        """`given`: named by the user, who may have it already."""
        self.account, self.name, self.cluster, self.given = account, name, cluster, given
        self.with_data = False  # whether `remove` deletes what is in it
        self.client = account.client("s3")

    def look(self) -> State:
        owner = {} if self.given else {"ExpectedBucketOwner": self.account.number}
        try:
            self.client.head_bucket(Bucket=self.name, **owner)
        except self.client.exceptions.ClientError as error:
            code = error_code(error)
            if code == "404":
                return State("absent")
            if code == "403" and not self.given:
                return State("foreign")
            raise
        if self._tags().get(TAG) != self.cluster:
            return State("brought" if self.given else "foreign")
        checks = {
            "encryption": self._encrypted(),
            "no public access": self._private(),
            "TLS only": tls_only(self.account, self.name) in self._statements(),
        }
        return State("ours", tuple(name for name, holds in checks.items() if not holds))

    def make(self) -> None:
        if self.look().status == "absent":
            region = self.account.region
            place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self.client.create_bucket(Bucket=self.name, **(place if region != US_EAST else {}))
            tags = [{"Key": TAG, "Value": self.cluster}]
            self.client.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": tags})
        self.client.put_bucket_encryption(
            Bucket=self.name, ServerSideEncryptionConfiguration=ENCRYPTED
        )
        self.client.put_public_access_block(
            Bucket=self.name, PublicAccessBlockConfiguration=PRIVATE
        )
        rule = tls_only(self.account, self.name)
        others = [entry for entry in self._statements() if entry.get("Sid") != rule["Sid"]]
        policy = {"Version": "2012-10-17", "Statement": [*others, rule]}
        self.client.put_bucket_policy(Bucket=self.name, Policy=json.dumps(policy))

    def remove(self) -> str:
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name)
        for page in pages:
            listed = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if listed and not self.with_data:
                return "it is not empty; --with-data deletes it with all studies in it"
            objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in listed]
            if objects:
                self.client.delete_objects(Bucket=self.name, Delete={"Objects": objects})
        self.client.delete_bucket(Bucket=self.name)
        return ""

    def _tags(self) -> dict[str, str]:
        with absent("NoSuchTagSet"):
            return _tags(self.client.get_bucket_tagging(Bucket=self.name)["TagSet"])
        return {}

    def _encrypted(self) -> bool:
        with absent("ServerSideEncryptionConfigurationNotFoundError"):
            answer = self.client.get_bucket_encryption(Bucket=self.name)
            return bool(answer["ServerSideEncryptionConfiguration"]["Rules"])
        return False

    def _private(self) -> bool:
        with absent("NoSuchPublicAccessBlockConfiguration"):
            answer = self.client.get_public_access_block(Bucket=self.name)
            return answer["PublicAccessBlockConfiguration"] == PRIVATE
        return False

    def _statements(self) -> list[Policy]:
        with absent("NoSuchBucketPolicy"):
            return json.loads(self.client.get_bucket_policy(Bucket=self.name)["Policy"])[
                "Statement"
            ]
        return []


class SecurityGroup:
    """All traffic among the machines of the cluster, SSH from the user, nothing else."""

    kind = "security group"

    def __init__(
        self, account: Account, name: str, cluster: str, vpc: str, ssh_from: Iterable[str] = ()
    ) -> None:
        self.account, self.name, self.cluster, self.vpc = account, name, cluster, vpc
        self.ssh_from = tuple(ssh_from)
        self.client = account.client("ec2")
        self.id: str | None = None  # once it exists and was looked at
        self.purpose = f"all traffic among its members, SSH from {', '.join(self.ssh_from)}"

    def look(self) -> State:
        group = self._describe()
        if group is None:
            return State("absent")
        if _tags(group.get("Tags", [])).get(TAG) != self.cluster:
            return State("foreign")
        rules, wanted = _ingress(group["IpPermissions"]), self._wanted()
        changes = [f"open {_spoken(rule)}" for rule in sorted(wanted - rules)]
        changes += [f"close {_spoken(rule)}" for rule in sorted(rules - wanted)]
        return State("ours", tuple(changes))

    def make(self) -> None:
        group = self._describe()
        if group is None:
            tags = [{"Key": TAG, "Value": self.cluster}, {"Key": "Name", "Value": self.name}]
            self.id = self.client.create_security_group(
                GroupName=self.name,
                Description=f"raygen cluster {self.cluster}",
                VpcId=self.vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
            )["GroupId"]
            self.client.get_waiter("security_group_exists").wait(GroupIds=[self.id])
        rules = _ingress(group["IpPermissions"]) if group else set()
        opened = [_permission(rule) for rule in sorted(self._wanted() - rules)]
        closed = [_permission(rule) for rule in sorted(rules - self._wanted())]
        if opened:
            self.client.authorize_security_group_ingress(GroupId=self.id, IpPermissions=opened)
        if closed:
            self.client.revoke_security_group_ingress(GroupId=self.id, IpPermissions=closed)

    def remove(self) -> str:
        self.client.delete_security_group(GroupId=self.id)
        return ""

    def _describe(self) -> dict[str, Any] | None:
        filters = [{"Name": "group-name", "Values": [self.name]}]
        filters += [{"Name": "vpc-id", "Values": [self.vpc]}] if self.vpc else []
        groups = self.client.describe_security_groups(Filters=filters)["SecurityGroups"]
        tagged = [g for g in groups if _tags(g.get("Tags", [])).get(TAG) == self.cluster]
        group = next(iter([*tagged, *groups]), None)
        self.id = group["GroupId"] if group else None
        return group

    def _wanted(self) -> set[Rule]:
        return {("-1", -1, -1, str(self.id))} | {("tcp", 22, 22, cidr) for cidr in self.ssh_from}


class Role:
    """What machines may do: a role with one policy, and the instance profile of its name."""

    kind = "role"

    def __init__(
        self, account: Account, name: str, cluster: str, rights: Policy | None = None,
        purpose: str = "",
    ) -> None:  # fmt: skip
        self.name, self.cluster, self.rights, self.purpose = name, cluster, rights, purpose
        self.client = account.client("iam")

    def look(self) -> State:
        role, profile = self._role(), self._profile()
        present = [part for part in (role, profile) if part is not None]
        if not present:
            return State("absent")
        if any(_tags(part.get("Tags", [])).get(TAG) != self.cluster for part in present):
            return State("foreign")
        checks = {
            "the role": role is not None,
            "whom it trusts": role is not None and role["AssumeRolePolicyDocument"] == TRUST,
            "its policy": role is not None and self._policy() == self.rights,
            "the instance profile": profile is not None,
            "the role in its profile": profile is not None and bool(profile["Roles"]),
        }
        return State("ours", tuple(name for name, holds in checks.items() if not holds))

    def make(self) -> None:
        tags = [{"Key": TAG, "Value": self.cluster}]
        trust = json.dumps(TRUST)
        if self._role() is None:
            self.client.create_role(
                RoleName=self.name, AssumeRolePolicyDocument=trust, Tags=tags,
                Description=f"raygen cluster {self.cluster}: {self.purpose}",
            )  # fmt: skip
            self.client.get_waiter("role_exists").wait(RoleName=self.name)
        self.client.update_assume_role_policy(RoleName=self.name, PolicyDocument=trust)
        self.client.put_role_policy(
            RoleName=self.name, PolicyName=self.name, PolicyDocument=json.dumps(self.rights)
        )
        profile = self._profile()
        if profile is None:
            self.client.create_instance_profile(InstanceProfileName=self.name, Tags=tags)
            waiter = self.client.get_waiter("instance_profile_exists")
            waiter.wait(InstanceProfileName=self.name)
        if profile is None or not profile["Roles"]:
            self.client.add_role_to_instance_profile(
                InstanceProfileName=self.name, RoleName=self.name
            )

    def remove(self) -> str:
        profile = self._profile()
        if profile is not None:
            for role in profile["Roles"]:
                self.client.remove_role_from_instance_profile(
                    InstanceProfileName=self.name, RoleName=role["RoleName"]
                )
            self.client.delete_instance_profile(InstanceProfileName=self.name)
        if self._role() is None:
            return ""
        named = {"RoleName": self.name}
        for policy in self.client.list_attached_role_policies(**named)["AttachedPolicies"]:
            self.client.detach_role_policy(PolicyArn=policy["PolicyArn"], **named)
        for policy in self.client.list_role_policies(**named)["PolicyNames"]:
            self.client.delete_role_policy(PolicyName=policy, **named)
        self.client.delete_role(**named)
        return ""

    def _role(self) -> dict[str, Any] | None:
        with absent("NoSuchEntity"):
            return self.client.get_role(RoleName=self.name)["Role"]
        return None

    def _profile(self) -> dict[str, Any] | None:
        with absent("NoSuchEntity"):
            named = {"InstanceProfileName": self.name}
            return self.client.get_instance_profile(**named)["InstanceProfile"]
        return None

    def _policy(self) -> Policy | None:
        with absent("NoSuchEntity"):
            named = {"RoleName": self.name, "PolicyName": self.name}
            return self.client.get_role_policy(**named)["PolicyDocument"]
        return None


class SpotRole:
    """The account's one role for spot machines, without which the head could start none.

    It belongs to the account, so it stays.
    """

    kind, name = "service role", "EC2 Spot"
    purpose = "AWS's own, once per account: without it a head with few rights gets no spot machine"

    def __init__(self, account: Account) -> None:
        self.client = account.client("iam")

    def look(self) -> State:
        path = f"/aws-service-role/{SPOT}/"
        roles = self.client.list_roles(PathPrefix=path)["Roles"]
        return State("ours" if roles else "absent")

    def make(self) -> None:
        self.client.create_service_linked_role(AWSServiceName=SPOT)

    def remove(self) -> str:
        return "it is the account's"


def _tags(pairs: Iterable[dict[str, str]]) -> dict[str, str]:
    return {pair["Key"]: pair["Value"] for pair in pairs}


def _ingress(permissions: Iterable[dict[str, Any]]) -> set[Rule]:
    """What comes in, one rule for each source."""
    rules = set()
    for permission in permissions:
        sources = [pair["GroupId"] for pair in permission.get("UserIdGroupPairs", [])]
        sources += [source["CidrIp"] for source in permission.get("IpRanges", [])]
        sources += [source["CidrIpv6"] for source in permission.get("Ipv6Ranges", [])]
        sources += [source["PrefixListId"] for source in permission.get("PrefixListIds", [])]
        ports = (permission.get("FromPort", -1), permission.get("ToPort", -1))
        rules |= {(permission["IpProtocol"], *ports, source) for source in sources}
    return rules


def _permission(rule: Rule) -> dict[str, Any]:
    protocol, first, last, source = rule
    if source.startswith("sg-"):
        where = {"UserIdGroupPairs": [{"GroupId": source}]}
    elif source.startswith("pl-"):
        where = {"PrefixListIds": [{"PrefixListId": source}]}
    elif ":" in source:
        where = {"Ipv6Ranges": [{"CidrIpv6": source}]}
    else:
        where = {"IpRanges": [{"CidrIp": source}]}
    ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
    return {"IpProtocol": protocol, **ports, **where}


def _spoken(rule: Rule) -> str:
    protocol, first, last, source = rule
    ports = str(first) if first == last else f"{first}-{last}"
    return f"all to {source}" if protocol == "-1" else f"{protocol} {ports} from {source}"
