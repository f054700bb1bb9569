"""`adaserve doctor`: what is wrong with a deployment, why it matters, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from cli.diagnosis.looks import diagnosed
from cli.diagnosis.snapshot import Finding, Severity
from cli.exits import EXIT_FAILED, one_line_errors
from cli.options import LOCAL, AdminKey, AsTenant, Url, with_scheme
from cli.plurals import counted
from cli.settings import API_KEY, bus_url, inherited
from shared.settings import EXIT_CONFIGURATION, PREFIX

MARKS = {
    Severity.PROBLEM: "PROBLEM",
    Severity.WARNING: "warning",
    Severity.FINE: "fine",
    Severity.UNKNOWN: "unknown",
}


def doctor(
    url: Url = LOCAL,
    api_key: Annotated[str | None, typer.Option(envvar=API_KEY, help="Where the gateway asks for one.")] = None,
    tenant: AsTenant = None,
    admin_key: AdminKey = None,
    redis: Annotated[
        str | None, typer.Option(help="Look at Redis as well.", show_default="REDIS_URL, else it is not looked at")
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(callback=with_scheme, help="URL of a Prometheus: look whether autoscaling gets its series."),
    ] = None,
    cell: Annotated[str, typer.Option(envvar=f"{PREFIX}CELL", help="Hash tag of all keys.")] = "default",
    namespace: Annotated[
        str | None,
        typer.Option(help="The label of that name on the series.", show_default="what the cell's series say"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as one object.")] = False,
) -> None:
    """Look a deployment over. Exit code 0: no problem, 1: problems, 2: it could not be looked at."""
    from cli.examination import examined  # its HTTP client costs every command a tenth of a second

    with one_line_errors():
        environment = inherited()
        snapshot = examined(
            url,
            api_key=api_key,
            tenant=tenant,
            admin_key=admin_key,
            redis_url=bus_url(environment, redis),
            prometheus=prometheus,
            cell=cell,
            namespace=namespace,
            environment=environment,
        )
    found = diagnosed(snapshot)
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in found]}))
    else:
        for line in finding_lines(found):
            typer.echo(line)
    if not snapshot.could_be_looked_at:
        raise typer.Exit(EXIT_CONFIGURATION)
    raise typer.Exit(EXIT_FAILED if any(one.severity is Severity.PROBLEM for one in found) else 0)


def finding_lines(found: list[Finding]) -> list[str]:
    """For people: what is not fine with why and what to do; how many problems there are."""
    lines = []
    for finding in found:
        lines.append(f"{MARKS[finding.severity]:<8} {finding.subject}: {finding.what}")
        if finding.remedy:
            lines += [f"{'':<8}   why it matters: {finding.why}", f"{'':<8}   what to do: {finding.remedy}"]
    counts = {severity: sum(one.severity is severity for one in found) for severity in Severity}
    named = ((Severity.PROBLEM, "problem"), (Severity.WARNING, "warning"))
    return [*lines, ", ".join(counted(counts[severity], name) for severity, name in named)]
