"""The rule file: names, labels, anchors; and what promtool says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.diagnosis import speculation
from deploy.dashboards.__main__ import DASHBOARDS
from services.gateway.static_files import CONSOLE
from shared import signals, telemetry
from tests.unit.deploy.promql import ROOT, RULES, complaints, labels_of_records, rules

TESTS = sorted((RULES.parent / "tests").glob("*.yaml"))
RUNBOOK = ROOT / "docs/operations.md"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool (Debian: package prometheus)"
)
ALERTS = rules("alert")


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules("record") + ALERTS, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    assert complaints(rule["expr"], labels_of_records()) == []


@pytest.mark.parametrize("expr", [
    "adaserve_steps", "adaserve_steps_totals", 'adaserve_steps_total{kinds="bare"}',
    'adaserve_steps_total{kind="odd"}', "sum by (kinds) (adaserve_steps_total)", "adaserve_step_time_seconds",
    "adaserve:nothing",
])  # fmt: skip
def test_what_there_is_not_is_noticed(expr: str) -> None:
    assert complaints(expr, labels_of_records())


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_can_be_understood_at_night(alert: dict[str, Any]) -> None:
    told = alert["annotations"]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert told.keys() == {"summary", "description", "runbook_url"}
    assert len(told["summary"]) < 110
    assert told["description"].endswith(".")
    page, _, anchor = told["runbook_url"].partition("#")
    assert (page, anchor) == ("docs/operations.md", alert["alert"].lower())
    assert anchor in anchors(RUNBOOK.read_text(encoding="utf-8"))


def test_the_runbook_knows_no_other_alerts() -> None:
    told = re.findall(r"^### (AdaServe\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted({alert["alert"] for alert in ALERTS})


def test_the_panels_that_the_runbook_names_are_there() -> None:
    runbook = RUNBOOK.read_text(encoding="utf-8").partition("## Runbook")[2]
    named = {name.replace("\n", " ") for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", runbook)}
    titles = [panel.title for dashboard in DASHBOARDS for panel in dashboard.panels]
    titles += [dashboard.title.removeprefix("AdaServe: ") for dashboard in DASHBOARDS]
    there = {name for name in named if any(title.startswith(name.removeprefix("AdaServe: ")) for title in titles)}
    assert named - there == set()
    assert len(there) > 20


def test_every_alert_is_seen_to_fire() -> None:
    tested = "".join(path.read_text(encoding="utf-8") for path in TESTS)
    assert [alert["alert"] for alert in ALERTS if f'alertname="{alert["alert"]}", ' not in tested] == []


def test_the_alerts_the_doctor_and_the_console_draw_the_same_lines() -> None:
    verdict = (CONSOLE / "verdict.js").read_text(encoding="utf-8")
    [drift], [enough] = (
        re.findall(rf"^const {name} = ([\d.]+);", verdict, re.MULTILINE) for name in ("DRIFT", "ENOUGH")
    )
    exprs = {alert["alert"]: alert["expr"] for alert in ALERTS}
    assert float(drift) == speculation.CALIBRATION_OFF
    assert f'adaserve_calibration_error{{kind="calibrated"}}) > {drift}' in exprs["AdaServeCalibrationOff"]
    assert exprs["AdaServeSloBurnFast"].endswith(f">= {enough}")


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    run("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_the_alerts_fire_when_they_should_and_only_then(file: Path) -> None:
    run("test", "rules", str(file))


@needs_promtool
@pytest.mark.parametrize("service", signals.SERVICES)
def test_promtool_has_nothing_against_a_services_metrics(service: str) -> None:
    with telemetry.configure(service, f"{service}.1") as told:
        for metric in signals.METRICS.values():
            labels = {name: values[0] for name, values in metric.labels.items()}
            if service in metric.services and isinstance(metric, signals.Counter):
                told.add(metric, **labels)
            elif service in metric.services and isinstance(metric, signals.Gauge):
                told.set(metric, 1, **labels)
            elif service in metric.services and isinstance(metric, signals.Histogram):
                told.record(metric, 0.01, **labels)
        assert run("check", "metrics", text=told.prometheus()) == ""


def run(*words: str, text: bytes = b"") -> str:
    done = subprocess.run(["promtool", *words], input=text, capture_output=True, timeout=60)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told
