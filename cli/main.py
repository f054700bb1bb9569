"""The `adaserve` command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli.commands import chat, report, top
from cli.doctor import doctor
from cli.exits import EXIT_FAILED, PlainErrors, one_line_errors
from cli.keys import AdminKey, audit, keys_app
from cli.options import ApiKey, AsTenant
from cli.policy import policy_app
from cli.settings import presented
from cli.usage import usage
from cli.why import why
from shared.modes import Mode

if TYPE_CHECKING:
    from cli.completion import Question


class System(StrEnum):
    """What `adaserve replay` asks the server to be."""

    SPECULATION = "speculation"
    PLAIN = "plain"


app = typer.Typer(
    cls=PlainErrors,
    help="Serve a language model to users with different latency targets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(keys_app, name="keys")
app.command()(audit)
app.command()(usage)
app.command()(why)
app.command()(doctor)
app.command()(chat)
app.command()(top)
app.command()(report)
app.add_typer(policy_app, name="policy")


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


@app.command()
def complete(
    prompt: str,
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
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
    with one_line_errors():
        code = run(choices)
    raise typer.Exit(code)


@app.command()
def replay(
    trace: Annotated[
        str, typer.Option(help="CSV file, or a workload made here, such as paper:rps=4.0 or urgent:share=0.3.")
    ],
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
    speed: Annotated[float, typer.Option(min=0.001, max=1000, help="Arrivals so many times as dense.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many requests.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Only what the trace has until then.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON lines (.gz) with prompt_id and prompt; else the library's source.")
    ] = None,
    zero_load_ms: Annotated[
        float | None,
        typer.Option(min=0.001, help="Idle ms per token, for relative targets.", show_default="measured"),
    ] = None,
    goodput: Annotated[
        list[str] | None, typer.Option(help="Targets for all instead of the trace's: ttft:300 tpot:50 e2el:2000.")
    ] = None,
    more_goodput: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    system: Annotated[System, typer.Option(help="With speculation or without.")] = System.SPECULATION,
    seed: Annotated[list[int] | None, typer.Option(min=0, max=2**31, help="May be repeated.")] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of all requests.")] = 1.0,
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds for one request.")] = 120.0,
    max_open: Annotated[int, typer.Option(min=1, max=65_536, help="Most requests open at a time.")] = 1024,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="Address, with its path /metrics, of another service, once for each: for shares of their time "
            "and what --save keeps of them."
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Where the whole replay goes, for `adaserve report --replay`.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="The server's YAML file of classes and tenants: each request is one of its tenants'."),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="YAML file of prices, for the tenants' shares of the requests.")
    ] = None,
    api_key: ApiKey = None,
    tenant: AsTenant = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Send a trace's requests at its times to a running gateway; report attainment, goodput and latencies."""
    from cli.replay import Choices, run

    with one_line_errors():
        headers = presented(api_key, tenant)
    choices = Choices(
        trace=trace,
        url=url,
        speed=speed,
        limit=limit,
        seconds=seconds,
        prompts=prompts,
        zero_load_ms=zero_load_ms,
        goodput=goodput or (),
        more_goodput=more_goodput or (),
        system=system.value,
        seeds=seed or (0,),
        temperature=temperature,
        timeout_s=timeout,
        max_open=max_open,
        metrics_urls=metrics or (),
        headers=headers,
        as_json=as_json,
        save=save,
        policy=policy,
        prices=prices,
    )
    with one_line_errors():
        code = asyncio.run(run(choices, Console(highlight=False)))
    raise typer.Exit(code)


