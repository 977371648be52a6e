"""Who may do what: the policies of head, workers and bucket, as IAM reads them.

Each statement's `Sid` says what it is for; docs/clusters.md has the reasons. The actions on EC2 are
those that Ray's AWS provider calls on the head (ray/autoscaler/_private/aws/node_provider.py): a
test records them.
"""

from typing import Any

from raygen.cluster.aws.account import Account

Policy = dict[str, Any]
TAG = "raygen-cluster"  # on all that raygen makes; its value is the name of the cluster
RAY_TAG = "ray-cluster-name"  # which Ray puts on every machine
TRUST: Policy = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def head_rights(account: Account, cluster: str, bucket: str, worker_role: str) -> Policy:
    """Start, tag and end machines of this cluster, hand them the workers' role, use the bucket."""

    def ec2(kind: str, number: str | None = None) -> str:
        return account.arn("ec2", f"{kind}/*", account.region, number)

    parts = ("subnet", "network-interface", "volume", "key-pair", "spot-instances-request")
    parts_arns = [ec2("image", number=""), *map(ec2, parts)]
    machine, group = [ec2("instance")], [ec2("security-group")]
    role = [account.arn("iam", f"role/{worker_role}")]
    here = {"aws:RequestedRegion": account.region}
    named = {f"aws:RequestTag/{RAY_TAG}": cluster}
    starting = {"ec2:CreateAction": "RunInstances", **named}
    ours = {f"aws:ResourceTag/{RAY_TAG}": cluster}
    its_group = {f"aws:ResourceTag/{TAG}": cluster}
    for_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    return _policy(
        _allow("SeeMachines", ["ec2:DescribeInstances"], ["*"], here),
        _allow("StartMachinesOfThisCluster", ["ec2:RunInstances"], machine, named),
        _allow("StartThemInItsGroup", ["ec2:RunInstances"], group, its_group),
        _allow("StartThemFromTheseParts", ["ec2:RunInstances"], parts_arns),
        _allow("TagThemAsTheyStart", ["ec2:CreateTags"], machine, starting),
        _allow("TagThemLater", ["ec2:CreateTags"], machine, ours),
        _allow("EndThem", ["ec2:TerminateInstances"], machine, ours),
        _allow("GiveThemTheWorkersRole", ["iam:PassRole"], role, for_ec2),
        *_bucket_statements(account, bucket),
    )


def worker_rights(account: Account, bucket: str) -> Policy:
    """Use the bucket, and nothing else."""
    return _policy(*_bucket_statements(account, bucket))


def tls_only(account: Account, bucket: str) -> Policy:
    """Refuse to anyone what does not come through TLS: the statement of a bucket's own policy."""
    return {
        "Sid": "RaygenTlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [_s3(account, bucket), _s3(account, f"{bucket}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def _bucket_statements(account: Account, bucket: str) -> list[Policy]:
    objects = ["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"]
    return [
        _allow("ListTheBucket", ["s3:ListBucket", "s3:GetBucketLocation"], [_s3(account, bucket)]),
        _allow(
            "ReadAndWriteItsObjects",
            [f"s3:{name}" for name in objects],
            [_s3(account, f"{bucket}/*")],
        ),
    ]


def _s3(account: Account, name: str) -> str:
    return account.arn("s3", name, number="")


def _policy(*statements: Policy) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(
    sid: str, actions: list[str], resources: list[str], where: dict[str, str] | None = None
) -> Policy:
    """Allow these actions on these resources, if each of the circumstances is as in `where`."""
    statement = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return statement | ({"Condition": {"StringEquals": where}} if where else {})
