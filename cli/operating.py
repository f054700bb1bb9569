"""`adaserve mode` and `top`: what an operator switches and watches."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cli.exits import one_line_errors
from cli.options import LOCAL, AdminKey, Url
from shared.modes import Mode


def mode(
    mode: Annotated[Mode | None, typer.Argument(help="What to set; without it the modes are shown.")] = None,
    tenant: Annotated[str | None, typer.Option(help="For this tenant only.")] = None,
    slo_class: Annotated[str | None, typer.Option("--class", help="For this class only.")] = None,
    reason: Annotated[str, typer.Option(help="Kept with the order and shown to others.")] = "",
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway answers.")] = False,
) -> None:
    """Show or set whether requests are speculated on: auto, speculative, full_verification."""
    from cli.mode import Wanted, ask, lines

    with one_line_errors():
        modes = ask(url, admin_key, Wanted(mode=mode, tenant=tenant, slo_class=slo_class, reason=reason))
    typer.echo(json.dumps(modes) if as_json else "\n".join(lines(modes)))


def top(
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option(help="One look; so it is where no terminal is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway answers, an object a line.")] = False,
) -> None:
    """Watch classes, verifiers, requests with the least slack and queues. q leaves."""
    from cli.consoles import for_tables
    from cli.top import Choices, run

    choices = Choices(url=url, admin_key=admin_key, every_s=every, once=once, as_json=as_json)
    with one_line_errors():
        run(choices, for_tables())
