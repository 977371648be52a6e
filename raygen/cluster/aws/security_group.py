"""The security group of a cluster: what may reach its machines."""

from collections.abc import Iterable
from typing import Any

from raygen.cluster.aws.account import Account
from raygen.cluster.aws.resource import State, tags_of
from raygen.cluster.aws.rights import TAG

Rule = tuple[str, int, int, str]  # protocol, first port, last port, source


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
        if tags_of(group.get("Tags", [])).get(TAG) != self.cluster:
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
        tagged = [g for g in groups if tags_of(g.get("Tags", [])).get(TAG) == self.cluster]
        group = next(iter([*tagged, *groups]), None)
        self.id = group["GroupId"] if group else None
        return group

    def _wanted(self) -> set[Rule]:
        return {("-1", -1, -1, str(self.id))} | {("tcp", 22, 22, cidr) for cidr in self.ssh_from}


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
