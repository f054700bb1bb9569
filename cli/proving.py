"""`adaserve profile`, `simulate`, `replay`, `report` and `poc`: what it is worth, before and after."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.exits import EXIT_FAILED, one_line_errors
from cli.options import LOCAL, AdminKey, ApiKey, AsTenant, Url
from cli.settings import presented


class System(StrEnum):
    """What `adaserve replay` asks the server to be."""

    SPECULATION = "speculation"
    PLAIN = "plain"


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


def replay(
    trace: Annotated[
        str, typer.Option(help="CSV file, or a workload made here, such as paper:rps=4.0 or urgent:share=0.3.")
    ],
    url: Url = LOCAL,
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
