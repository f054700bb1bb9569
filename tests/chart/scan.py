"""checkov over the renders: `python -m tests.chart.scan CHECKOV`. Exit code 1 for findings without an exception.

checkov tells severities only to customers of its maker, so every finding counts. An exception names a check, the
resources that it is for and the reason, in deploy/k8s/scan-exceptions.yaml; one that nothing needs any more is an
error too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.chart.renders import CHART

EXCEPTIONS = CHART / "scan-exceptions.yaml"


class Finding(NamedTuple):
    """A check that failed. `resource` is Kind.namespace.name."""

    render: str
    check: str
    resource: str
    what: str


class Allowed(NamedTuple):
    """What may be found, and why. Patterns of `resources` are those of file names."""

    check: str
    resources: tuple[str, ...]
    reason: str

    def covers(self, finding: Finding) -> bool:
        return self.check == finding.check and any(fnmatchcase(finding.resource, p) for p in self.resources)


def exceptions() -> list[Allowed]:
    told = yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")) or []
    return [Allowed(entry["check"], tuple(entry["resources"]), entry["reason"]) for entry in told]


def findings(checkov: str) -> tuple[list[Finding], int]:
    """What failed, and how many checks passed. Raises RuntimeError if checkov did not do its work."""
    command = [checkov, "--directory", str(CHART / "renders"), "--framework", "kubernetes"]
    command += ["--skip-download", "--compact", "--output", "json", "--soft-fail"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"checkov: exit code {run.returncode}: {run.stderr[-2000:]}")
    told = json.loads(run.stdout)
    if not told.get("summary", {}).get("passed"):
        raise RuntimeError(f"checkov has looked at nothing: {run.stdout[:500]}")
    return list(_failed(told)), told["summary"]["passed"]


def _failed(told: dict[str, Any]) -> Iterator[Finding]:
    for failed in told["results"]["failed_checks"]:
        render = Path(failed["file_path"]).stem
        yield Finding(render, failed["check_id"], failed["resource"], failed["check_name"])


def judged(found: list[Finding], excepted: list[Allowed]) -> tuple[list[Finding], list[Allowed]]:
    """Findings that no exception covers, and exceptions that cover no finding."""
    bare = [finding for finding in found if not any(one.covers(finding) for one in excepted)]
    idle = [one for one in excepted if not any(one.covers(finding) for finding in found)]
    return bare, idle


def main(checkov: str) -> int:
    excepted = exceptions()
    found, passed = findings(checkov)
    bare, idle = judged(found, excepted)
    for finding in bare:
        print(f"{finding.render}: {finding.resource}: {finding.check} {finding.what}")
    for one in idle:
        print(f"{EXCEPTIONS.name}: nothing needs {one.check} for {', '.join(one.resources)}")
    print(f"checkov: {passed} passed, {len(found) - len(bare)} excepted with a reason, {len(bare)} found")
    return 1 if bare or idle else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
