"""A server that speaks S3 and EC2 (moto), and how programs reach it."""

import logging
import urllib.request
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
