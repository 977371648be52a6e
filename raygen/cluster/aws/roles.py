"""The roles of a cluster's machines, and the account's own one for spot machines."""

import json
from collections.abc import Mapping
from typing import Any

from raygen.cluster.aws.account import Account, absent
from raygen.cluster.aws.resource import State, tags_of
from raygen.cluster.aws.rights import TAG, TRUST, Policy

SPOT = "spot.amazonaws.com"


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
        if any(tags_of(part.get("Tags", [])).get(TAG) != self.cluster for part in present):
            return State("foreign")
        checks = {
            "the role": role is not None,
            "whom it trusts": role is not None and role["AssumeRolePolicyDocument"] == TRUST,
            "its policy": role is not None and self._policy() == self.rights,
            "the instance profile": profile is not None,
            "the role in its profile": profile is not None and _held(profile) == [self.name],
        }
        lacks = tuple(name for name, holds in checks.items() if not holds)
        return State("ours", lacks, () if role is None else self._added())

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
        held = [] if profile is None else _held(profile)
        if held == [self.name]:
            return
        for other in held:  # a profile holds one role
            self.client.remove_role_from_instance_profile(
                InstanceProfileName=self.name, RoleName=other
            )
        self.client.add_role_to_instance_profile(InstanceProfileName=self.name, RoleName=self.name)

    def remove(self) -> str:
        profile = self._profile()
        if profile is not None:
            for role in _held(profile):
                self.client.remove_role_from_instance_profile(
                    InstanceProfileName=self.name, RoleName=role
                )
            self.client.delete_instance_profile(InstanceProfileName=self.name)
        if self._role() is None:
            return ""
        named = {"RoleName": self.name}
        for policy in self._attached():
            self.client.detach_role_policy(PolicyArn=policy["PolicyArn"], **named)
        for name in self._inline():
            self.client.delete_role_policy(PolicyName=name, **named)
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

    def _attached(self) -> list[dict[str, str]]:
        return self.client.list_attached_role_policies(RoleName=self.name)["AttachedPolicies"]

    def _inline(self) -> list[str]:
        return self.client.list_role_policies(RoleName=self.name)["PolicyNames"]

    def _added(self) -> tuple[str, ...]:
        """Names of the policies that somebody else gave the role."""
        attached = [policy["PolicyName"] for policy in self._attached()]
        return tuple(sorted({*attached, *self._inline()} - {self.name}))

    def _policy(self) -> Policy | None:
        with absent("NoSuchEntity"):
            named = {"RoleName": self.name, "PolicyName": self.name}
            return self.client.get_role_policy(**named)["PolicyDocument"]
        return None


def _held(profile: Mapping[str, Any]) -> list[str]:
    """The roles that an instance profile holds."""
    return [role["RoleName"] for role in profile["Roles"]]


class SpotRole:
    """The account's one role for spot machines, without which the head could start none.

    It belongs to the account, so it stays.
    """

    kind, name = "service role", "EC2 Spot"
    purpose = "AWS's own, one for each account, without which no spot machine starts"

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
