"""The bucket of a cluster: encrypted, private, over TLS only."""

import json

from raygen.cluster.aws.account import Account, absent, error_code
from raygen.cluster.aws.resource import State, tags_of
from raygen.cluster.aws.rights import TAG, Policy, tls_only

PRIVATE = {
    "BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}  # fmt: skip
ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
US_EAST = "us-east-1"  # the one region that S3 does not want to be told


class StudyBucket:
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
            if code == "403":
                return State("foreign")
            raise
        tagged = self._tags().get(TAG) == self.cluster
        if not tagged and (self.given or not self._untouched()):
            return State("brought" if self.given else "foreign")
        checks = {
            "its tag": tagged,
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
        if not self._tags():
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

    def _untouched(self) -> bool:
        """Whether it is as an init leaves it that broke off before it could tag it.

        It has the name that raygen gives, and is this account's: nothing of anybody's is in it.
        """
        stored = self.client.list_object_versions(Bucket=self.name, MaxKeys=1)
        empty = not (stored.get("Versions") or stored.get("DeleteMarkers"))
        return empty and not self._tags() and not self._statements()

    def _tags(self) -> dict[str, str]:
        with absent("NoSuchTagSet"):
            return tags_of(self.client.get_bucket_tagging(Bucket=self.name)["TagSet"])
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
