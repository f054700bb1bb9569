"""The example of a collector asks for attributes that spans have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shared import signals
from tests.span_table import ATTRIBUTES

EXAMPLE = Path(__file__).parents[3] / "deploy/otel/collector.yaml"


def test_every_component_is_defined_and_every_attribute_is_one_of_ours() -> None:
    example: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    pipeline = example["service"]["pipelines"]["traces"]
    for kind, names in pipeline.items():
        assert set(names) <= set(example[kind])
    policies = example["processors"]["tail_sampling"]["policies"]
    asked = {policy[policy["type"]]["key"] for policy in policies if "key" in policy[policy["type"]]}
    assert asked == {signals.SLO_MET, signals.QUEUE_MS, signals.IS_TAKE_OVER}
    assert asked <= {name for attributes in ATTRIBUTES.values() for name in attributes}
