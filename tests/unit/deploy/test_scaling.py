"""The triggers of the chart's values ask for what there is, and say the right numbers, also without traffic."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.scaling.gauges import VALUES as SIMULATED
from bench.scaling.rules import VALUES, Behavior, Rules, Trigger, read_rules
from shared.signals import METRICS, SERVICES
from tests.unit.deploy.promql import asked, complaints, series
from tests.unit.deploy.test_rules import needs_promtool, run

RULES: dict[str, Rules] = {service: read_rules(service) for service in SERVICES}
QUERIES = [
    pytest.param(service, name, trigger, id=f"{service}-{name}")
    for service, rules in RULES.items()
    for name, trigger in rules.triggers.items()
    if trigger.type != "Utilization"
]
LABELS = 'cell="default",namespace="n"'


def query(trigger: Trigger, labels: str = LABELS) -> str:
    """As the templates write it."""
    return trigger.query.replace("<<.LabelMatchers>>", labels).replace("<<.Target>>", f"{trigger.target:g}")


@pytest.mark.parametrize(("service", "name", "trigger"), QUERIES)
def test_a_trigger_asks_for_what_the_services_expose(service: str, name: str, trigger: Trigger) -> None:
    assert list(asked(trigger.query)), "it asks for nothing of ours"
    assert complaints(query(trigger, 'cell="default"'), {}) == []
    assert trigger.query.count("<<.LabelMatchers>>") == len(list(asked(trigger.query)))


@pytest.mark.parametrize("expr", ["sum(adaserve_opened_streams)", 'adaserve_info{service="writer"}'])
def test_a_trigger_that_asks_for_what_there_is_not_is_noticed(expr: str) -> None:
    assert complaints(expr, {})


def test_each_service_scales_on_what_the_architecture_says() -> None:
    assert {service: set(rules.active) for service, rules in RULES.items()} == {
        "gateway": {"streams", "cpu"},
        "drafter": {"busy", "queueWait"},
        "selector": {"queueWait", "cpu"},
        "verifier": {"waiting", "running", "kv", "attainment"},
    }


def test_the_simulation_knows_every_trigger_of_those_that_cost_accelerators() -> None:
    for service in ("drafter", "verifier"):
        assert RULES[service].active.keys() <= SIMULATED.keys()


def test_a_metric_that_a_trigger_asks_a_service_for_is_recorded_by_it() -> None:
    of = {name: metric for name, (metric, _) in series().items()}
    names = {found.name for param in QUERIES for found in asked(param.values[2].query)}
    assert {of[name].name for name in names} <= METRICS.keys()
    assert "adaserve_queue_requests" in names


CELL = {
    'adaserve_info{service="verifier"}': [1, 1],
    'adaserve_info{service="drafter"}': [1],
    "adaserve_open_streams": [30, 12],
    'adaserve_queue_requests{tier="1"}': [5, 5],  # every gateway tells the same
    'adaserve_queue_requests{tier="2"}': [2, 1],  # … or a little later
    'adaserve_requests{state="waiting"}': [1, 0],
    'adaserve_requests{state="prefilling"}': [1, 1],
    'adaserve_requests{state="running"}': [28, 16],
    'adaserve_kv_blocks{state="used"}': [30, 50],
    'adaserve_kv_blocks{state="total"}': [100, 100],
}
COUNTERS = {  # by minute
    'adaserve_step_time_seconds_sum{part="draft"}': 24.0,
    'adaserve_hop_time_seconds_sum{hop="draft"}': 1.2,
    'adaserve_hop_time_seconds_count{hop="draft"}': 60.0,
    'adaserve_hop_time_seconds_sum{hop="select"}': 0.3,
    'adaserve_hop_time_seconds_count{hop="select"}': 60.0,
    'adaserve_slo_requests_total{met="false"}': 3.0,
    'adaserve_slo_requests_total{met="true"}': 97.0,
}
SAYS = {
    ("gateway", "streams"): 42.0,
    ("drafter", "busy"): 0.4,
    ("drafter", "queueWait"): 0.02,
    ("selector", "queueWait"): 0.005,
    ("verifier", "waiting"): 5.0,
    ("verifier", "running"): 46.0,
    ("verifier", "kv"): 0.8,
    ("verifier", "attainment"): 0.03,
}


def scraped(changed: dict[str, Any] | None = None) -> list[dict[str, str]]:
    """Input series of a cell over five minutes, gauges still and counters rising."""
    found = []
    for name, value in ({**CELL, **COUNTERS} | (changed or {})).items():
        values = value if isinstance(value, list) else [value]
        for index, one in enumerate(values):
            instance = f"drafter-{index}" if "drafter" in name else str(index)
            labels = f'job="j",instance="{instance}",{LABELS}'
            full = name.replace("{", "{" + labels + ",") if "{" in name else f"{name}{{{labels}}}"
            course = f"0+{one / 4}x20" if name in COUNTERS else f"{one}x20"
            found.append({"series": full, "values": course})
    return found


def told(tmp_path: Path, inputs: list[dict[str, str]], expected: dict[tuple[str, str], float]) -> None:
    """Let promtool compare each trigger's value after five minutes."""
    tests = [
        {
            "expr": f"round(({query(RULES[service].triggers[name])}) * 1e6) / 1e6",
            "eval_time": "5m",
            "exp_samples": [{"labels": "{}", "value": value}],
        }
        for (service, name), value in expected.items()
    ]
    file = tmp_path / "triggers.yaml"
    case = {"interval": "15s", "input_series": inputs, "promql_expr_test": tests}
    file.write_text(yaml.safe_dump({"tests": [case]}))
    run("test", "rules", str(file))


