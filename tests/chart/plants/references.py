"""Documents that speak of what is not there."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plants, beside, document, pod, removed
from tests.chart.policies import references as policies
from tests.chart.renders import COMPONENT, Render


def too_wide(render: Render) -> None:
    pod(render).owner["spec"]["selector"]["matchLabels"].pop(COMPONENT)


def other_port(render: Render) -> None:
    document(render, "Service", "-gateway")["spec"]["ports"][0]["targetPort"] = "htp"


def nobodys_service(render: Render) -> None:
    document(render, "Service", "-gateway")["spec"]["selector"] = {"app": "nobody"}


def lost_backend(render: Render) -> None:
    path = document(render, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]
    path["backend"]["service"] = {"name": "nobody", "port": {"number": 80}}


def lost_route(render: Render) -> None:
    document(render, "HTTPRoute")["spec"]["rules"][0]["backendRefs"][0]["port"] = 81


PLANTS: Plants = [
    (policies.selects_its_own_pods, too_wide),
    (policies.sends_to_ports_that_there_are, other_port),
    (policies.sends_to_ports_that_there_are, nobodys_service),
    (policies.is_found_by_name, removed("Service", "-redis")),
    (policies.routes_to_services, lost_backend),
    (policies.routes_to_services, lost_route),
    (policies.has_no_double, lambda r: beside(r, "Service", "-gateway")),
    (policies.says_whose_it_is, lambda r: document(r, "Service")["metadata"].pop("labels")),
]