@app.command()
def simulate(
    trace: Annotated[
        str | None,
        typer.Option(help="CSV file, or a workload made here, such as paper:rps=4.0 or urgent:share=0.3."),
    ] = None,
    hardware: Annotated[str, typer.Option(help="Simulated machine.")] = "llama70b-4xa100",
    system: Annotated[
        list[str] | None,
        typer.Option(help="May be repeated; settings go behind a colon: adaserve:slo_aware=false."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs, each with texts of its own.")] = 5,
    draft_step_ms: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, help="Time of one drafted level.", show_default="the machine's"),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(help="Several workloads at once, by name, instead of a trace.")
    ] = None,
    traces: Annotated[Path | None, typer.Option(help="Folder with the paper's trace files, for sweeps.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where a sweep's plot goes: .png or .svg.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="YAML file of classes and tenants: attainment for each tenant of a trace.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="YAML file of prices, with a policy: cost, margin and payback by tenant.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each trace and system.")] = False,
) -> None:
    """Simulate serving systems on a trace with the real selection and scheduling code."""
    from cli.simulate import Choices, run

    choices = Choices(
        trace=trace,
        hardware=hardware,
        systems=system or (),
        seeds=seeds,
        draft_step_ms=draft_step_ms,
        sweep=sweep,
        traces=traces,
        plot=plot,
        as_json=as_json,
        policy=policy,
        prices=prices,
    )
    with one_line_errors():
        run(choices, Console(stderr=True, highlight=False))


@app.command()
def poc(
    policy: Annotated[Path | None, typer.Option(help="Phase 0: YAML file of classes and tenants.")] = None,
    simulated: Annotated[
        Path | None, typer.Option(help="Phase 1: what `adaserve simulate --policy --prices --json` printed.")
    ] = None,
    with_: Annotated[
        Path | None,
        typer.Option("--with", help="Phase 2, with --policy: what `adaserve replay --json` printed."),
    ] = None,
    without: Annotated[
        Path | None,
        typer.Option("--without", help="Phase 2: the same of `adaserve replay --system plain --json`."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Phases 3 and 4: where the gateway is.")] = None,
    admin_key: AdminKey = None,
    max_payback_days: Annotated[
        float, typer.Option(min=0.0, help="Phase 1: how long each tenant's introduction may take to pay.")
    ] = 180.0,
    as_json: Annotated[bool, typer.Option("--json", help="As one object.")] = False,
) -> None:
    """Go or no-go for each phase of an introduction that has figures. Exit code 0 for go, else 1."""
    from bench.introduction import Verdict
    from cli.consoles import for_tables
    from cli.poc import Choices, run

    choices = Choices(
        policy=policy,
        simulated=simulated,
        with_=with_,
        without=without,
        url=url,
        admin_key=admin_key,
        max_payback_days=max_payback_days,
        as_json=as_json,
    )
    with one_line_errors():
        verdict = run(choices, for_tables())
    raise typer.Exit(0 if verdict is Verdict.GO else EXIT_FAILED)


@app.command()
def mode(
    mode: Annotated[Mode | None, typer.Argument(help="What to set; without it the modes are shown.")] = None,
    tenant: Annotated[str | None, typer.Option(help="For this tenant only.")] = None,
    slo_class: Annotated[str | None, typer.Option("--class", help="For this class only.")] = None,
    reason: Annotated[str, typer.Option(help="Kept with the order and shown to others.")] = "",
    url: Annotated[str, typer.Option(help="Where the gateway is.")] = "http://127.0.0.1:8000",
    admin_key: Annotated[
        str | None,
        typer.Option(envvar="ADASERVE_ADMIN_KEY", help="An API key with the scope admin, or the gateway's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway answers.")] = False,
) -> None:
    """Show or set whether requests are speculated on: auto, speculative, full_verification."""
    from cli.mode import Wanted, ask, lines

    with one_line_errors():
        modes = ask(url, admin_key, Wanted(mode=mode, tenant=tenant, slo_class=slo_class, reason=reason))
    typer.echo(json.dumps(modes) if as_json else "\n".join(lines(modes)))


@app.command()
def version() -> None:
    """The installed version."""
    typer.echo(installed_version("adaserve"))
