"""HTTPRoutes of the renders against the Gateway API's own types (npm: @kubernetes-models/gateway-api).

`make scan` installs them below .tools. They judge types, enumerations and patterns, and let unknown fields pass;
those are found where ADASERVE_CRDS has the definition (test_crds).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.chart.renders import Document, Render, renders

ROOT = Path(__file__).resolve().parents[2]
TYPES = ROOT / ".tools/gateway-api"
ROUTES = [(render, route) for render in renders() for route in render.of_kind("HTTPRoute")]

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no node"),
    pytest.mark.skipif(not TYPES.is_dir(), reason="no types of the Gateway API: make scan installs them"),
]


def complaints(route: Document) -> list[str]:
    command = ["node", str(Path(__file__).with_name("route.mjs")), str(TYPES)]
    run = subprocess.run(command, input=json.dumps(route), capture_output=True, text=True, check=True)
    return [f"{error['instancePath']}: {error['keyword']}" for error in json.loads(run.stdout)]


@pytest.mark.parametrize(("render", "route"), ROUTES, ids=lambda value: getattr(value, "name", "route"))
def test_a_route_is_of_the_types_of_the_gateway_api(render: Render, route: Document) -> None:
    assert complaints(route) == []


def test_what_is_wrong_is_noticed() -> None:
    _, found = ROUTES[0]
    route = json.loads(json.dumps(found))
    route["spec"]["rules"][0]["backendRefs"][0]["port"] = "http"
    route["spec"]["rules"][0]["timeouts"] = {"request": "never"}
    assert sorted(set(complaints(route))) == [
        "/spec/rules/0/backendRefs/0/port: type",
        "/spec/rules/0/timeouts/request: pattern",
    ]
