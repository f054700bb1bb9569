"""As much of a Kubernetes API server as `helm install` and `helm upgrade` need: it keeps objects and runs nothing.

No admission, no defaults, no validation: what a cluster says to the objects is for `strict` and `policies`.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import yaml

Object = dict[str, Any]

RESOURCES = {  # group and version: {kind: resource}
    "v1": {
        "ConfigMap": "configmaps",
        "Namespace": "namespaces",
        "PersistentVolumeClaim": "persistentvolumeclaims",
        "Pod": "pods",
        "Secret": "secrets",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments", "StatefulSet": "statefulsets"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "batch/v1": {"Job": "jobs"},
    "networking.k8s.io/v1": {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "rbac.authorization.k8s.io/v1": {"Role": "roles", "RoleBinding": "rolebindings"},
}
KINDS = {resource: kind for kinds in RESOURCES.values() for kind, resource in kinds.items()}


class ApiServer:
    """`objects` by path, such as /api/v1/namespaces/n/secrets/s; use it as a context."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self.objects = self._server.objects = {}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads here."""
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **config}))
        path.chmod(0o600)  # or helm warns
        return path

    def named(self, resource: str) -> dict[str, Object]:
        """All objects of one resource by name, but helm's own."""
        found = {path.rpartition("/")[2]: each for path, each in self.objects.items() if f"/{resource}/" in path}
        return {name: each for name, each in found.items() if not name.startswith("sh.helm.")}


def described(path: str) -> Object | None:
    """What there is at the paths by which a client finds out what a server has; None for all others."""
    if path == "/version":
        return {"major": "1", "minor": "27", "gitVersion": "v1.27.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(name) for name in RESOURCES if "/" in name],
        }
    name = path.removeprefix("/apis/").removeprefix("/api/")
    if name not in RESOURCES:
        return None
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    resources = [
        {"name": resource, "singularName": "", "namespaced": kind != "Namespace", "kind": kind, "verbs": verbs}
        for kind, resource in RESOURCES[name].items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def _group(name: str) -> Object:
    version = {"groupVersion": name, "version": name.rpartition("/")[2]}
    return {"name": name.rpartition("/")[0], "versions": [version], "preferredVersion": version}


def wanted(path: str) -> dict[str, str]:
    """The labels that a list is asked for; helm asks for equal ones only."""
    selector = parse_qs(path.partition("?")[2]).get("labelSelector", [""])[0]
    return dict(pair.split("=", 1) for pair in selector.split(",") if pair)


def patched(value: Any, patch: Any) -> Any:
    """By the rules of a merge patch; helm's strategic ones differ from it in lists."""
    if not isinstance(patch, dict) or not isinstance(value, dict):
        return patch
    merged = {**value, **{key: patched(value.get(key), inner) for key, inner in patch.items()}}
    return {key: inner for key, inner in merged.items() if inner is not None and not key.startswith("$")}


class _Server(ThreadingHTTPServer):
    objects: dict[str, Object]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: a second one would wait for the first one's receipt
    server: _Server

    def do_GET(self) -> None:
        objects, (path, name) = self.server.objects, (self._path, self._path.rpartition("/")[2])
        if (found := described(path) or objects.get(path)) is not None:
            self._answer(200, found)
        elif name in KINDS:
            here = [each for place, each in objects.items() if place.rpartition("/")[0] == path]
            items = [
                each for each in here if wanted(self.path).items() <= each["metadata"].get("labels", {}).items()
            ]
            self._answer(200, {"kind": f"{KINDS[name]}List", "apiVersion": "v1", "metadata": {}, "items": items})
        else:
            self._missing()

    def do_POST(self) -> None:
        made = self._body()
        self._keep(f"{self._path}/{made['metadata']['name']}", made)

    def do_PUT(self) -> None:
        self._keep(self._path, self._body())

    def do_PATCH(self) -> None:
        self._keep(self._path, patched(self.server.objects[self._path], self._body()))

    def do_DELETE(self) -> None:
        self._body()
        if self.server.objects.pop(self._path, None) is None:
            self._missing()
        else:
            self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _body(self) -> Object:
        body: Object = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        return body

    def _keep(self, path: str, made: Object) -> None:
        self.server.objects[path] = made
        self._answer(201 if self.command == "POST" else 200, made)

    def _missing(self) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self._answer(404, {**status, "reason": "NotFound", "message": "not found", "code": 404})

    def _answer(self, code: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
