"""`adaserve chat`, `top` and `report`. What they need is imported when they run, for others start sooner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.exits import one_line_errors
from cli.keys import AdminKey
from cli.options import ApiKey, AsTenant
from cli.settings import presented


def chat(
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
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


def top(
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
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


def report(
    replay: Annotated[
        list[Path] | None,
        typer.Option(help="What `adaserve replay --save` wrote. May be repeated: all runs count."),
    ] = None,
    baseline: Annotated[
        list[Path] | None, typer.Option(help="The same of `adaserve replay --system plain --save`.")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="A Prometheus server that scrapes the services, instead of a replay.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Of Prometheus: 24h ago, or a date and time in UTC.", show_default="24h"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Its end.", show_default="now")] = None,
    baseline_since: Annotated[
        str | None, typer.Option(help="A period without speculation to compare with.")
    ] = None,
    baseline_until: Annotated[str | None, typer.Option(help="Its end.", show_default="--since")] = None,
    prices: Annotated[
        Path | None, typer.Option(help="YAML file of prices (docs/simulate.md): cost, gain and payback.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="YAML file of classes, for their objectives.")] = None,
    url: Annotated[
        str | None, typer.Option(help="With --prometheus: the gateway, for what each tenant used.")
    ] = None,
    admin_key: AdminKey = None,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("adaserve-report.html"),
    title: Annotated[str, typer.Option(help="Its heading.")] = "Does speculation pay?",
    as_json: Annotated[bool, typer.Option("--json", help="Also print the figures as one object.")] = False,
) -> None:
    """Write a report on what speculation is worth: promises kept, work, cost, payback, draft quality."""
    from cli.report import Choices, run

    choices = Choices(
        replay=replay or (),
        baseline=baseline or (),
        prometheus=prometheus,
        since=since,
        until=until,
        baseline_since=baseline_since,
        baseline_until=baseline_until,
        prices=prices,
        policy=policy,
        url=url,
        admin_key=admin_key,
        out=out,
        title=title,
        as_json=as_json,
    )
    with one_line_errors():
        run(choices, Console(stderr=True, highlight=False))
