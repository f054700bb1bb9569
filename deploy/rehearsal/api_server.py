"""As much of the API server as pods of the chart ask for: changes of annotations, where the roles allow it."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deploy.rehearsal.manifests import WORKLOADS, Document, RehearsalError, Render
from deploy.rehearsal.network import Network
from deploy.rehearsal.pod import Pod

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
PORT = 443
NAME = "kubernetes"
MERGE = "application/merge-patch+json"
MAX_BODY = 1 << 16
_CERTIFICATE = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=kubernetes"


class ApiServer:
    """``folder`` gets its certificate and, for each service account, what is mounted into its pods."""

    def __init__(self, render: Render, folder: Path, pods: Callable[[], Sequence[Pod]]) -> None:
        self.ip = ""
        self.num_changes = 0
        self._render, self._folder, self._pods = render, folder, pods
        self._accounts: dict[str, str] = {}  # by token

    async def start(self, network: Network) -> None:
        """Has an address in any case, and listens there if a pod has a token. Raises RehearsalError."""
        self.ip = await network.new_service_ip(NAME, "default")
        if not any(has_token(workload) for workload in self._render.of_kind(*WORKLOADS)):
            return
        self._folder.mkdir()
        self._make_certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "ca.crt", self._folder / "key")
        await asyncio.start_server(self._serve, self.ip, PORT, ssl=context)

    def _make_certificate(self) -> None:
        names = f"subjectAltName=IP:{self.ip},DNS:kubernetes.default.svc"
        files = ["-addext", names, "-keyout", str(self._folder / "key"), "-out", str(self._folder / "ca.crt")]
        try:
            subprocess.run(["/usr/bin/openssl", *_CERTIFICATE.split(), *files], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RehearsalError(f"no certificate for the API server: {error}") from None

    def account(self, name: str) -> Path:
        """What the kubelet mounts for a service account."""
        folder = self._folder / name
        if not folder.exists():
            folder.mkdir()
            token = secrets.token_hex(16)
            self._accounts[token] = name
            (folder / "token").write_text(token)
            (folder / "ca.crt").write_bytes((self._folder / "ca.crt").read_bytes())
            (folder / "namespace").write_text(self._render.namespace)
        return folder

    @property
    def environment(self) -> dict[str, str]:
        """What every container is told of it, whatever ``enableServiceLinks`` says."""
        return {"KUBERNETES_SERVICE_HOST": self.ip, "KUBERNETES_SERVICE_PORT": str(PORT)}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split()
            headers = dict(_fields(head[1:]))
            body = await reader.readexactly(min(MAX_BODY, int(headers.get("content-length", "0"))))
            status = self._answer(method, path, headers, body)
            content = json.dumps({"kind": "Status", "code": status, "message": status.phrase}).encode()
            head_back = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-length: {len(content)}\r\nconnection: close"
            writer.write(f"{head_back}\r\n\r\n".encode() + content)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> HTTPStatus:
        account = self._accounts.get(headers.get("authorization", "").removeprefix("Bearer "))
        if account is None:
            return HTTPStatus.UNAUTHORIZED
        *place, name = path.split("/")
        if method != "PATCH" or "/".join(place) != f"/api/v1/namespaces/{self._render.namespace}/pods":
            return HTTPStatus.NOT_FOUND
        if not may(self._render, account, "patch", "pods"):
            return HTTPStatus.FORBIDDEN
        if headers.get("content-type") != MERGE:
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        for pod in self._pods():
            if pod.name == name:
                pod.annotations |= json.loads(body)["metadata"]["annotations"]
                self.num_changes += 1
                return HTTPStatus.OK
        return HTTPStatus.NOT_FOUND


def has_token(workload: Document) -> bool:
    """Whether its pods get a service account's token."""
    return bool(workload["spec"]["template"]["spec"].get("automountServiceAccountToken", True))


def _fields(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            yield name.lower(), value.strip()


def may(render: Render, account: str, verb: str, resource: str) -> bool:
    """Whether a Role that is bound to the service account allows it."""
    bound = [
        binding["roleRef"]["name"]
        for binding in render.of_kind("RoleBinding")
        if any(subject["name"] == account for subject in binding["subjects"])
    ]
    rules: list[Any] = [rule for name in bound for rule in render.get("Role", name)["rules"]]
    return any(verb in rule["verbs"] and resource in rule["resources"] for rule in rules)
