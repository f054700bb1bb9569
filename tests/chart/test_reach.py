"""Who may talk to whom: the rules of NetworkPolicies, on pods made for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.reach import ANY, OUTSIDE, Edge, inner_edges, outer_edges
from tests.chart.renders import COMPONENT, Document, Render, matches, merged


def pod(component: str, port: int) -> Document:
    spec = {"containers": [{"name": component, "ports": [{"name": "http", "containerPort": port}]}]}
    return {"kind": "Pod", "metadata": {"name": component, "labels": {COMPONENT: component}}, "spec": spec}


def policy(component: str | None, **rules: Any) -> Document:
    """For one component, or for all."""
    selector = {} if component is None else {"matchLabels": {COMPONENT: component}}
    spec = {"podSelector": selector, "policyTypes": ["Ingress", "Egress"], **rules}
    return {"kind": "NetworkPolicy", "metadata": {"name": component or "all"}, "spec": spec}


def peer(component: str) -> Document:
    return {"podSelector": {"matchLabels": {COMPONENT: component}}}


def world(*policies: Document) -> Render:
    return Render("made", [pod("asker", 1), pod("asked", 2), *policies], {})


def test_without_a_policy_everything_is_open() -> None:
    assert inner_edges(world()) == {Edge("asker", "asked", 2), Edge("asked", "asker", 1)}
    assert Edge("asker", OUTSIDE, ANY) in outer_edges(world())


def test_a_policy_without_rules_shuts_both_directions() -> None:
    assert inner_edges(world(policy(None))) == set()
    assert outer_edges(world(policy(None))) == set()


ASKS = policy("asker", egress=[{"to": [peer("asked")], "ports": [{"port": 2}]}])
IS_ASKED = policy("asked", ingress=[{"from": [peer("asker")], "ports": [{"port": "http"}]}])


def test_both_ends_must_allow_it() -> None:
    assert inner_edges(world(policy(None), ASKS)) == set()
    assert inner_edges(world(policy(None), IS_ASKED)) == set()
    assert inner_edges(world(policy(None), ASKS, IS_ASKED)) == {Edge("asker", "asked", 2)}


def test_another_port_is_another_way() -> None:
    other = policy("asker", egress=[{"to": [peer("asked")], "ports": [{"port": 3}]}])
    assert inner_edges(world(policy(None), other, IS_ASKED)) == set()


def test_a_rule_without_peers_is_for_everybody_here_and_elsewhere() -> None:
    wide = policy("asker", egress=[{"ports": [{"port": 2}]}])
    assert inner_edges(world(policy(None), wide, IS_ASKED)) == {Edge("asker", "asked", 2)}
    assert outer_edges(world(policy(None), wide)) == {Edge("asker", OUTSIDE, 2)}


@pytest.mark.parametrize("elsewhere", [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"namespaceSelector": {}}])
def test_addresses_and_other_namespaces_are_outside(elsewhere: Document) -> None:
    rule = {"from": [elsewhere], "ports": [{"port": "http"}]}
    assert outer_edges(world(policy(None), policy("asked", ingress=[rule]))) == {Edge(OUTSIDE, "asked", 2)}


def test_a_policy_for_one_direction_leaves_the_other_open() -> None:
    shut = policy(None)
    shut["spec"]["policyTypes"] = ["Ingress"]
    assert inner_edges(world(shut)) == set()
    assert outer_edges(world(shut)) == {Edge("asker", OUTSIDE, ANY), Edge("asked", OUTSIDE, ANY)}


@pytest.mark.parametrize(
    ("operator", "values", "taken"),
    [("In", ["a", "b"], True), ("NotIn", ["a"], False), ("Exists", None, True), ("DoesNotExist", None, False)],
)
def test_a_selectors_expressions(operator: str, values: list[str] | None, taken: bool) -> None:
    expression = {"key": "x", "operator": operator, "values": values}
    assert matches({"matchExpressions": [expression]}, {"x": "a"}) is taken


def test_an_empty_selector_takes_all_and_none_takes_nothing() -> None:
    assert matches({}, {"x": "a"})
    assert not matches(None, {"x": "a"})
    assert not matches({"matchLabels": {"x": "b"}}, {"x": "a"})


def test_values_are_laid_over_each_other_as_helm_does() -> None:
    over = {"a": {"c": 3}, "list": [2], "gone": None}
    assert merged({"a": {"b": 1, "c": 2}, "list": [1], "gone": 1}, over) == {"a": {"b": 1, "c": 3}, "list": [2]}
