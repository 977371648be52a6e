"""What clouds say of machines that will go, from services that answer as theirs do."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from raygen.cluster.preemption import Ec2, Gce

EC2 = "/latest/meta-data/spot/instance-action"
GCE = "/computeMetadata/v1/instance/preempted"


class Service(ThreadingHTTPServer):
    """A metadata service: what it answers by path, and the token that it takes now."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.pages: dict[str, str] = {}
        self.token, self.tokens = "token-0", 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Service

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token"
        assert int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
        self.server.tokens += 1
        self.server.token = f"token-{self.server.tokens}"
        self.answer(200, self.server.token)

    def do_GET(self) -> None:
        of_ec2 = self.headers["X-aws-ec2-metadata-token"] == self.server.token
        of_gce = self.headers["Metadata-Flavor"] == "Google"
        if not (of_ec2 or of_gce):
            self.answer(401)
        elif self.path in self.server.pages:
            self.answer(200, self.server.pages[self.path])
        else:
            self.answer(404)

    def answer(self, code: int, text: str = "") -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{server.host}/")
    monkeypatch.setenv("GCE_METADATA_HOST", server.host)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which nobody may ask
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_ec2_says_nothing_then_that_and_when_a_machine_goes(service: Service) -> None:
    cloud = Ec2()
    assert cloud() is None

    ends = datetime.fromtimestamp(time.time() + 120, UTC)
    action = {"action": "terminate", "time": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
    service.pages[EC2] = json.dumps(action)
    notice = cloud()

    assert notice is not None
    assert notice.reason == "spot notice of EC2: terminate"
    assert notice.seconds == pytest.approx(119, abs=3)
    assert service.tokens == 1  # asked for once


def test_a_token_that_has_expired_is_replaced(service: Service) -> None:
    cloud = Ec2()
    cloud()
    service.token = "another"
    service.pages[EC2] = json.dumps({"action": "stop", "time": "2026-01-01T00:00:00Z"})

    assert cloud() is None  # refused
    notice = cloud()
    assert notice is not None
    assert notice.seconds == 0  # its time has passed


def test_compute_engine_says_whether_a_machine_is_preempted(service: Service) -> None:
    service.pages[GCE] = "FALSE"
    assert Gce()() is None
    service.pages[GCE] = "TRUE"
    notice = Gce()()
    assert notice is not None
    assert notice.seconds == 30


@pytest.mark.parametrize("cloud", [Ec2, Gce])
def test_a_machine_of_no_cloud_is_told_by_the_error(
    cloud: type[Ec2 | Gce], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    with pytest.raises(OSError, match="refused"):
        cloud()()


@pytest.mark.parametrize("cloud", [Ec2, Gce])
def test_another_cloud_that_answers_at_the_same_address_is_none_of_it(
    service: Service, cloud: type[Ec2 | Gce], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Answers, "do_PUT", lambda self: self.answer(404))
    with pytest.raises(OSError, match="404"):
        cloud()()
