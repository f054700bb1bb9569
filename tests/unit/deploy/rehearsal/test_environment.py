"""Environment of a container as Kubernetes defines it."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.rehearsal.environment import Identity, amount, environment, expanded
from deploy.rehearsal.manifests import RehearsalError, Render

RENDER = Render(
    [
        {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1", "b": "2"}},
        {
            "kind": "Secret",
            "metadata": {"name": "secret"},
            "data": {"key": "c2VjcmV0"},
            "stringData": {"plain": "p"},
        },
    ]
)
POD = Identity(
    name="v-0",
    namespace="serving",
    uid="u",
    ip="10.77.1.0",
    labels={"app": "v"},
    annotations={},
    service_account="sa",
)


def of(*env: dict[str, Any], **container: Any) -> dict[str, str]:
    return environment({"name": "c", "env": list(env), **container}, POD, RENDER)


def test_values_come_from_where_they_say() -> None:
    found = of(
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "key"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "NOTHING"},
        resources={"limits": {"cpu": "1500m"}},
    )
    assert found == {"NAME": "v-0", "APP": "v", "A": "1", "KEY": "secret", "CPUS": "2", "NOTHING": ""}


def test_what_is_missing_stops_the_pod_unless_it_is_optional() -> None:
    wanted = {"name": "settings", "key": "none"}
    with pytest.raises(RehearsalError, match="no key none"):
        of({"name": "X", "valueFrom": {"configMapKeyRef": wanted}})
    assert of({"name": "X", "valueFrom": {"configMapKeyRef": {**wanted, "optional": True}}}) == {}
    with pytest.raises(RehearsalError, match="Secret gone"):
        of({"name": "X", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}})


def test_all_of_a_source_comes_first_and_references_see_what_was_before() -> None:
    found = of(
        {"name": "b", "value": "own"},
        {"name": "URL", "value": "http://$(P_a)/$(b)/$(LATER)/$$(b)"},
        {"name": "LATER", "value": "x"},
        envFrom=[{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "settings"}, "prefix": "P_"}],
    )
    assert found["URL"] == "http://1/own/$(LATER)/$(b)"
    assert (found["a"], found["b"]) == ("1", "own")


def test_an_argument_that_names_nothing_stays_as_it_is() -> None:
    assert expanded("--x=$(X) $$ $(Y", {"X": "1"}) == "--x=1 $ $(Y"


@pytest.mark.parametrize(
    ("quantity", "expected"), [("64Mi", 64 << 20), ("1.5G", 1.5e9), ("1000", 1000), ("250m", 0.25), ("2Ki", 2048)]
)
def test_quantities(quantity: str, expected: float) -> None:
    assert amount(quantity) == expected


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(RehearsalError, match="64MiB"):
        amount("64MiB")
