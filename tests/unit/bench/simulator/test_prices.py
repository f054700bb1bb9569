"""Prices files (bench/simulator/prices.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.simulator.prices import load_prices
from shared.errors import PolicyError
from shared.policy import Policy

POLICY = Policy.model_validate(
    {
        "classes": {"chatbot": {"tpot_ms": 50}},
        "tenants": {name: {"classes": ["chatbot"], "default": "chatbot"} for name in ("acme", "globex")},
    }
)
GOOD = """\
currency: EUR
gpu_hour: 2
gpus: 4
tenants:
  acme: {share: 3, per_million_tokens: 12.5, per_million_missed: 1, introduction: 5000}
  globex: {per_million_tokens: 8}
"""


def test_prices_are_read_with_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text(GOOD)
    prices = load_prices(tmp_path / "q.yaml", POLICY)
    assert (prices.currency, prices.cost_per_hour) == ("EUR", 8.0)
    acme, globex = prices.tenants.values()
    assert (acme.share, acme.per_million_tokens, acme.per_million_missed, acme.introduction) == (3, 12.5, 1, 5000)
    assert (globex.share, globex.per_million_missed, globex.introduction) == (1.0, 0.0, None)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("EUR", "euros", "line 1: currency='euros': String should match pattern"),
        ("gpu_hour: 2", "gpu_hour: -2", "line 2: gpu_hour='-2': Input should be greater than or equal to 0"),
        ("gpus: 4", "gpus: 0.5", "line 3: gpus='0.5': Input should be a valid integer"),
        ("share: 3", "share: 0", "line 5: tenants.acme.share='0': Input should be greater than 0"),
        ("12.5", ".inf", r"line 5: tenants.acme.per_million_tokens='.inf': Input should be less than or equal to"),
        ("per_million_tokens: 8", "", "line 6: tenants.globex.per_million_tokens: is required"),
        (
            "currency",
            "curency",
            "line 1: curency='EUR': no such field; there are currency, gpu_hour, gpus, drafter_gpus, tenants",
        ),
        ("  globex", "  initech", "line 6: tenants.initech: not a tenant of the policy, which has acme, globex"),
        ("  globex: {per_million_tokens: 8}\n", "", "line 4: tenants.globex: a tenant of the policy, and without"),
    ],
)
def test_an_error_names_line_field_value_and_limit(tmp_path: Path, before: str, after: str, told: str) -> None:
    assert before in GOOD
    path = tmp_path / "q.yaml"
    path.write_text(GOOD.replace(before, after, 1))
    with pytest.raises(PolicyError) as caught:
        load_prices(path, POLICY)
    assert str(caught.value).startswith(f"{path}, {told}")
