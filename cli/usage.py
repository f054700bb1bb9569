"""`adaserve usage`: what tenants have used, through a gateway's /admin."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from cli.exits import one_line_errors
from cli.options import LOCAL, AdminKey, Json, Url
from shared import timestamps
from shared.errors import ConfigurationError
from shared.usage import Period

COUNTS = ("requests", "prompt_tokens", "cached_tokens", "output_tokens", "drafted_tokens", "accepted_tokens")


def usage(
    since: Annotated[
        str | None,
        typer.Option(
            help="ISO 8601 date or time, or how long ago, such as 30d.", show_default="a day before until"
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(help="The same; not included.", show_default="now")] = None,
    by: Annotated[Period, typer.Option(help="What a row sums up.")] = Period.DAY,
    tenant: Annotated[str | None, typer.Option(help="Only this one.", show_default="all")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="For a spreadsheet.")] = False,
    as_json: Json = False,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
) -> None:
    """What each tenant has used in each class, and how often its targets were met."""
    from cli.admin import ask, ask_text  # its HTTP client costs every command a tenth of a second

    with one_line_errors():
        if as_csv and as_json:
            raise ConfigurationError("--csv: give it or --json, not both")
        given = {"since": _moment("--since", since), "until": _moment("--until", until), "tenant": tenant}
        params: dict[str, str | int] = {name: value for name, value in given.items() if value is not None}
        params["by"] = by.value
        if as_csv:
            typer.echo(ask_text(url, admin_key, "/admin/usage", format="csv", **params), nl=False)
            return
        found = ask(url, admin_key, "GET", "/admin/usage", **params)
    typer.echo(json.dumps(found) if as_json else "\n".join(usage_lines(found)))


def usage_lines(found: dict[str, Any]) -> list[str]:
    """For people."""
    names = [name.removesuffix("_tokens") for name in COUNTS]
    head = f"{'start':<20} {'tenant':<16} {'class':<16} " + " ".join(f"{name:>12}" for name in names)
    head += f" {'tokens/step':>12} {'met':>8}"
    rows = [_line(row["start"], row["tenant"], row["class"], row) for row in found["rows"]]
    return [head, *rows, _line("total", "", "", found["totals"])]


def _line(start: str, tenant: str, slo_class: str, counts: dict[str, int]) -> str:
    per_step = f"{counts['output_tokens'] / counts['steps']:.2f}" if counts["steps"] else ""
    judged = counts["met"] + counts["missed"]
    met = f"{counts['met'] / judged:.1%}" if judged else ""
    numbers = " ".join(f"{counts[name]:>12}" for name in COUNTS)
    return f"{start:<20} {tenant:<16} {slo_class:<16} {numbers} {per_step:>12} {met:>8}"


def _moment(option: str, given: str | None) -> str | None:
    """ISO 8601, also of so long ago. Raises ConfigurationError for what is neither."""
    if given is None:
        return None
    try:
        if not given[-1:].isalpha() or given.endswith(("Z", "z")):
            return timestamps.iso(timestamps.at_ms(given))
        return timestamps.iso(round(time.time() * 1_000) - timestamps.duration_ms(given))
    except ConfigurationError:
        raise ConfigurationError(
            f"{option} {given[:64]!r} must be a date or time, such as 2027-01-31, or how long ago, such as 30d"
        ) from None
