"""docs/observability.md: its table is that of shared/signals.py, and it knows every alert and vLLM's names."""

from __future__ import annotations

import re

import pytest

from deploy.metrics_table import BEGIN, END, PAGE, table, written
from shared.signals import METRICS
from tests.unit.deploy.promql import rules, series

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_is_what_the_services_record() -> None:
    assert written(TEXT) == TEXT, "python -m deploy.metrics_table"
    assert TEXT.count(BEGIN) == TEXT.count(END) == 1
    assert len(table().splitlines()) == len(METRICS) + 2


def test_every_alert_is_named() -> None:
    assert [rule["alert"] for rule in rules("alert") if f"`{rule['alert']}`" not in TEXT] == []


def test_every_name_of_vllm_is_explained() -> None:
    names = {rule["record"] for rule in rules("record") if rule["record"].startswith("vllm:")}
    bases = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in names}
    assert sorted(name for name in bases if f"`{name}`" not in TEXT) == []


@pytest.mark.parametrize("page", ["operations", "observability", "slo-policy", "replay", "api"])
def test_a_page_names_no_metric_that_there_is_not(page: str) -> None:
    text = (PAGE.parent / f"{page}.md").read_text(encoding="utf-8")
    known = set(series()) | {metric.exposed for metric in METRICS.values()}
    assert sorted(set(re.findall(r"`(adaserve_[a-z_]+)", text)) - known) == []
