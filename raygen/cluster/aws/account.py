"""An AWS account in one region, and what its errors mean to whoever runs a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any

from raygen.errors import ClusterError, InputError, RaygenError, first_line

NOT_ACCEPTED = {
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId",
    "InvalidClientTokenId", "InvalidToken", "RequestExpired", "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}  # fmt: skip
DENIED = {"403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
BUSY = {
    "RequestLimitExceeded", "RequestThrottled", "ServiceUnavailable", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequestsException",
}  # fmt: skip
TAKEN = {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}
LONGEST = 300  # characters of what AWS says of itself


class Account:
    """The account of this machine's AWS credentials, seen from one region."""

    def __init__(self, region: str) -> None:
        """Ask AWS who it is.

        Raises:
            InputError: boto3 is not installed.
            ClusterError: no credentials, not accepted ones, or no AWS.
        """
        _boto3()
        self.region = region
        self.client = cache(self._connect)
        with aws_errors():
            caller = self.client("sts").get_caller_identity()
        self.number = caller["Account"]
        self.partition = caller["Arn"].split(":")[1]

    def arn(self, service: str, resource: str, region: str = "", number: str | None = None) -> str:
        """Return the full name of something in this account; `number` "" where it is AWS's."""
        number = self.number if number is None else number
        return f"arn:{self.partition}:{service}:{region}:{number}:{resource}"

    def _connect(self, service: str) -> Any:
        boto3 = _boto3()
        from botocore.config import Config

        settings = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10)
        return boto3.client(service, region_name=self.region, config=settings)


def configured_region() -> str | None:
    """Return the region of this machine's AWS configuration, if it has one.

    Raises:
        InputError: boto3 is not installed, or AWS_PROFILE names no profile.
    """
    boto3 = _boto3()
    with aws_errors():
        return boto3.session.Session().region_name


def region_problem(region: str) -> str:
    """Why a region cannot be one, as far as boto3 knows without asking AWS; "" if it can.

    Raises:
        InputError: boto3 is not installed, or AWS_PROFILE names no profile.
    """
    boto3 = _boto3()
    with aws_errors():
        session = boto3.session.Session()
    regions = {
        name
        for partition in session.get_available_partitions()
        for name in session.get_available_regions("ec2", partition)
    }
    if region in regions:
        return ""
    near = get_close_matches(region, sorted(regions), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ", such as us-west-2"
    return f"must be an AWS region (a newer one needs a newer boto3){hint}"


def error_code(error: Exception) -> str:
    """Return AWS's word for what went wrong, "" where the error is not AWS's."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


@contextmanager
def absent(*codes: str) -> Iterator[None]:
    """Go on after the block where AWS says in one of these words that something is not there."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error_code(error) not in codes:
            raise


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn what boto3 raises into one line that says what to do.

    Raises:
        InputError: a name that is taken, or a profile that does not exist.
        ClusterError: no credentials, a right that is missing, AWS busy or not reached.
        RaygenError: anything else that AWS refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _explained(error) from error
    except BotoCoreError as error:
        kind = type(error).__name__
        if kind in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
            rule = "run `aws configure` or `aws sso login`, or set AWS_PROFILE"
            raise ClusterError(f"there are no AWS credentials on this machine: {rule}") from error
        if kind == "ProfileNotFound":
            raise InputError(f"AWS_PROFILE: {first_line(error)}") from error
        raise ClusterError(f"AWS cannot be reached: {first_line(error)[:LONGEST]}") from error


def _explained(error: Any) -> RaygenError:
    code, operation = error_code(error), error.operation_name
    said = str(error.response["Error"].get("Message", "")).partition("\n")[0][:LONGEST]
    if code in NOT_ACCEPTED:
        return ClusterError(f"AWS does not accept the credentials ({code}): log in again")
    if code in DENIED:
        return ClusterError(
            f"the AWS credentials lack the right to {operation}: ask whoever owns the account for "
            f"it; what was made before stays, and the same command goes on from there"
        )
    if code in BUSY:
        return ClusterError(
            f"AWS answers too many requests ({operation}): wait a minute and run the same command "
            f"again, it goes on from there"
        )
    if code in TAKEN:
        return InputError("the name of the bucket is taken: give --bucket NAME")
    if code == "DependencyViolation":
        return RaygenError(
            f"AWS still uses what {operation} takes away (machines that are shutting down): wait a "
            f"minute and run the same command again"
        )
    return RaygenError(f"AWS refuses {operation}: {code}: {said}")


def _boto3() -> Any:
    try:
        import boto3
    except ImportError as error:
        raise InputError("a cluster on AWS needs boto3: uv sync --extra aws") from error
    return boto3
