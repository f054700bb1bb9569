"""What a PromQL expression asks for, and whether anything is called so. No parser: promtool has one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from shared.signals import METRICS, Counter, Gauge, Metric, Named

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy/k8s/files/rules/adaserve.yaml"
TARGET = {"cell", "job", "instance"}  # what a scrape adds
OWN = {"ALERTS": {"alertname", "alertstate", "severity"}}  # Prometheus' own

_SELECTOR = re.compile(r"\b((?:adaserve|vllm)[_:][a-z0-9_:]+|ALERTS)\b(\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left)\s*\(([^)]*)\)")


class Asked(NamedTuple):
    """A selector: its name, and its matchers' labels and values."""

    name: str
    matchers: list[tuple[str, str]]


@cache
def rule_groups() -> list[dict[str, Any]]:
    """As the rule file has them."""
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return groups


def rules(kind: str) -> list[dict[str, Any]]:
    """All of a ``kind``, record or alert."""
    return [rule for group in rule_groups() for rule in group["rules"] if kind in rule]


@cache
def series() -> dict[str, tuple[Metric, set[str]]]:
    """Every name that a service exposes, with its metric and labels."""
    found = {}
    for metric in METRICS.values():
        labels = set(metric.labels) | TARGET
        if isinstance(metric, Counter | Gauge):
            found[metric.exposed] = metric, labels
        else:
            found |= {f"{metric.exposed}_{part}": (metric, labels) for part in ("sum", "count")}
            found[f"{metric.exposed}_bucket"] = metric, labels | {"le"}
    return found


def asked(expr: str) -> Iterator[Asked]:
    """Its selectors."""
    for name, matchers in _SELECTOR.findall(expr):
        yield Asked(name, _MATCHER.findall(matchers))


def grouped(expr: str) -> set[str]:
    """Labels that it groups or matches by."""
    return {label.strip() for found in _GROUPING.findall(expr) for label in found.split(",") if label.strip()}


def complaints(expr: str, recorded: Mapping[str, Collection[str]]) -> list[str]:
    """What is wrong with an expression; ``recorded`` are the labels of what rules record."""
    known = series()
    wrong, labels = [], set(TARGET)
    for name, matchers in asked(expr):
        of_series = known[name][1] if name in known else set(recorded.get(name, OWN.get(name, ())))
        if not of_series:
            wrong.append(f"nothing is called {name}")
        labels |= of_series
        for label, value in matchers:
            if label not in of_series:
                wrong.append(f"{name} has no label {label}")
            elif name in known:
                wrong += _odd_values(known[name][0], label, value)
    wrong += [f"nothing has the label {label}" for label in sorted(grouped(expr) - labels)]
    return wrong


def _odd_values(metric: Metric, label: str, value: str) -> list[str]:
    listed = metric.labels.get(label)
    if listed is None or isinstance(listed, Named) or re.search(r"[.*$\[]", value):
        return []
    return [f"{metric.name}: {label} is never {one}" for one in value.split("|") if one not in listed]


@cache
def labels_of_records() -> dict[str, set[str]]:
    """Labels of each recorded series: what its outermost aggregations keep, and what the rule adds."""
    found: dict[str, set[str]] = {}
    for rule in rules("record"):
        kept = grouped(rule["expr"]) | set(rule.get("labels", ()))
        for name, _ in asked(rule["expr"]):
            kept |= found.get(name, set())
        found[rule["record"]] = found.get(rule["record"], set()) | kept | {"cell"}
    return found
