"""docs/kubernetes.md: each value, command, option, object, variable and link in it is there."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from cli.main import app
from shared.settings import known_variables
from tests.chart.policies.settings import SETTINGS
from tests.chart.renders import CHART, default_values, merged, renders
from tests.unit.deploy.promql import ROOT, rules
from tests.unit.deploy.test_rules import anchors

PAGE = ROOT / "docs/kubernetes.md"
TEXT = PAGE.read_text(encoding="utf-8")
RELEASE = "adaserve"
FILES = (".yaml", ".md", ".crt", ".key", ".json")
GENERATED = ("adaserve-auth", "adaserve-redis-auth")
KINDS = {
    "service": "Service",
    "deployment": "Deployment",
    "secret": "Secret",
    "pvc": "PersistentVolumeClaim",
}


def blocks() -> list[str]:
    """Indented ones, without the indentation."""
    found = re.findall(r"(?:^    .*\n)(?:^(?:    .*)?\n)*", TEXT, re.MULTILINE)
    return ["\n".join(line[4:] for line in block.splitlines()).strip() for block in found]


def code() -> Iterator[str]:
    """Spans between backticks, and lines of blocks; a line that ends with a backslash goes on."""
    prose = "\n".join(line for line in TEXT.splitlines() if not line.startswith("    "))
    yield from re.findall(r"`([^`\n]+)`", prose)
    for block in blocks():
        yield from block.replace("\\\n", " ").splitlines()


def values_named() -> set[str]:
    """Paths below a top-level key of values.yaml."""
    keys = "|".join(default_values())
    paths = {path for span in code() for path in re.findall(rf"(?<![\w./-])((?:{keys})(?:\.[A-Za-z]+)+)", span)}
    return {path for path in paths if not path.endswith(FILES)}


def is_a_value(path: str) -> bool:
    """Whether values.yaml has it; below an empty map or list anything may be."""
    values: Any = default_values()
    first, *rest = path.split(".")
    node = values[first]
    if first == "services" and rest:
        node = {name: merged(values["defaults"], service) for name, service in node.items()}
    for part in rest:
        if node in ({}, []):
            return True
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def test_its_first_lines_say_what_has_not_been_tried() -> None:
    assert "**No cluster install has been run yet.**" in "\n".join(TEXT.splitlines()[:4])


def test_the_values_that_it_names_are_there() -> None:
    assert len(values_named()) > 40
    assert sorted(path for path in values_named() if not is_a_value(path)) == []


def test_a_value_that_is_not_there_is_noticed() -> None:
    assert is_a_value("services.verifier.probes.startup")
    assert not is_a_value("services.verifier.tensorParallel")
    assert not is_a_value("services.worker.replicas")


@pytest.mark.parametrize("block", [block for block in blocks() if block.startswith("image:")])
def test_values_in_a_block_are_taken_by_the_schema(block: str) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = merged(default_values(), yaml.safe_load(block))
    jsonschema.Draft7Validator(schema).validate(values)


def commands() -> list[list[str]]:
    """Words of each `adaserve …`, without the variables before it and what follows a pipe or comment."""
    said = (re.match(r"(?:[A-Z_]+=\S+\s+)*(adaserve [a-z][^|&#]*)", span) for span in code())
    return [shlex.split(found[1]) for found in said if found]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_is_there_with_its_options(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    for word in words[1:]:
        if hasattr(command, "commands"):
            assert word in command.commands
            command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_it_names_commands() -> None:
    assert len(commands()) > 5


def test_what_is_made_and_run_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = {verb for span in code() for verb in re.findall(r"\bmake ([a-z]+)", span)}
    assert sorted(verb for verb in verbs if f"\n{verb}: " not in makefile) == []
    modules = {module for span in code() for module in re.findall(r"python -m ([\w.]+)", span)}
    assert [module for module in sorted(modules) if importlib.util.find_spec(module) is None] == []
    assert verbs
    assert modules


def objects() -> set[tuple[str, str]]:
    """Kind and what follows the release's name, of `service/adaserve-gateway` and `delete pvc adaserve-models`."""
    kinds = "|".join(KINDS)
    found = set()
    for span in code():
        for kind, names in re.findall(rf"\b({kinds})[/ ]((?:(?:data-)?{RELEASE}-[a-z0-9-]+ ?)+)", span):
            found |= {(KINDS[kind], name) for name in names.split()}
    return found


def test_the_objects_that_it_names_are_rendered() -> None:
    parts = {(d["kind"], d["metadata"]["name"].rpartition("-")[2]) for r in renders() for d in r.documents}
    there = {(kind, f"{RELEASE}-{part}") for kind, part in parts}
    there |= {("PersistentVolumeClaim", f"data-{name}-0") for kind, name in there if kind == "StatefulSet"}
    there |= {("Secret", name) for name in GENERATED}
    assert len(objects()) > 5
    assert objects() - there == set()


def test_the_variables_that_it_names_are_settings() -> None:
    known = {name for settings in SETTINGS.values() for name in known_variables(settings)} | {"ADASERVE_API_KEY"}
    assert set(re.findall(r"\bADASERVE_[A-Z_]+\b", TEXT)) - known == set()


def test_the_alerts_that_it_names_are_there() -> None:
    named = set(re.findall(r"`(AdaServe\w+)`", TEXT))
    assert named
    assert named - {rule["alert"] for rule in rules("alert")} == set()


def test_its_links_lead_somewhere() -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        file = PAGE.parent / path if path else PAGE
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


def test_its_table_of_examples_is_whole() -> None:
    table = TEXT.partition("examples: begin")[2].partition("examples: end")[0]
    named = re.findall(r"^\| `([a-z-]+)\.yaml`", table, re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))


def test_its_lines_are_no_longer_than_others() -> None:
    long = [line for line in TEXT.splitlines() if len(line) > 125 and not line.startswith("|")]
    assert long == []
