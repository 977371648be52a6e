"""Servers that speak S3 and EC2 (moto) or Google Cloud Storage, and how programs reach them."""

import logging
import socket
import time
import urllib.request
from http import HTTPStatus
from typing import Any

import pytest


def start(address: str = "127.0.0.1") -> Any:
    """Start an empty one and return it; whoever starts it stops it."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    # Servers of one process share what they hold.
    reset = urllib.request.Request(f"{endpoint(server)}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    return server


def endpoint(server: Any) -> str:
    """Return the URL at which this machine reaches it."""
    host, port = server.get_host_and_port()
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def access(url: str, region: str = "us-east-1") -> dict[str, str]:
    """Environment variables with which a program finds it."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": region,
    }


def start_gcs(bucket: str) -> tuple[Any, dict[str, str]]:
    """Start an emulator of Google Cloud Storage with one bucket; return it, and how it is found.

    It knows no preconditions, so the one that raygen relies on is added: an upload for generation 0
    is refused with 412 where an object is.
    """
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="it is not installed")
    emulator.objects._multipart_upload = conditional(emulator.objects._multipart_upload)
    emulator.Router.handle = unless_out(emulator.Router.handle)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket=bucket)
    server.start()
    url = f"http://127.0.0.1:{port}"
    return server, {"STORAGE_EMULATOR_HOST": url, "CLOUD_STORAGE_EMULATOR_ENDPOINT": url}


class Outage:
    """For how long the emulator answers every request with 503."""

    until = 0.0  # by time.monotonic
    refused = 0

    @classmethod
    def begin(cls, seconds: float) -> None:
        cls.until = time.monotonic() + seconds


def unless_out(handle: Any) -> Any:
    """Return a handler of requests that refuses them during an outage."""
    if handle.__name__ == "handle_or_refuse":
        return handle

    def handle_or_refuse(router: Any, method: str) -> None:
        if time.monotonic() > Outage.until:
            handle(router, method)
            return
        Outage.refused += 1
        request = router._request_handler
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        request.send_error(HTTPStatus.SERVICE_UNAVAILABLE)

    return handle_or_refuse


def conditional(upload: Any) -> Any:
    """Return an upload that leaves alone what is there, if that is its condition."""
    if upload.__name__ == "upload_if":
        return upload

    def upload_if(request: Any, response: Any, storage: Any) -> None:
        present = storage.objects.get(request.params["bucket_name"], {})
        name = request.query.get("name", [request.data["meta"].get("name")])[0]
        if request.query.get("ifGenerationMatch") == ["0"] and name in present:
            response.status = HTTPStatus.PRECONDITION_FAILED
            response.json({"error": {"code": 412, "message": "conditionNotMet"}})
        else:
            upload(request, response, storage)

    return upload_if
