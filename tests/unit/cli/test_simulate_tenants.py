"""`adaserve simulate --policy --prices` (cli/tenants.py, cli/tenant_tables.py), with the files of the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
POLICY, PRICES = str(EXAMPLES / "policy.yaml"), str(EXAMPLES / "prices.yaml")
SMALL = "paper:rps=1,seconds=20,lengths=0.1"
PRICED = ["--policy", POLICY, "--prices", PRICES]


def simulate(*arguments: str, trace: str = SMALL) -> Any:
    return CliRunner().invoke(
        app, ["simulate", "--trace", trace, "--seeds", "2", *arguments], env={"COLUMNS": "160"}
    )


def objects(*arguments: str) -> list[dict[str, Any]]:
    result = simulate("--json", *arguments)
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_prices_give_cost_margin_and_payback_by_tenant_against_the_baseline() -> None:
    ours, baseline = objects(*PRICED)
    assert [told["system"] for told in (ours, baseline)] == ["adaserve", "sarathi"]
    assert (ours["currency"], ours["baseline"]) == ("EUR", "sarathi")
    assert set(ours["tenants"]["acme"]) == set(ours["total"]) | {"classes"}
    assert set(ours["total"]) == {
        "attainment", "tokens_per_s", "goodput_tokens_per_s", "cost_per_hour", "earned_per_hour",
        "margin_per_hour", "cost_per_1000_goodput_tokens", "gain_per_hour", "introduction", "payback_days",
    }  # fmt: skip
    assert ours["total"]["cost_per_hour"] == baseline["total"]["cost_per_hour"] == 8.0
    assert ours["total"]["introduction"] == 6000.0
    assert baseline["total"]["payback_days"] is baseline["total"]["gain_per_hour"] is None
    assert ours["attainment"]["mean"] == ours["total"]["attainment"]["mean"]


def test_the_last_system_is_the_baseline() -> None:
    told = objects(*PRICED, "--system", "adaserve", "--system", "adaserve-paper", "--system", "sarathi")
    assert [(one["system"], one["baseline"]) for one in told] == [
        ("adaserve", "sarathi"), ("adaserve-paper", "sarathi"), ("sarathi", "sarathi"),
    ]  # fmt: skip


def test_the_baseline_alone_is_compared_with_nothing() -> None:
    (told,) = objects(*PRICED, "--system", "sarathi")
    assert told["total"]["gain_per_hour"] is None


def test_a_policy_alone_tells_attainment_against_the_objectives() -> None:
    ours, _ = objects("--policy", POLICY)
    assert not {"currency", "baseline", "total"} & ours.keys()
    assert set(ours["tenants"]) == {"acme", "globex"}
    coding = ours["tenants"]["acme"]["classes"]["coding"]
    assert coding["requests"] > 0
    assert (coding["objective"], coding["met"]) == (99.0, coding["attainment"]["mean"] >= 99.0)
    assert ours["tenants"]["globex"]["classes"]["batch"]["requests"] == 0


def test_people_get_tables() -> None:
    result = simulate(*PRICED)
    assert result.exit_code == 0, result.output
    for words in (
        "objective %",
        "goodput tok/s",
        "payback, days",
        "EUR per hour",
        "against sarathi",
        "all tenants",
    ):
        assert words in result.stdout
    assert "payback" not in simulate("--policy", POLICY).stdout


@pytest.fixture
def policy_of_one_class(tmp_path: Path) -> str:
    path = tmp_path / "one.yaml"
    path.write_text("classes: {coding: {tpot: 2x}}\ntenants: {acme: {classes: [coding], default: coding}}\n")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prices", PRICES], "--prices needs the tenants of a --policy"),
        (["--policy", "none.yaml"], "none.yaml: cannot be read"),
        (["--policy", POLICY, "--prices", POLICY], "policy.yaml, line 2: classes: no such field"),
        ([*PRICED, "--system", "sarathi", "--system", "sarathi"], "named once"),
    ],
)
def test_odd_choices_are_one_line(arguments: list[str], words: str) -> None:
    result = simulate(*arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_a_policy_does_not_go_with_a_sweep() -> None:
    result = CliRunner().invoke(app, ["simulate", "--sweep", "fig8", "--policy", POLICY])
    assert result.exit_code == 2
    assert "not with a --sweep" in result.output


def test_a_request_of_no_tenant_stops_before_the_simulation(policy_of_one_class: str) -> None:
    result = simulate("--policy", policy_of_one_class)
    assert result.exit_code == 2
    assert "class of no tenant (acme: coding)" in result.output


def test_an_hour_needs_a_trace_that_lasts(tmp_path: Path) -> None:
    path = tmp_path / "once.csv"
    path.write_text(
        "arrival_ms,category,prompt_tokens,output_tokens,tpot_slo_ratio,tpot_slo_ms,prompt_id\n0,coding,5,5,,,a\n"
    )
    result = simulate(*PRICED, trace=str(path))
    assert result.exit_code == 2
    assert "arrive all at once" in result.output
    assert simulate("--policy", POLICY, trace=str(path)).exit_code == 0