@needs_promtool
def test_triggers_say_what_the_cell_does(tmp_path: Path) -> None:
    told(tmp_path, scraped(), SAYS)
    with pytest.raises(AssertionError, match="FAILED"):
        told(tmp_path, scraped(), {("gateway", "streams"): 43.0})


@needs_promtool
def test_without_traffic_every_trigger_says_nought_and_none_says_nothing(tmp_path: Path) -> None:
    still = dict.fromkeys(COUNTERS, 0.0) | {
        name: [0 for _ in value] for name, value in CELL.items() if "_info" not in name and "total" not in name
    }  # fmt: skip
    told(tmp_path, scraped(still), dict.fromkeys(SAYS, 0.0))


@needs_promtool
def test_drafters_whose_series_are_not_there_are_not_asked_to_be_many(tmp_path: Path) -> None:
    """A new cell has none before the first draft; the ceiling alone would be taken for the load."""
    absent = ('part="draft"', 'hop="')
    inputs = [each for each in scraped() if not any(part in each["series"] for part in absent)]
    told(tmp_path, inputs, {("drafter", "busy"): 0.0, ("drafter", "queueWait"): 0.0})


@needs_promtool
def test_drafters_are_never_asked_to_outnumber_verifiers(tmp_path: Path) -> None:
    rules = RULES["drafter"].triggers
    swamped = {
        'adaserve_step_time_seconds_sum{part="draft"}': 6000.0,
        'adaserve_hop_time_seconds_sum{hop="draft"}': 6000.0,
    }
    most = {("drafter", "busy"): 2 * rules["busy"].target, ("drafter", "queueWait"): 2 * rules["queueWait"].target}
    told(tmp_path, scraped(swamped), most)


@needs_promtool
def test_a_disaster_does_not_ask_for_everything_at_once(tmp_path: Path) -> None:
    rules = RULES["verifier"].triggers
    everything = {
        'adaserve_slo_requests_total{met="true"}': 0.0,
        'adaserve_queue_requests{tier="1"}': [5000, 5000],
    }
    most = {("verifier", name): rules[name].ceiling for name in ("attainment", "waiting")}
    assert max(rules[name].ceiling / rules[name].target for _, name in most) == 2.0
    told(tmp_path, scraped(everything), most)


def test_targets_are_numbers_that_kubernetes_takes() -> None:
    for rules, trigger in itertools.chain.from_iterable(
        ((rules, trigger) for trigger in rules.triggers.values()) for rules in RULES.values()
    ):
        assert math.isfinite(trigger.target)
        assert rules.min <= rules.max
        assert trigger.target * 1000 == pytest.approx(round(trigger.target * 1000)), "finer than a thousandth"


RENDERS = VALUES.parent / "renders"


def rendered(example: str, kind: str) -> list[dict[str, Any]]:
    """Objects of a kind in the committed render of an example."""
    text = (RENDERS / f"{example}.yaml").read_text(encoding="utf-8")
    return [found for found in yaml.safe_load_all(text) if found and found["kind"] == kind]


def component(found: dict[str, Any]) -> str:
    """Of which service it is."""
    name: str = found["metadata"]["labels"]["app.kubernetes.io/component"]
    return name


def test_keda_asks_what_the_values_say_with_the_labels_of_the_release() -> None:
    scaled = {component(found): found["spec"] for found in rendered("keda", "ScaledObject")}
    [namespace] = {found["metadata"]["namespace"] for found in rendered("keda", "ScaledObject")}
    assert scaled.keys() == set(SERVICES)
    for service, spec in scaled.items():
        of_prometheus = [one["metadata"] for one in spec["triggers"] if one["type"] == "prometheus"]
        labels = f'cell="default",namespace="{namespace}"'
        triggers = [trigger for trigger in RULES[service].active.values() if trigger.query]
        assert {(one["query"], float(one["threshold"])) for one in of_prometheus} == {
            (query(trigger, labels), trigger.target) for trigger in triggers
        }
        assert {one["ignoreNullValues"] for one in of_prometheus} == {"false"}
        assert Behavior(**spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]) == RULES[service].behavior


def test_without_keda_the_adapter_is_given_the_same_queries_by_the_names_that_are_asked_for() -> None:
    [config] = [
        yaml.safe_load(found["data"]["config.yaml"])
        for found in rendered("hpa", "ConfigMap")
        if found["metadata"]["name"].endswith("-adapter-rules")
    ]
    served = {rule["name"]["as"]: rule["metricsQuery"] for rule in config["externalRules"]}
    asked_for = {
        metric["external"]["metric"]["name"]: component(found)
        for found in rendered("hpa", "HorizontalPodAutoscaler")
        for metric in found["spec"]["metrics"]
        if metric["type"] == "External"
    }
    assert served.keys() == asked_for.keys()
    for name, service in asked_for.items():
        assert served[name] in {query(trigger, "<<.LabelMatchers>>") for trigger in RULES[service].active.values()}
    for rule in config["externalRules"]:
        assert complaints(rule["seriesQuery"].partition('"')[2].partition('"')[0], {}) == []


@pytest.mark.parametrize("example", ["keda", "hpa"])
def test_what_is_scaled_has_no_number_of_replicas(example: str) -> None:
    for found in rendered(example, "Deployment"):
        if component(found) in SERVICES:
            assert "replicas" not in found["spec"]


def test_the_label_service_of_adaserve_info_survives_the_scrape() -> None:
    [monitor] = rendered("keda", "ServiceMonitor")
    [endpoint] = monitor["spec"]["endpoints"]
    assert {"action": "labeldrop", "regex": "service"} in endpoint["relabelings"]
    assert {"action": "replace", "targetLabel": "cell", "replacement": "default"} in endpoint["relabelings"]
