"""The `adaserve` command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shared.errors import AdaServeError, BusUnavailable, ConfigurationError
from shared.settings import EXIT_BUS_UNAVAILABLE, EXIT_CONFIGURATION

if TYPE_CHECKING:
    from cli.completion import Question

EXIT_FAILED = 1

app = typer.Typer(
    help="Serve a language model to users with different latency targets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """A deliberate error becomes one line on stderr and its exit code."""
    try:
        yield
    except AdaServeError as error:
        typer.echo(f"adaserve: {error}", err=True)
        codes = {ConfigurationError: EXIT_CONFIGURATION, BusUnavailable: EXIT_BUS_UNAVAILABLE}
        code = next((code for kind, code in codes.items() if isinstance(error, kind)), EXIT_FAILED)
        raise typer.Exit(code) from None


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

    with _one_line_errors():
        code = run(Choices(target=target, draft=draft, host=host, port=port), Console(highlight=False))
    raise typer.Exit(code)


@app.command()
def complete(
    prompt: str,
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
    max_tokens: Annotated[int, typer.Option(help="Most tokens to generate.")] = 64,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same tokens.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(help="Target time per output token.")] = None,
    speculation: Annotated[
        bool, typer.Option(help="--no-speculation decodes plainly; the tokens are the same.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of streamed text.")] = False,
) -> None:
    """Stream one completion from a running gateway, then its figures."""
    from cli.completion import Question

    question = Question(
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        tpot_ms=tpot_ms,
        speculation=speculation,
    )
    with _one_line_errors():
        asyncio.run(_complete(url, question, as_json=as_json))


async def _complete(url: str, question: Question, *, as_json: bool) -> None:
    from cli.completion import Answer, stream, summary

    answer = Answer()
    async for piece in stream(url, question, answer):
        if not as_json:
            typer.echo(piece, nl=False)
    if as_json:
        typer.echo(json.dumps(asdict(answer)))
        return
    typer.echo()
    typer.secho(summary(answer), dim=True, err=True)


@app.command()
def profile(
    target: Annotated[str | None, typer.Option(help="Target model: directory or hub id.")] = None,
    draft: Annotated[str | None, typer.Option(help="Draft model: directory or hub id.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float64.")] = "float32",
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads of a forward pass.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of tables.")] = False,
) -> None:
    """Measure how long the models' forward passes take here, and fit the latency model to them."""
    from cli.profile import Choices, run

    choices = Choices(target=target, draft=draft, device=device, dtype=dtype, threads=threads, as_json=as_json)
    with _one_line_errors():
        code = run(choices)
    raise typer.Exit(code)


@app.command()
def version() -> None:
    """The installed version."""
    typer.echo(installed_version("adaserve"))
