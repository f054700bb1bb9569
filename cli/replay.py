"""`adaserve replay`: a request trace against a running gateway, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.replay.goodput import parse_goodput
from bench.replay.plan import TENANT_HEADER, Wishes
from bench.replay.probe import NoServer, probe
from bench.replay.recording import save
from bench.replay.replay import Limits, Run, as_replayed, connected, recording, replay, report
from bench.replay.table import notes, table
from bench.replay.texts import read_prompts
from bench.traces import Trace
from bench.workloads import load_trace
from cli.tenants import Tenancy
from shared.errors import ConfigurationError
from shared.policy import load_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve replay`."""

    trace: str
    url: str
    speed: float
    limit: int | None
    seconds: float | None
    prompts: Path | None
    zero_load_ms: float | None
    goodput: Sequence[str]
    more_goodput: Sequence[str]  # `--goodput tpot:50 ttft:300` leaves the second as a plain argument
    system: str
    seeds: Sequence[int]
    temperature: float
    timeout_s: float
    max_open: int
    metrics_urls: Sequence[str]
    headers: Mapping[str, str]
    as_json: bool
    save: Path | None = None
    policy: Path | None = None
    prices: Path | None = None


async def run(choices: Choices, console: Console) -> int:
    """One run per seed; prints the report and returns the exit code: 1 when no request finished.

    Raises an AdaServeError for what keeps it from starting.
    """
    if choices.more_goodput and choices.more_goodput[0].startswith("http"):
        raise ConfigurationError(
            f"unexpected argument {choices.more_goodput[0]!r}; --metrics takes one address: give it before each"
        )
    if choices.more_goodput and not choices.goodput:
        raise ConfigurationError(f"unexpected argument {choices.more_goodput[0]!r}; targets go after --goodput")
    targets = parse_goodput([*choices.goodput, *choices.more_goodput])
    prompts = read_prompts(choices.prompts) if choices.prompts else {}
    if choices.save is not None and not choices.save.parent.is_dir():
        raise ConfigurationError(f"--save {choices.save}: there is no such folder")
    traces = {seed: _trace(choices, seed) for seed in dict.fromkeys(choices.seeds)}
    runs: dict[int, Run] = {}
    wishes = Wishes(
        speed=choices.speed,
        temperature=choices.temperature,
        speculation=choices.system == "speculation",
        targets=targets,
    )
    try:
        async with connected(choices.url, _headers(choices)) as client:
            server = await probe(client, prompts, choices.zero_load_ms)
            for seed, (trace, tenants) in traces.items():
                with _progress(console, trace, quiet=choices.as_json) as on_change:
                    runs[seed] = await replay(
                        client,
                        trace,
                        server,
                        replace(wishes, seed=seed),
                        prompts=prompts,
                        limits=Limits(timeout_s=choices.timeout_s, max_open=choices.max_open),
                        metrics_urls=choices.metrics_urls,
                        tenants=tenants,
                        on_change=on_change,
                    )
    except httpx.InvalidURL as error:
        raise NoServer(f"{choices.url} is not a URL: {error}") from None
    whole = report(choices.trace, server, choices.system, runs)
    replayed = as_replayed(server, runs)
    if choices.save is not None:
        tenant = choices.headers.get(TENANT_HEADER, "default")
        save(recording(choices.trace, server, wishes, runs, tenant=tenant), choices.save)
    if choices.as_json:
        console.print_json(json.dumps({**whole.json(), "replay": replayed}))
    else:
        console.print(table(whole))
        for line in notes(whole.json(), replayed):
            console.print(line, markup=False, soft_wrap=True)
        if choices.save is not None:
            console.print(f"saved {choices.save}", markup=False, soft_wrap=True)
    return 0 if any(outcome.failure is None for outcome in whole.outcomes) else 1


def _trace(choices: Choices, seed: int) -> tuple[Trace, Sequence[str] | None]:
    """And the tenant of each request, where a policy has several."""
    if choices.policy is None:
        return _head(choices, load_trace(choices.trace, seed)), None
    assigned = Tenancy.read(choices.policy, choices.prices).trace(choices.trace, seed)
    trace = _head(choices, assigned.trace)
    return trace, assigned.tenants[: len(trace.requests)]


def _headers(choices: Choices) -> Mapping[str, str]:
    """Of what no request of the trace asks; with a policy it needs some tenant."""
    if choices.policy is None or TENANT_HEADER in choices.headers:
        return choices.headers
    return {**choices.headers, TENANT_HEADER: next(iter(load_policy(choices.policy).tenants))}


def _head(choices: Choices, trace: Trace) -> Trace:
    try:
        seconds = float("inf") if choices.seconds is None else choices.seconds
        return trace.head(seconds=seconds, requests=choices.limit)
    except ValueError:
        raise ConfigurationError(
            f"--seconds {choices.seconds}: nothing of {choices.trace} arrives by then; its first request is at "
            f"{trace.requests[0].arrival_ms / 1_000:.3f} s"
        ) from None


@contextmanager
def _progress(console: Console, trace: Trace, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of finished requests on stderr."""
    words = TextColumn("{task.description}")
    bar = Progress(
        words,
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=quiet or not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(trace.name, total=len(trace.requests))
        yield lambda due, done: bar.update(task, completed=done, description=f"{trace.name}: {due} due, done")
