"""Connections as the kernel lists them, and whether policies allow them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.rehearsal.edges import allowed, chooses, connections

GATEWAY, REDIS, OTHER = ({"app": name} for name in ("gateway", "redis", "other"))
NAMES = {"redis": 6379}


def policy(app: str, **rules: Any) -> dict[str, Any]:
    directions = [direction.capitalize() for direction in rules]
    return {"spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": directions, **rules}}


def peers(*apps: str) -> list[dict[str, Any]]:
    return [
        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": list(apps)}]}},
    ]


TCP = [{"port": "redis", "protocol": "TCP"}]
POLICIES = [
    policy("gateway", egress=[{"to": peers("redis"), "ports": [{"port": 6379}]}]),
    policy("redis", ingress=[{"from": peers("gateway"), "ports": TCP}]),
]


def test_both_ends_must_allow_it() -> None:
    assert allowed(POLICIES, GATEWAY, REDIS, 6379, NAMES)
    assert not allowed(POLICIES, GATEWAY, REDIS, 6380, NAMES)
    assert not allowed(POLICIES, OTHER, REDIS, 6379, NAMES)
    assert not allowed(POLICIES, GATEWAY, OTHER, 6379, NAMES)
    assert allowed(POLICIES, OTHER, GATEWAY, 8000, NAMES)  # nobody has said anything of these ends


def test_a_policy_without_rules_allows_nothing() -> None:
    assert not allowed([policy("gateway", egress=[])], GATEWAY, REDIS, 6379, NAMES)
    assert allowed([policy("gateway", egress=[{}])], GATEWAY, REDIS, 6379, NAMES)


@pytest.mark.parametrize(
    "peer", [{"namespaceSelector": {"matchLabels": {"n": "x"}}}, {"ipBlock": {"cidr": "10.77.0.0/16"}}]
)
def test_other_namespaces_and_addresses_are_not_pods_of_the_release(peer: dict[str, Any]) -> None:
    assert not allowed([policy("gateway", egress=[{"to": [peer]}])], GATEWAY, REDIS, 6379, NAMES)


def test_a_range_of_ports() -> None:
    rules = [{"ports": [{"port": 6000, "endPort": 6400}]}]
    assert allowed([policy("gateway", egress=rules)], GATEWAY, REDIS, 6379, NAMES)
    assert not allowed(
        [policy("gateway", egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])], GATEWAY, REDIS, 53, {}
    )


def test_expressions() -> None:
    def one(operator: str, *values: str) -> bool:
        return chooses({"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}, REDIS)

    assert [one("In", "redis"), one("NotIn", "redis"), one("Exists"), one("DoesNotExist")] == [
        True,
        False,
        True,
        False,
    ]
    assert chooses({}, REDIS)


def test_established_connections_are_read_from_the_kernels_list(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 00000000:1F40 00000000:0000 0A 00000000:00000000\n"
        "   1: 00014D0A:9C40 01FF4D0A:18EB 01 00000000:00000000\n"
    )
    assert list(connections(table)) == [("10.77.255.1", 6379)]
    assert list(connections(tmp_path / "none")) == []
