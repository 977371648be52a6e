"""What `raygen cluster init aws` and `raygen cluster remove` will do, and doing it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from raygen.cluster.aws import rights
from raygen.cluster.aws.account import Account, aws_errors, region_problem
from raygen.cluster.aws.bucket import StudyBucket
from raygen.cluster.aws.request import IMAGE, ClusterRequest
from raygen.cluster.aws.resource import Resource, State
from raygen.cluster.aws.roles import Role, SpotRole
from raygen.cluster.aws.security_group import SecurityGroup
from raygen.cluster.aws.survey import Site, survey
from raygen.cluster.files import is_script
from raygen.cluster.templates import AwsNames, gpu_file, machine_types
from raygen.document import Document, load_document
from raygen.errors import InputError

ROW = "{:<9} {:<15} {:<32} {}"
NO_GROUP = "sg-00000000"  # stands in the file until the group is made
LIVING = ("pending", "running", "shutting-down", "stopping", "stopped")
BUCKET_IN_FILE = re.compile(r"--storage s3://([^/\s]+)/")  # in the comment that begins the file


class InitPlan(NamedTuple):
    """What the cluster needs, in the order in which it is made, and the state of each."""

    account: Account
    request: ClusterRequest
    site: Site
    bucket: StudyBucket
    group: SecurityGroup
    head: Role
    worker: Role
    states: dict[str, State]

    @property
    def resources(self) -> list[Resource]:
        return [self.bucket, SpotRole(self.account), self.group, self.worker, self.head]

    @property
    def complete(self) -> bool:
        """Whether nothing has to be made."""
        return all(state.complete for state in self.states.values())

    @property
    def makes_roles(self) -> bool:
        """Whether roles are new, of which EC2 does not know at once."""
        return any(self.states[_key(role)].status == "absent" for role in (self.head, self.worker))

    def file(self, path: Path) -> str | None:
        """Return the cluster file, or None while its security group does not exist."""
        return self.draft(path) if self.group.id else None

    def draft(self, path: Path) -> str:
        """Return the cluster file, with a stand-in for what does not exist yet."""
        request, site = self.request, self.site
        return gpu_file(path, AwsNames(
            cluster=request.name, region=self.account.region, zones=site.zones, image=site.image,
            group=self.group.id or NO_GROUP, head_profile=self.head.name,
            worker_profile=self.worker.name, spot_type=request.spot_type,
            on_demand_type=request.on_demand_type, max_workers=request.max_workers,
            max_on_demand=request.max_on_demand, bucket=self.bucket.name,
        ))  # fmt: skip

    def lines(self) -> Iterator[str]:
        """The plan, as text."""
        account, site = self.account, self.site
        yield f"cluster {self.request.name} in account {account.number}, {account.region}"
        yield ROW.format("exists", "image", site.image, site.image_origin)
        zones = f"{site.vpc_origin}; all machines are in {', '.join(site.zones)}"
        yield ROW.format("exists", "network", site.vpc, zones)
        for need in site.needs:
            yield ROW.format("enough" if need.enough else "LOOK", "vCPU quota", need.type, need)
        for resource in self.resources:
            state = self.states[_key(resource)]
            verb = {"absent": "make", "brought": "as is"}.get(state.status, "exists")
            verb = "complete" if state.lacks else verb
            note = "; ".join(state.lacks) or resource.purpose
            note = "yours: used unchanged, never removed" if state.status == "brought" else note
            yield ROW.format(verb, resource.kind, resource.name, note)
            for policy in state.added:
                note = f"on {resource.name}, not raygen's: stays until `raygen cluster remove`"
                yield ROW.format("LOOK", "policy", policy, note)

    def policies(self) -> Iterator[str]:
        """Each policy as a whole document, below what it belongs to."""
        for role in (self.head, self.worker):
            yield f"\nrole {role.name} trusts"
            yield json.dumps(rights.TRUST, indent=2)
            yield f"\nrole {role.name} may"
            yield json.dumps(role.rights, indent=2)
        if self.states[_key(self.bucket)].status != "brought":
            yield f"\nbucket {self.bucket.name} has the policy"
            yield json.dumps(rights.tls_only(self.account, self.bucket.name), indent=2)

    def make(self) -> Iterator[str]:
        """Make or complete what is not there, and say so for each.

        Raises:
            RaygenError: AWS refuses; what was made stays, and another call goes on from there.
        """
        with aws_errors():
            for resource in self.resources:
                state = self.states[_key(resource)]
                if not state.complete:
                    resource.make()
                    verb = "made" if state.status == "absent" else "completed"
                    yield f"{verb} {resource.kind} {resource.name}"


def plan_init(account: Account, request: ClusterRequest) -> InitPlan:
    """Look at the account; nothing is made.

    Raises:
        InputError: the account lacks what cannot be made, or has something of the same name that
            raygen did not make.
        ClusterError: AWS cannot be reached or denies it.
    """
    with aws_errors():
        plan = _planned(account, request, survey(account, request, machine_types()[0]))
        for resource in plan.resources:
            state = resource.look()
            if state.status == "foreign":
                raise InputError(f"{_key(resource)}: {_refusal(resource)}")
            plan.states[_key(resource)] = state
    return plan


def _refusal(resource: Resource) -> str:
    if not isinstance(resource, StudyBucket):
        return "exists and is not raygen's: give another --name"
    if resource.given:
        return "you have no right to it, or it is another account's: give another --bucket"
    return "exists and is not raygen's: give --bucket NAME; to use this one unchanged, its name"


def _planned(account: Account, request: ClusterRequest, site: Site) -> InitPlan:
    name = request.name
    bucket = request.bucket or _bucket_name(account, name)
    head, worker = _role_names(account, name)
    head_rights = rights.head_rights(account, name, bucket, worker)
    worker_rights = rights.worker_rights(account, bucket)
    starts = "starts and ends machines of this cluster; the bucket"
    return InitPlan(
        account=account,
        request=request,
        site=site,
        bucket=StudyBucket(account, bucket, name, given=request.bucket is not None),
        group=SecurityGroup(account, _group_name(name), name, site.vpc, request.ssh_from),
        head=Role(account, head, name, head_rights, starts),
        worker=Role(account, worker, name, worker_rights, "the bucket, and nothing else"),
        states={},
    )


class RemovePlan(NamedTuple):
    """What init made of a cluster, in the order in which it is taken away."""

    account: Account
    cluster: str
    states: list[tuple[Resource, State]]

    @property
    def left(self) -> list[tuple[Resource, State]]:
        return [(resource, state) for resource, state in self.states if state.status == "ours"]

    def lines(self) -> Iterator[str]:
        """The plan, as text."""
        account = self.account
        yield f"cluster {self.cluster} in account {account.number}, {account.region}"
        for resource, state in self.states:
            verb = "remove" if state.status == "ours" else "leave"
            note = {"absent": "not there", "ours": ""}.get(state.status, "not made by raygen")
            if isinstance(resource, StudyBucket) and state.status == "ours":
                note = "if it is empty"
                note = "with ALL studies in it" if resource.with_data else note
            yield ROW.format(verb, resource.kind, resource.name, note).rstrip()

    def remove(self) -> Iterator[str]:
        """Take away what is there, and say so for each.

        Raises:
            RaygenError: AWS refuses; another call goes on from there.
        """
        with aws_errors():
            for resource, _ in self.left:
                kept = resource.remove()
                named = f"{resource.kind} {resource.name}"
                yield f"left {named}: {kept}" if kept else f"removed {named}"


def plan_remove(account: Account, cluster: str, bucket: str, with_data: bool) -> RemovePlan:
    """Look at what init made for a cluster; nothing is removed.

    Raises:
        InputError: machines of the cluster are still there.
        ClusterError: AWS cannot be reached or denies it.
    """
    data = StudyBucket(account, bucket, cluster, given=True)
    data.with_data = with_data
    head, worker = (Role(account, name, cluster) for name in _role_names(account, cluster))
    group = SecurityGroup(account, _group_name(cluster), cluster, vpc="")
    resources: list[Resource] = [head, worker, group, data]
    with aws_errors():
        _no_machines(account, cluster)
        return RemovePlan(account, cluster, [(part, part.look()) for part in resources])


class Launched(NamedTuple):
    """What a file of `ray up` says of its cluster on AWS."""

    cluster: str
    region: str
    bucket: str | None


def read_launched(file: Path) -> Launched:
    """Read what `remove` has to know of a cluster file.

    Raises:
        InputError: it cannot be read, or is not one of a cluster on AWS.
    """
    rule = "nothing was made for this cluster; just delete it"
    if is_script(file):
        raise InputError(f"{file}: {rule}")
    document = load_document(file)
    if document.get(("provider", "type")) != "aws":
        document.fail(("provider", "type"), rule)
    names = _cluster_and_region(document)
    if not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{file}: needs cluster_name and provider.region")
    if problem := region_problem(names[1]):
        document.fail(("provider", "region"), problem)
    bucket = BUCKET_IN_FILE.search(file.read_text(encoding="utf-8"))
    return Launched(names[0], names[1], bucket[1] if bucket else None)


def image_in(file: Path, request: ClusterRequest, region: str) -> str | None:
    """Return the image of the head in a file that was written for this cluster, if there is one."""
    if not file.is_file():
        return None
    try:
        document = load_document(file)
    except InputError:
        return None  # something of the user's, which is not overwritten
    names = _cluster_and_region(document)
    at = ("available_node_types", "head", "node_config", "ImageId")
    image = document.get(at) if names == [request.name, region] else None
    return image if isinstance(image, str) and IMAGE.fullmatch(image) else None


def _cluster_and_region(document: Document) -> list[Any]:
    return [document.get(at) for at in (("cluster_name",), ("provider", "region"))]


def bucket_of(account: Account, launched: Launched, given: str | None) -> str:
    """Return the bucket of a cluster: as given, as the file says, or as init names it."""
    return given or launched.bucket or _bucket_name(account, launched.cluster)


def _no_machines(account: Account, cluster: str) -> None:
    filters = [
        {"Name": f"tag:{rights.RAY_TAG}", "Values": [cluster]},
        {"Name": "instance-state-name", "Values": list(LIVING)},
    ]
    pages = account.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    machines = [
        f"{machine['InstanceId']} ({machine['State']['Name']})"
        for page in pages
        for reservation in page["Reservations"]
        for machine in reservation["Instances"]
    ]
    if machines:
        rule = "run `ray down` on the file first, and wait until they are gone"
        raise InputError(f"machines of {cluster} are still there, {', '.join(machines)}: {rule}")


def _bucket_name(account: Account, cluster: str) -> str:
    return f"{cluster}-{account.number}-{account.region}"


def _group_name(cluster: str) -> str:
    return f"raygen-cluster-{cluster}"


def _role_names(account: Account, cluster: str) -> tuple[str, str]:
    """IAM has one list of names for all regions."""
    return f"{cluster}-{account.region}-head", f"{cluster}-{account.region}-worker"


def _key(resource: Resource) -> str:
    return f"{resource.kind} {resource.name}"
