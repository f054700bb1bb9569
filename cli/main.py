"""The `adaserve` command: where each of its commands is, and the two that need no place of their own."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated

import typer
from rich.console import Console

from cli import operating, proving, talking
from cli.doctor import doctor
from cli.exits import PlainErrors, one_line_errors
from cli.keys import audit, keys_app
from cli.policy import policy_app
from cli.usage import usage
from cli.why import why

app = typer.Typer(
    cls=PlainErrors,
    help="Serve a language model to users with different latency targets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def up(
    target: Annotated[str | None, typer.Option(help="Target model: directory or hub id.")] = None,
    draft: Annotated[str | None, typer.Option(help="Draft model: directory or hub id.")] = None,
    host: Annotated[str | None, typer.Option(help="Address the gateway listens on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the gateway.", show_default="8000")
    ] = None,
) -> None:
    """Run the whole stack on this machine until Ctrl-C."""
    from cli.up import Choices, run

    with one_line_errors():
        code = run(Choices(target=target, draft=draft, host=host, port=port), Console(highlight=False))
    raise typer.Exit(code)


for command in (
    *(talking.complete, talking.chat),
    *(operating.top, operating.mode, why, usage, doctor, audit),
    *(proving.profile, proving.simulate, proving.replay, proving.report, proving.poc),
):
    app.command()(command)
app.add_typer(keys_app, name="keys")
app.add_typer(policy_app, name="policy")


@app.command()
def version() -> None:
    """The installed version."""
    typer.echo(installed_version("adaserve"))
