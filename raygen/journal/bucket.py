"""A journal on object storage as well: one object a record, put there before its effect.

Record n is put only if there is no object n (`If-None-Match: *`). So of two drivers of one study
the first to write goes on, the other is refused at its next record, and a crash holds nothing up.
Where storage knows no condition (gs://), record n is looked for before it is put: that refuses a
second driver unless both put the same record at the same moment.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from raygen.errors import ClusterError, InputError, RaygenError
from raygen.journal.local import Journal
from raygen.journal.records import Record
from raygen.storage import Storage

READERS = 16  # objects read at once


class RecordStore(Protocol):
    """Where a study's records are kept, numbered from 0."""

    uri: str

    def read(self) -> list[bytes]: ...

    def put(self, number: int, line: bytes) -> None: ...


def records_at(uri: str) -> RecordStore:
    """Return the records under a URI.

    Raises:
        InputError: it is not s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, or boto3 is not installed.
    """
    return Unconditional(uri) if uri.startswith("gs://") else Bucket(uri)


class Unconditional:
    """Records on storage that cannot refuse to replace an object."""

    def __init__(self, uri: str) -> None:
        self.uri, self.storage = uri, Storage(uri)

    def read(self) -> list[bytes]:
        """Return every record as a line, in order.

        Raises:
            ClusterError: the storage cannot be reached.
        """
        return self.storage.records("")

    def put(self, number: int, line: bytes) -> None:
        """Write record `number` if there is none.

        Raises:
            RaygenError: another driver wrote it: this one must not go on.
            ClusterError: the storage cannot be reached.
        """
        name = f"{number:08d}.json"
        if self.storage.read(name) not in (None, line):
            raise RaygenError(f"{self.uri}: another raygen is already running this study")
        self.storage.write(name, line)


class Bucket:
    """The records of one study under s3://bucket/prefix/00000042.json, numbered from 0.

    Credentials, region and endpoint (AWS_ENDPOINT_URL, for MinIO) are those of boto3.
    """

    def __init__(self, uri: str) -> None:
        """Find the bucket.

        Raises:
            InputError: the URI is not of the form s3://bucket/prefix, or boto3 is not installed.
        """
        parts = urlsplit(uri)
        self.uri, self.name, self.prefix = uri, parts.netloc, parts.path.strip("/")
        if parts.scheme != "s3" or not self.name or not self.prefix:
            raise InputError(f"--journal {uri}: must be s3://BUCKET/PREFIX")
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise InputError("--journal needs boto3: uv sync --extra aws") from error
        self.errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
        self.client: Any = boto3.client("s3", config=Config(max_pool_connections=READERS))

    def read(self) -> list[bytes]:
        """Return every record as a line, in order.

        Raises:
            ClusterError: the storage cannot be reached.
        """
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=f"{self.prefix}/"
            )
            keys = sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
            with ThreadPoolExecutor(READERS) as pool:
                return list(pool.map(self._get, keys))
        except self.errors as error:
            raise ClusterError(f"{self.uri}: cannot be read: {error}") from error

    def put(self, number: int, line: bytes) -> None:
        """Write record `number` if there is none.

        Raises:
            RaygenError: another driver wrote it: this one must not go on.
            ClusterError: the storage cannot be reached.
        """
        key = f"{self.prefix}/{number:08d}.json"
        try:
            self.client.put_object(Bucket=self.name, Key=key, Body=line, IfNoneMatch="*")
        except self.errors as error:
            taken = getattr(error, "response", {}).get("Error", {}).get("Code")
            if taken != "PreconditionFailed":
                raise ClusterError(f"{self.uri}: cannot be written: {error}") from error
            # Its own line is there if an answer was lost and the request repeated.
            if self._get(key) != line:
                raise RaygenError(
                    f"{self.uri}: another raygen is already running this study"
                ) from error

    def _get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()


class RemoteJournal(Journal):
    """A local journal whose every record is on object storage first."""

    def __init__(self, path: Path, bucket: RecordStore) -> None:
        """Bring the local copy up to what the bucket holds, or the other way round.

        Raises:
            InputError: the two are of different studies.
            RaygenError, ClusterError: as Journal and Bucket.
        """
        super().__init__(path)
        self.bucket = bucket
        remote, local = bucket.read(), path.read_bytes().splitlines(keepends=True)
        shared = min(len(remote), len(local))
        if _digest(remote[:shared]) != _digest(local[:shared]):
            self.close()
            raise InputError(f"{path}: is not the journal that {bucket.uri} holds")
        for line in remote[shared:]:
            self.write(line)
        self.records = len(remote)
        for line in local[shared:]:
            self._put(line)

    def append(self, record: Record) -> Record:
        """As Journal.append, but in the bucket first.

        Raises:
            RaygenError: another driver goes on with this study.
            ClusterError: the storage cannot be reached.
            StorageError: the local disk is full.
        """
        written, line = self.line(record)
        self._put(line)
        self.write(line)
        return written

    def _put(self, line: bytes) -> None:
        self.bucket.put(self.records, line)
        self.records += 1


def _digest(lines: list[bytes]) -> str:
    return hashlib.sha256(b"".join(lines)).hexdigest()
