"""What services are told: each variable is one that they know, with a value that they take."""

from __future__ import annotations

from functools import cache

from pydantic import ValidationError

from services.drafter.settings import DrafterSettings
from services.gateway.settings import GatewaySettings
from services.selector.settings import SelectorSettings
from services.verifier.settings import VerifierSettings
from shared.settings import PREFIX, ServiceSettings, known_variables, unknown_variables
from tests.chart.renders import SERVICES, Container, Render

SETTINGS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "drafter": DrafterSettings,
    "selector": SelectorSettings,
    "verifier": VerifierSettings,
}
POD_NAME = "some-pod-0"  # what the API server puts where a name is asked for
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@cache
def _known(service: str) -> frozenset[str]:
    return known_variables(SETTINGS[service])


def _told(container: Container) -> dict[str, str]:
    """Of its variables those with a value, and names of the pod."""
    return {name: str(entry.get("value", POD_NAME)) for name, entry in container.env.items()}


def _services(render: Render) -> list[tuple[str, Container]]:
    """A drafter may be a second container of a verifier's pod."""
    found = [container for pod in render.pods_of(*SERVICES) for container in pod.containers()]
    return [(container.spec["name"], container) for container in found if container.spec["name"] in SERVICES]


def tells_what_is_known(render: Render) -> list[str]:
    """A variable that a service does not know stops its start."""
    return [
        f"{container.where}: {said}"
        for service, container in _services(render)
        for said in unknown_variables(_told(container), _known(service))
    ]


def tells_what_is_allowed(render: Render) -> list[str]:
    """So does a value that it does not take, or one that is missing."""
    found = []
    for service, container in _services(render):
        told = {name.removeprefix(PREFIX).lower(): value for name, value in _told(container).items()}
        values = {name: value for name, value in told.items() if name in SETTINGS[service].model_fields}
        try:
            SETTINGS[service](**values)
        except ValidationError as error:
            found += [f"{container.where}: {line['loc']}: {line['msg']}" for line in error.errors()]
    return found


def tells_each_thing_once(render: Render) -> list[str]:
    """Of two of a name the later one wins, without a word."""
    found = []
    for container in render.containers():
        names = [entry["name"] for entry in container.spec.get("env") or []]
        found += [f"{container.where}: {n} is set twice" for n in sorted(set(names)) if names.count(n) > 1]
    return found


def listens_where_it_is_asked(render: Render) -> list[str]:
    """Beyond loopback, on the port that the container shows."""
    found = []
    for _, container in _services(render):
        told = _told(container)
        ports = [str(port["containerPort"]) for port in container.spec.get("ports") or []]
        if told.get("ADASERVE_HTTP_HOST", LOOPBACK[0]) in LOOPBACK:
            found.append(f"{container.where}: listens on loopback only")
        if told.get("ADASERVE_HTTP_PORT") not in ports:
            found.append(f"{container.where}: shows {ports}, and listens on {told.get('ADASERVE_HTTP_PORT')}")
    return found


def asks_for_keys(render: Render) -> list[str]:
    """The gateway is never told to serve everybody."""
    return [
        f"{container.where}: {name}"
        for _, container in _services(render)
        for name in ("ADASERVE_UNSAFE_OPEN_BIND", "ADASERVE_TRUST_TRACEPARENT")
        if _told(container).get(name, "").lower() in ("true", "1", "yes")
    ]


def is_one_cell(render: Render) -> list[str]:
    """All services of a release share the keys of one cell, and one Redis."""
    found = []
    for name in ("ADASERVE_CELL", "REDIS_URL"):
        said = {_told(container).get(name) for _, container in _services(render)}
        found += [f"{name} is {sorted(map(str, said))}"] if len(said) > 1 else []
    return found


def runs_its_own_service(render: Render) -> list[str]:
    """Said outright, so that an image with another entry point does the same."""
    found = []
    for service, container in _services(render):
        said = " ".join(container.spec.get("command") or [])
        if said != f"python -m services.{service}":
            found.append(f"{container.where}: command is {said!r}")
    return found


POLICIES = (
    tells_what_is_known,
    tells_what_is_allowed,
    tells_each_thing_once,
    listens_where_it_is_asked,
    asks_for_keys,
    is_one_cell,
    runs_its_own_service,
)
