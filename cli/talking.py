"""`adaserve complete` and `chat`. What commands need is imported when they run, so that others start sooner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli.exits import one_line_errors
from cli.options import LOCAL, AdminKey, ApiKey, AsTenant, Url
from cli.settings import presented

if TYPE_CHECKING:
    from cli.completion import Question


def complete(
    prompt: str,
    url: Url = LOCAL,
    max_tokens: Annotated[int, typer.Option(help="Most tokens to generate.")] = 64,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same tokens.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(min=0.001, help="Target time per output token.")] = None,
    speculation: Annotated[
        bool, typer.Option(help="--no-speculation decodes plainly; the tokens are the same.")
    ] = True,
    api_key: ApiKey = None,
    tenant: AsTenant = None,
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
        inspect=Console().is_terminal and not as_json,  # to colour the tokens
    )
    with one_line_errors():
        asyncio.run(_complete(url, question, presented(api_key, tenant), as_json=as_json))


async def _complete(url: str, question: Question, headers: Mapping[str, str], *, as_json: bool) -> None:
    from cli.completion import Answer, chunks, summary
    from cli.provenance import Painter, show

    answer, console, painter = Answer(), Console(highlight=False), Painter(url, headers)
    async for chunk in chunks(url, question, answer, headers):
        if not as_json:
            show(console, painter, chunk)
    if as_json:
        typer.echo(json.dumps(asdict(answer)))
        return
    typer.echo()
    typer.secho(summary(answer), dim=True, err=True)


def chat(
    url: Url = LOCAL,
    system: Annotated[str, typer.Option(help="What the assistant is told before everything else.")] = "",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer.", show_default="the server's")
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(min=-(2**63), max=2**64 - 1, help="Same seed, same tokens.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(min=0.001, help="Target time per output token.")] = None,
    slo_class: Annotated[str | None, typer.Option("--class", help="A class of the policy instead.")] = None,
    speculation: Annotated[
        bool, typer.Option(help="--no-speculation decodes plainly; the tokens are the same.")
    ] = True,
    api_key: ApiKey = None,
    tenant: AsTenant = None,
    admin_key: AdminKey = None,
) -> None:
    """Talk with the model; /help lists what else can be said. Through a pipe every line is a question."""
    from cli.chat import Choices, run
    from cli.completion import Question

    question = Question(
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        tpot_ms=tpot_ms,
        slo_class=slo_class,
        speculation=speculation,
    )
    with one_line_errors():
        choices = Choices(
            url=url,
            question=question,
            system=system,
            headers=presented(api_key, tenant),
            admin_key=admin_key,
        )
        code = run(choices)
    raise typer.Exit(code)
