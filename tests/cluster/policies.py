"""IAM's rules, as far as raygen's policies use them, and what EC2 asks IAM for a call.

Independent of moto, which looks at neither resources nor conditions of EC2.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from cluster.account import NUMBER, REGION

EC2 = f"arn:aws:ec2:{REGION}:{NUMBER}:"


class Question(NamedTuple):
    """May somebody do this to that, in these circumstances?"""

    action: str
    resource: str
    context: dict[str, str] = {}


def allows(policy: dict[str, Any], question: Question) -> bool:
    """Whether a policy that only has Allow statements allows it."""
    assert all(statement["Effect"] == "Allow" for statement in policy["Statement"])
    return any(_applies(statement, question) for statement in policy["Statement"])


def _applies(statement: dict[str, Any], question: Question) -> bool:
    conditions = statement.get("Condition", {})
    assert set(conditions) <= {"StringEquals"}
    return (
        question.action in statement["Action"]
        and any(fnmatchcase(question.resource, pattern) for pattern in statement["Resource"])
        and all(
            question.context.get(key) == value
            for key, value in conditions.get("StringEquals", {}).items()
        )
    )


def asked_of_iam(
    operation: str, given: dict[str, Any], tags: dict[str, dict[str, str]], roles: dict[str, str]
) -> Iterator[Question]:
    """What EC2 asks IAM for one call (its page in AWS's Service Authorization Reference).

    `tags`: of what exists, by id; `roles`: the role of each instance profile, by name.
    """
    if operation == "DescribeInstances":
        yield Question("ec2:DescribeInstances", "*", {"aws:RequestedRegion": REGION})
    elif operation == "RunInstances":
        yield from _asked_to_run(given, tags, roles)
    elif operation in ("CreateTags", "TerminateInstances"):
        for name in given.get("Resources") or given["InstanceIds"]:
            yield Question(f"ec2:{operation}", f"{EC2}instance/{name}", _of_resource(tags[name]))
    else:
        raise AssertionError(f"Ray's provider calls {operation}, of which raygen knows nothing")


def _asked_to_run(
    given: dict[str, Any], tags: dict[str, dict[str, str]], roles: dict[str, str]
) -> Iterator[Question]:
    (specification,) = given["TagSpecifications"]
    assert specification["ResourceType"] == "instance"
    new = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in specification["Tags"]}
    yield Question("ec2:RunInstances", f"{EC2}instance/*", new)
    yield Question("ec2:CreateTags", f"{EC2}instance/*", {"ec2:CreateAction": "RunInstances"} | new)
    yield Question("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/{given['ImageId']}")
    yield Question("ec2:RunInstances", f"{EC2}subnet/{given['SubnetId']}")
    yield Question("ec2:RunInstances", f"{EC2}key-pair/{given['KeyName']}")
    yield Question("ec2:RunInstances", f"{EC2}network-interface/*")
    yield Question("ec2:RunInstances", f"{EC2}volume/*")
    for group in given["SecurityGroupIds"]:
        context = _of_resource(tags[group])
        yield Question("ec2:RunInstances", f"{EC2}security-group/{group}", context)
    role = roles[given["IamInstanceProfile"]["Name"]]
    context = {"iam:PassedToService": "ec2.amazonaws.com"}
    yield Question("iam:PassRole", f"arn:aws:iam::{NUMBER}:role/{role}", context)


def _of_resource(tags: dict[str, str]) -> dict[str, str]:
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
