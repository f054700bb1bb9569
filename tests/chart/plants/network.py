"""Ways that are open and need not be, and needed ones that are shut."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plants, document
from tests.chart.policies import network as policies
from tests.chart.renders import COMPONENT, Document, Render


def rules(render: Render, component: str, direction: str) -> list[Document]:
    """`ingress` or `egress` of the policy for a component."""
    for policy in render.of_kind("NetworkPolicy"):
        if policy["spec"]["podSelector"].get("matchLabels", {}).get(COMPONENT) == component:
            return policy["spec"].setdefault(direction, [])
    raise LookupError(f"no policy for {component}")


def default(render: Render) -> Document:
    """The one for all pods of the release."""
    for policy in render.of_kind("NetworkPolicy"):
        if COMPONENT not in policy["spec"]["podSelector"].get("matchLabels", {COMPONENT: ""}):
            return policy
    raise LookupError("no policy for all pods")


def all_allowed(render: Render) -> None:
    default(render)["spec"]["ingress"] = [{"ports": [{"port": 1234}]}]


def whole_namespace(render: Render) -> None:
    document(render, "NetworkPolicy")["spec"]["podSelector"] = {}


def no_way_to_redis(render: Render) -> None:
    rules(render, "redis", "ingress").clear()


def no_names(render: Render) -> None:
    for policy in render.of_kind("NetworkPolicy"):
        policy["spec"]["egress"] = [r for r in policy["spec"].get("egress") or [] if not _dns(r)]


def _dns(rule: Document) -> bool:
    return any(port.get("port") == policies.DNS for port in rule.get("ports") or [])


def from_drafter_to_verifier(render: Render) -> None:
    anyone = {"podSelector": {}}
    rules(render, "drafter", "egress").append({"to": [anyone]})
    rules(render, "verifier", "ingress").append({"from": [anyone]})


def anywhere(render: Render) -> None:
    rules(render, "verifier", "egress").append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]})


def from_anywhere(render: Render) -> None:
    rules(render, "verifier", "ingress").append({"ports": [{"port": 9103}]})


def no_policies(render: Render) -> None:
    render.documents[:] = [found for found in render.documents if found["kind"] != "NetworkPolicy"]


PLANTS: Plants = [
    (policies.denies_by_default, all_allowed),
    (policies.denies_by_default, no_policies),
    (policies.leaves_the_neighbours_alone, whole_namespace),
    (policies.opens_what_is_needed, no_way_to_redis),
    (policies.opens_what_is_needed, no_names),
    (policies.opens_nothing_else_inside, from_drafter_to_verifier),
    (policies.opens_nothing_else_outside, anywhere),
    (policies.only_the_gateway_is_open_to_all, from_anywhere),
]
