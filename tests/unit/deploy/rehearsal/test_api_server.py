"""Who may change a pod's annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.rehearsal.api_server import MERGE, ApiServer
from deploy.rehearsal.manifests import Render
from deploy.rehearsal.pod import Pod

ROLE = {"kind": "Role", "metadata": {"name": "r", "namespace": "n"}}
BINDING = {
    "kind": "RoleBinding",
    "metadata": {"name": "b"},
    "roleRef": {"name": "r"},
    "subjects": [{"kind": "ServiceAccount", "name": "verifier"}],
}
PATH = "/api/v1/namespaces/n/pods/verifier-0"
BODY = json.dumps({"metadata": {"annotations": {"cost": "7"}}}).encode()


class FakePod:
    name = "verifier-0"

    def __init__(self) -> None:
        self.annotations: dict[str, str] = {}


def server(folder: Path, pod: FakePod, *verbs: str) -> ApiServer:
    role = {**ROLE, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": list(verbs)}]}
    made = ApiServer(Render([role, BINDING]), folder, lambda: [cast(Pod, pod)])
    (folder / "ca.crt").touch()
    return made


def headers(made: ApiServer, account: str, **others: str) -> dict[str, str]:
    token = (made.account(account) / "token").read_text()
    return {"authorization": f"Bearer {token}", "content-type": MERGE, **others}


def test_a_bound_account_changes_its_pod(tmp_path: Path) -> None:
    pod = FakePod()
    made = server(tmp_path, pod, "get", "patch")
    assert made._answer("PATCH", PATH, headers(made, "verifier"), BODY) == 200
    assert (pod.annotations, made.num_changes) == ({"cost": "7"}, 1)


@pytest.mark.parametrize(
    ("account", "method", "path", "verbs", "more", "status"),
    [
        ("drafter", "PATCH", PATH, ["patch"], {}, 403),
        ("verifier", "PATCH", PATH, ["get"], {}, 403),
        ("verifier", "PATCH", PATH, ["patch"], {"authorization": "Bearer x"}, 401),
        ("verifier", "PATCH", PATH, ["patch"], {"content-type": "application/json"}, 415),
        ("verifier", "GET", PATH, ["patch"], {}, 404),
        ("verifier", "PATCH", PATH.replace("/n/", "/other/"), ["patch"], {}, 404),
        ("verifier", "PATCH", PATH.replace("-0", "-1"), ["patch"], {}, 404),
    ],
)
def test_everything_else_is_refused(
    tmp_path: Path, account: str, method: str, path: str, verbs: list[str], more: dict[str, Any], status: int
) -> None:
    pod = FakePod()
    made = server(tmp_path, pod, *verbs)
    assert made._answer(method, path, headers(made, account, **more), BODY) == status
    assert pod.annotations == {}
