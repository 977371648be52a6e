"""A journal on object storage as well: one object a record, put there before its effect.

Record n is put only if there is no object n: `If-None-Match: *` on S3, generation 0 on Google Cloud
Storage. So of two drivers of one study the first to write goes on, the other is refused at its next
record, and a crash holds nothing up.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from raygen.errors import ClusterError, InputError, RaygenError
from raygen.files import write_bytes
from raygen.journal.local import Journal
from raygen.journal.records import Record
from raygen.patience import Say, patiently

READERS = 16  # objects read at once


class RecordStore(Protocol):
    """Where a study's records are kept, numbered from 0."""

    uri: str

    def read(self) -> list[bytes]: ...

    def put(self, number: int, line: bytes) -> None: ...


def records_at(uri: str) -> RecordStore:
    """Return the records under a URI.

    Raises:
        InputError: it is not s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, or what reaches it is not
            installed.
    """
    return GcsRecords(uri) if uri.startswith("gs://") else S3Records(uri)


class _Records(ABC):
    """The records of one study under BUCKET/PREFIX/00000042.json, numbered from 0."""

    scheme = ""
    errors: tuple[type[Exception], ...] = ()
    client: Any = None

    def __init__(self, uri: str) -> None:
        """Connect; nothing is asked yet.

        Raises:
            InputError: the URI has no bucket or no prefix, or what reaches it is not installed.
        """
        parts = urlsplit(uri)
        self.uri, self.name, self.prefix = uri, parts.netloc, parts.path.strip("/")
        if parts.scheme != self.scheme or not self.name or not self.prefix:
            raise InputError(f"--journal {uri}: must be s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
        self.connect()

    @abstractmethod
    def connect(self) -> None:
        """Look for credentials, region and endpoint, as the cloud's own library does."""

    @abstractmethod
    def keys(self) -> list[str]: ...

    @abstractmethod
    def get(self, key: str) -> bytes: ...

    @abstractmethod
    def put_new(self, key: str, line: bytes) -> bool:
        """Put an object if there is none; return whether it was put."""

    def read(self) -> list[bytes]:
        """Return every record as a line, in order.

        Raises:
            ClusterError: the storage cannot be reached.
        """
        try:
            with ThreadPoolExecutor(READERS) as pool:
                return list(pool.map(self.get, sorted(self.keys())))
        except self.errors as error:
            self.connect()
            raise ClusterError(f"{self.uri}: cannot be read: {error}") from error

    def put(self, number: int, line: bytes) -> None:
        """Write record `number` if there is none.

        Raises:
            RaygenError: another driver wrote it: this one must not go on.
            ClusterError: the storage cannot be reached.
        """
        key = f"{self.prefix}/{number:08d}.json"
        try:
            # Its own line is there if an answer was lost and the request repeated.
            taken = not self.put_new(key, line) and self.get(key) != line
        except self.errors as error:
            self.connect()  # its credentials may have expired: they are looked for again
            raise ClusterError(f"{self.uri}: cannot be written: {error}") from error
        if taken:
            raise RaygenError(f"{self.uri}: another raygen is already running this study")


class S3Records(_Records):
    """On S3 or MinIO (AWS_ENDPOINT_URL), through boto3."""

    scheme = "s3"

    def connect(self) -> None:
        try:
            from boto3.session import Session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise InputError("--journal needs boto3: uv sync --extra aws") from error
        self.errors, self.refused = (BotoCoreError, ClientError), ClientError
        # A session of its own: the default one would keep credentials that have expired.
        self.client = Session().client("s3", config=Config(max_pool_connections=READERS))

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=f"{self.prefix}/"
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put_new(self, key: str, line: bytes) -> bool:
        try:
            self.client.put_object(Bucket=self.name, Key=key, Body=line, IfNoneMatch="*")
        except self.refused as error:
            if error.response.get("Error", {}).get("Code") != "PreconditionFailed":
                raise
            return False
        return True


class GcsRecords(_Records):
    """On Google Cloud Storage, through its own library (STORAGE_EMULATOR_HOST for an emulator)."""

    scheme = "gs"

    def connect(self) -> None:
        try:
            from google.api_core.exceptions import GoogleAPIError, PreconditionFailed
            from google.auth.credentials import AnonymousCredentials
            from google.auth.exceptions import GoogleAuthError
            from google.cloud import storage
            from requests import RequestException
        except ImportError as error:
            raise InputError("gs:// needs google-cloud-storage: uv sync --extra gcp") from error
        self.errors = (GoogleAPIError, GoogleAuthError, RequestException)
        self.refused = PreconditionFailed
        emulated = "STORAGE_EMULATOR_HOST" in os.environ
        keys = AnonymousCredentials() if emulated else None  # None: looked for
        try:
            self.client = storage.Client(project="raygen", credentials=keys).bucket(self.name)
        except GoogleAuthError as error:
            raise ClusterError(f"{self.uri}: cannot be reached: {error}") from error

    def keys(self) -> list[str]:
        return [blob.name for blob in self.client.list_blobs(prefix=f"{self.prefix}/")]

    def get(self, key: str) -> bytes:
        return self.client.blob(key).download_as_bytes()

    def put_new(self, key: str, line: bytes) -> bool:
        try:
            # Without its library's retries of two minutes: raygen waits itself, and says so.
            self.client.blob(key).upload_from_string(line, if_generation_match=0, retry=None)
        except self.refused:
            return False
        return True


def copy_journal(bucket: RecordStore, path: Path) -> None:
    """Write what a bucket holds to a local file; nothing if it is empty."""
    if lines := bucket.read():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, b"".join(lines))


class RemoteJournal(Journal):
    """A local journal whose every record is on object storage first."""

    def __init__(
        self, path: Path, bucket: RecordStore, wait: float = 0.0, say: Say = lambda text: None
    ) -> None:
        """Bring the local copy up to what the bucket holds, or the other way round.

        From then on a bucket that does not answer is waited for so many seconds, and `say` told.

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
            self.copy(line)
        self.records = len(remote)
        self.wait, self.say = 0.0, say
        for line in local[shared:]:
            self._put(line)
        self.wait = wait

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
        patiently(lambda: self.bucket.put(self.records, line), self.wait, self.say)
        self.records += 1


def _digest(lines: list[bytes]) -> str:
    return hashlib.sha256(b"".join(lines)).hexdigest()
