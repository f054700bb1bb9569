"""`adaserve policy`: look at a policy file without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exits import EXIT_FAILED, one_line_errors
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from shared.policy import Policy
    from shared.yaml_file import YamlFile

policy_app = typer.Typer(help="Check, explain and compare policy files.", no_args_is_help=True)


@policy_app.command()
def check(
    file: Path,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
) -> None:
    """Whether a gateway would take the file; with what may not be meant on stderr."""
    from cli.policy_words import counted
    from shared.policy_check import warnings

    with one_line_errors():
        source, policy = _read(file)
    found = warnings(source, policy, datetime.now(UTC))
    for warning in found:
        typer.echo(f"{file}, {warning}", err=True)
    typer.echo(f"{file}: {counted(policy)}")
    if found and strict:
        raise typer.Exit(EXIT_FAILED)


@policy_app.command()
def explain(
    tenant: str,
    at: Annotated[
        str | None,
        typer.Option(help="A time such as 2026-11-30T09:00+01:00; UTC without an offset.", show_default="now"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(envvar="ADASERVE_POLICY_FILE", help="The policy.", show_default="the gateway's")
    ] = None,
) -> None:
    """What a tenant gets at a time, from which line of the file, and what will change it when."""
    from cli.policy_words import Explanation

    with one_line_errors():
        if file is None:
            raise ConfigurationError("--file is required where ADASERVE_POLICY_FILE is not set")
        source, policy = _read(file)
        if tenant not in policy.tenants:
            raise ConfigurationError(f"{file}: no tenant {tenant!r}; there are {', '.join(policy.tenants)}")
        when = _time(at)
    typer.echo("\n".join(Explanation(source, policy, tenant, when).lines()))


@policy_app.command()
def diff(old: Path, new: Path) -> None:
    """What changes for whom from one file to another."""
    from cli.policy_words import differences

    with one_line_errors():
        before, after = _read(old)[1], _read(new)[1]
    typer.echo("\n".join(differences(before, after)))


@policy_app.command()
def schema() -> None:
    """The JSON Schema of a policy file, for editors."""
    from shared.policy import Policy

    typer.echo(json.dumps(Policy.model_json_schema(), indent=2, ensure_ascii=False))


def _read(path: Path) -> tuple[YamlFile, Policy]:
    from shared.policy import Policy
    from shared.yaml_file import YamlFile

    file = YamlFile.read(path)
    return file, file.model(Policy)


def _time(text: str | None) -> datetime:
    """Raises ConfigurationError."""
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"--at={text[:64]!r}: must be a time such as 2026-11-30T09:00+01:00") from None
