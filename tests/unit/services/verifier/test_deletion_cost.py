"""The pod's deletion cost against an HTTPS server that stands for Kubernetes', and without one."""

from __future__ import annotations

import json
import logging
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.verifier.deletion_cost import ANNOTATION, MAX_COST, DeletionCost, PodApi, Refused, is_news
from services.verifier.settings import VerifierSettings
from shared.errors import ConfigurationError
from shared.settings import read


@dataclass
class ApiServer:
    """What it was asked, and what it answers."""

    port: int
    account: Path
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def pod(self) -> PodApi:
        return PodApi(
            host="localhost", port=self.port, namespace="serving", pod="verifier-5c-x1", account=self.account
        )


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one for localhost, and its key."""
    certificate, key = folder / "ca.crt", folder / "server.key"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extension = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate")
    subprocess.run([openssl, *words.split(), *extension], check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    certificate, key = make_certificate(tmp_path)
    (tmp_path / "token").write_text("first-token\n")

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            api.asked.append({"path": self.path, "body": body, "headers": dict(self.headers)})
            content = b'{"message": "as told"}'
            self.send_response(api.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    api = ApiServer(http.server_port, tmp_path)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield api
    http.shutdown()
    thread.join()
    http.server_close()


def test_the_own_pod_is_patched_with_the_token_of_now(server: ApiServer) -> None:
    server.pod.annotate(4096)
    (server.account / "token").write_text("second-token")
    server.pod.annotate(0)
    first, second = server.asked
    assert first["path"] == "/api/v1/namespaces/serving/pods/verifier-5c-x1"
    assert first["body"] == {"metadata": {"annotations": {ANNOTATION: "4096"}}}
    assert first["headers"]["Content-Type"] == "application/merge-patch+json"
    assert first["headers"]["Authorization"] == "Bearer first-token"
    assert second["headers"]["Authorization"] == "Bearer second-token"
    assert second["body"]["metadata"]["annotations"][ANNOTATION] == "0"


def test_a_refusal_is_told_without_the_token(server: ApiServer) -> None:
    server.status = 403
    with pytest.raises(Refused, match=r"403.*as told") as caught:
        server.pod.annotate(1)
    assert "token" not in str(caught.value)


def test_a_server_that_nobody_vouches_for_gets_no_token(server: ApiServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_certificate(other)
    (other / "token").write_text("first-token")
    stranger = PodApi(host="localhost", port=server.port, namespace="n", pod="p", account=other)
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.annotate(1)
    assert server.asked == []


def test_it_tells_by_itself_and_again_only_when_enough_has_changed(server: ApiServer) -> None:
    tokens = [5_000]
    told = threading.Event()

    def annotate(cost: int) -> None:
        server.pod.annotate(cost)
        told.set()

    with DeletionCost(annotate, lambda: tokens[0], period_s=0.01):
        for tokens[0], heard in ((5_000, True), (5_100, False), (9_000, True), (0, True)):
            assert told.wait(2.0 if heard else 0.1) is heard
            told.clear()
    assert [one["body"]["metadata"]["annotations"][ANNOTATION] for one in server.asked] == ["5000", "9000", "0"]


@pytest.mark.parametrize("error", [OSError("no route"), Refused("403 Forbidden"), ValueError("not a URL")])
def test_an_api_server_that_is_away_is_told_of_once_and_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []
    is_away = True

    def annotate(cost: int) -> None:
        if is_away:
            raise error
        told.append(cost)

    cost = DeletionCost(annotate, lambda: 2**40)
    with caplog.at_level(logging.INFO):
        assert [cost.tell(), cost.tell()] == [False, False]
        is_away = False
        assert [cost.tell(), cost.tell()] == [True, True]
    assert told == [MAX_COST]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_missing_token_is_a_failure_like_another(tmp_path: Path) -> None:
    pod = PodApi(host="localhost", port=1, namespace="n", pod="p", account=tmp_path)
    assert not DeletionCost(pod.annotate, lambda: 1).tell()


@pytest.mark.parametrize(
    ("told", "tokens", "expected"),
    [
        (None, 0, True),
        (0, 0, False),
        (0, 1, True),
        (1, 0, True),
        (5_000, 6_023, False),
        (5_000, 6_024, True),
        (80_000, 70_001, False),
        (80_000, 70_000, True),
    ],
)
def test_small_changes_are_no_news(told: int | None, tokens: int, expected: bool) -> None:
    assert is_news(told, tokens) is expected


def test_it_is_off_unless_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_TARGET", "t")
    monkeypatch.setenv("POD_NAME", "verifier-0")
    assert read(VerifierSettings).own_pod is None


def test_its_settings_are_those_that_kubernetes_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "ADASERVE_TARGET": "t",
        "ADASERVE_POD_DELETION_COST": "true",
        "POD_NAME": "verifier-0",
        "POD_NAMESPACE": "serving",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "6443",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    pod = read(VerifierSettings).own_pod
    assert pod == PodApi(
        host="10.96.0.1",
        port=6443,
        namespace="serving",
        pod="verifier-0",
        account=Path("/var/run/secrets/kubernetes.io/serviceaccount"),
    )
    monkeypatch.delenv("POD_NAMESPACE")
    with pytest.raises(ConfigurationError, match="needs POD_NAMESPACE"):
        assert read(VerifierSettings).own_pod
    monkeypatch.setenv("POD_NAMESPACE", "Serving/x")
    with pytest.raises(ConfigurationError, match="POD_NAMESPACE"):
        read(VerifierSettings)
