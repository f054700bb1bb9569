"""`adaserve policy`: check, explain, diff, schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import Result
from hypothesis import given
from typer.testing import CliRunner

from cli.main import app
from cli.policy_words import Explanation, differences
from shared.policy import Policy, load_policy
from shared.yaml_file import YamlFile
from tests.unit.shared.test_policy import policies

DOCS = Path(__file__).parents[3] / "docs"
FULL = DOCS / "examples" / "policy-full.yaml"
SMALL = DOCS / "examples" / "policy.yaml"
RUNNER = CliRunner()
MONDAY = datetime(2026, 11, 30, 8, tzinfo=UTC)  # 09:00 in Vienna


def call(*arguments: str | Path) -> Result:
    return RUNNER.invoke(app, ["policy", *map(str, arguments)], env={"ADASERVE_POLICY_FILE": None})


def changed(folder: Path, before: str, after: str) -> Path:
    text = FULL.read_text()
    assert before in text
    (folder / "new.yaml").write_text(text.replace(before, after))
    return folder / "new.yaml"


def test_a_good_file_is_counted() -> None:
    found = call("check", FULL)
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.endswith("good: 4 classes, 2 tenants, 2 schedules, a rollout\n")
    assert call("check", SMALL).stdout.endswith("good: 4 classes, 2 tenants, 0 schedules\n")


def test_a_bad_file_fails_with_line_field_value_and_limit(tmp_path: Path) -> None:
    found = call("check", changed(tmp_path, "tier: 1, objective: 0.95", "tier: 9"))
    assert found.exit_code == 2
    assert "new.yaml, line 4: classes.chatbot.tier='9': Input should be less than or equal to 3" in found.stderr
    assert found.stderr.count("\n") == 1


def test_warnings_pass_unless_they_shall_not(tmp_path: Path) -> None:
    file = changed(tmp_path, "* 9-17", "0 9-17")
    found = call("check", file)
    assert found.exit_code == 0
    assert "new.yaml, line 11: schedules.0.cron: is on for a single minute of each hour" in found.stderr
    assert call("check", "--strict", file).exit_code == 1
    assert call("check", "--strict", FULL).exit_code == 0


def test_a_tenant_is_told_what_it_gets_from_which_line_and_what_changes_when() -> None:
    found = call("explain", "acme", "--at", "2026-11-30T09:00+01:00", "--file", FULL)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0] == "acme (line 14), at Mon 2026-11-30 08:00 UTC"
    assert "gets class chatbot where a request does not ask for another (line 16)" in lines[1]
    assert "  class chatbot: TPOT at most 40 ms, for 95 % of its requests; tier 1 (line 4)" in lines
    assert "    now by schedule: TPOT 40 ms; until Mon 2026-11-30 18:00 Europe/Vienna (line 11)" in lines
    assert "  service_tier priority is class coding (line 8)" in lines
    assert "  least TPOT target in ms: 30 (line 23)" in lines
    assert "10 % -> 25 % -> 50 % -> 100 % of its requests are served with speculation" in lines[-1]
    assert lines[-1].endswith("the others are decoded plainly (line 27)")
    before = call("explain", "acme", "--at", "2026-11-30 07:59", "--file", FULL).stdout
    assert "class chatbot: TPOT at most 50 ms" in before
    assert "by schedule: TPOT 40 ms; from Mon 2026-11-30 09:00 Europe/Vienna (line 11)" in before


def test_every_line_that_is_named_says_so() -> None:
    """The line of the file holds the word that the sentence is about."""
    words = {
        "weight": "weight: 3",
        "requests a minute": "rpm",
        "acceptance": "acceptance",
        "class coding": "coding",
    }
    told = Explanation(YamlFile.read(FULL), load_policy(FULL), "acme", MONDAY).lines()
    text = FULL.read_text().splitlines()
    for start, word in words.items():
        (line,) = [one for one in told if one.strip().startswith(start)]
        assert word in text[int(line.rpartition("(line ")[2].rstrip(")")) - 1]


def test_a_least_target_that_is_above_the_class_is_said(tmp_path: Path) -> None:
    file = changed(tmp_path, "tpot_ms_min: 30", "tpot_ms_min: 45")
    told = call("explain", "acme", "--at", "2026-11-30T08:00", "--file", file).stdout
    assert "but the tenant's least TPOT target is 45 ms (line 23)" in told


def test_an_upstream_and_a_schedule_that_never_comes_are_said(tmp_path: Path) -> None:
    file = changed(tmp_path, "otherwise: plain", "otherwise: {upstream: 'https://old.example/v1'}")
    file.write_text(file.read_text().replace("* 9-17 * * 1-5", "* 0 29 2 *"))
    told = call("explain", "acme", "--at", "2026-11-30T08:00", "--file", file).stdout
    assert "the others are sent to https://old.example/v1" in told
    assert "by schedule: TPOT 40 ms; not within a year (line 11)" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explain", "acne", "--file", FULL), "no tenant 'acne'; there are acme, globex"),
        (("explain", "acme"), "--file is required where ADASERVE_POLICY_FILE is not set"),
        (("explain", "acme", "--file", FULL, "--at", "noon"), "--at='noon': must be a time such as"),
        (("check", DOCS / "none.yaml"), "none.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_odd_questions_end_in_one_line(arguments: tuple[str | Path, ...], words: str) -> None:
    found = call(*arguments)
    assert found.exit_code == 2
    assert words in found.stderr
    assert found.stderr.count("\n") == 1


def test_the_gateways_own_variable_names_the_file() -> None:
    found = RUNNER.invoke(app, ["policy", "explain", "globex"], env={"ADASERVE_POLICY_FILE": str(FULL)})
    assert found.exit_code == 0
    assert "service_tier flex is class batch (line 9)" in found.stdout


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("tpot_ms: 50", "tpot_ms: 60",
         ["acme:", "  class chatbot, TPOT: 50 ms -> 60 ms", "globex:", "  class chatbot, TPOT: 50 ms -> 60 ms"]),
        ("rpm: 600", "rpm: 500", ["acme:", "  requests a minute: 600 -> 500", "1 tenant without a change"]),
        ("    rpm: 600\n", "", ["acme:", "  requests a minute: 600 -> no limit", "1 tenant without a change"]),
        ("[coding, chatbot]", "[chatbot]",
         ["acme:", "  class coding: may be used -> none",
          "  class coding, TPOT: 1.2 x the zero-load latency -> none",
          "  class coding, TTFT: 500 ms -> none", "  class coding, tier: 0 -> none",
          "  class coding, objective: 99 % -> none", "  service_tier priority: class coding -> none",
          "1 tenant without a change"]),
        ("* 0-5", "* 0-6",
         ["globex:",
          "  class batch, schedule 1: tier 1 at '* 0-5 * * *' Europe/Vienna -> "
          "tier 1 at '* 0-6 * * *' Europe/Vienna", "1 tenant without a change"]),
        ("[0.1, 0.25, 0.5, 1.0]", "[0.1, 0.25, 0.5, 1.0]\n  margin: 0.05",
         ["acme:", "  rollout, margin: 2 points of attainment -> 5 points of attainment",
          "1 tenant without a change"]),
        ("# Every", "# Each", ["2 tenants without a change"]),
    ],
)  # fmt: skip
def test_differences_are_told_by_tenant(tmp_path: Path, before: str, after: str, told: list[str]) -> None:
    found = call("diff", FULL, changed(tmp_path, before, after))
    assert (found.exit_code, found.stdout.splitlines()) == (0, told)


def test_tenants_that_come_and_go_are_told() -> None:
    policy = load_policy(FULL)
    without = policy.model_copy(update={"tenants": {"acme": policy.tenants["acme"]}})
    assert list(differences(policy, without)) == [
        "globex: is no tenant any more; its requests are refused",
        "1 tenant without a change",
    ]
    new = list(differences(without, policy))
    assert new[0] == "globex: a new tenant"
    assert "  default class: summarization" in new


def test_the_published_schema_is_the_programs() -> None:
    published = (DOCS / "policy.schema.json").read_text()
    assert published == call("schema").stdout
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


def valid(content: Any) -> bool:
    schema = json.loads((DOCS / "policy.schema.json").read_text())
    return bool(jsonschema.Draft202012Validator(schema).is_valid(content))


@pytest.mark.parametrize("path", [FULL, SMALL], ids=lambda path: path.name)
def test_the_examples_are_of_the_schema_and_taken(path: Path) -> None:
    assert valid(yaml.safe_load(path.read_text()))
    assert load_policy(path).classes


@given(content=policies())
def test_what_the_program_takes_the_schema_takes(content: Any) -> None:
    Policy.model_validate(content)
    assert valid(json.loads(json.dumps(content)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1.2x", "1.2"),
        ("tier: 3", "tier: 4"),
        ("tier: 3", "tire: 3"),
        ("priority: coding", "gold: coding"),
        ("default: summarization", "weight: 1"),
        ("otherwise: plain", "otherwise: slow"),
        ("otherwise: plain", "otherwise: {upstream: 'http://h/v1', timeout_s: 0}"),
        ("[exact]", "[lossy]"),
        ("  globex:", "  glo bex:"),
    ],
)
def test_the_schema_refuses_what_the_program_refuses(tmp_path: Path, before: str, after: str) -> None:
    file = changed(tmp_path, before, after)
    assert call("check", file).exit_code == 2
    assert not valid(yaml.safe_load(file.read_text()))
