"""Files and servers that a report is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.proof import period, replayed
from bench.proof.period import Period
from bench.proof.prometheus import QUESTIONS, Prometheus
from bench.proof.sides import Facts
from bench.proof.used import TenantCounts
from bench.proof.when import clock
from bench.replay.recording import Recording, load
from bench.simulator.prices import Prices
from shared.errors import ConfigurationError, PolicyError
from shared.policy import load_policy
from shared.yaml_file import YamlFile


def from_files(ours: Sequence[Path], theirs: Sequence[Path], prices: Path | None, policy: Path | None) -> Facts:
    """What `adaserve replay --save` wrote, with speculation and, where there is one, without; the runs of several
    files count together. Raises ConfigurationError."""
    mine = together(ours)
    others = together(theirs) if theirs else None
    if mine.system == "plain" and others is not None and others.system != "plain":
        raise ConfigurationError(f"{ours[0]} is the one without speculation: give it as --baseline")
    priced = None if prices is None else prices_for(mine, others, prices)
    return replayed.facts(mine, others, priced, objectives_of(policy))


def together(paths: Sequence[Path]) -> Recording:
    """The runs of all files, which must be of the same trace on the same system. Raises ConfigurationError."""
    first, *others = (load(path) for path in paths)
    for path, other in zip(paths[1:], others, strict=True):
        for name in ("trace", "model", "system", "temperature"):
            if getattr(other, name) != getattr(first, name):
                raise ConfigurationError(
                    f"{path}: {name} {getattr(other, name)!r}, but {getattr(first, name)!r} in {paths[0]}"
                )
    return first.model_copy(update={"runs": [run for one in (first, *others) for run in one.runs]})


def objectives_of(policy: Path | None) -> dict[str, float]:
    """Of the classes that have one, 0 to 1."""
    if policy is None:
        return {}
    classes = load_policy(policy).classes
    return {name: one.objective for name, one in classes.items() if one.objective is not None}


def read_prices(path: Path) -> Prices:
    """Whoever the tenants are. Raises PolicyError."""
    return YamlFile.read(path).model(Prices)


def prices_for(ours: Recording, theirs: Recording | None, path: Path) -> Prices:
    """Prices that every tenant of the replays has. Raises PolicyError, also where an hour has no meaning."""
    prices = read_prices(path)
    for recording in (ours, theirs):
        for run in recording.runs if recording is not None else ():
            _check_priced((one.tenant for one in run.requests), prices, path, "replay")
            if run.requests[0].arrival_ms == run.requests[-1].arrival_ms:
                raise PolicyError("all requests arrive at once; earnings per hour need a duration")
    return prices


def _check_priced(tenants: Iterable[str], prices: Prices, path: Path, whose: str) -> None:
    for tenant in tenants:
        if tenant not in prices.tenants:
            raise PolicyError(
                f"{path}: no prices for the {whose}'s tenant {tenant!r}; there are {', '.join(prices.tenants)}"
            )


Span = tuple[float, float]  # seconds since 1970
Usage = Callable[[str, str], Mapping[str, Any]]  # GET /admin/usage since one ISO time until another


def from_prometheus(
    url: str,
    ours: Span,
    theirs: Span | None,
    prices: Path | None,
    usage: Usage | None,
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> Facts:
    """Of a period, beside another one where given. ``told`` hears how many questions are answered.

    Raises an AdaServeError for what cannot be asked or read.
    """
    spans = [span for span in (ours, theirs) if span is not None]
    done = 0

    def answered() -> None:
        nonlocal done
        done += 1
        told(done, QUESTIONS * len(spans))

    priced = None if prices is None else read_prices(prices)
    history = Prometheus(url, answered)
    periods = [_with_usage(history.period(*span), usage) for span in spans]
    if prices is not None and priced is not None:
        _check_priced((name for one in periods for name in one.tenants), priced, prices, "usage")
    source = {"period": _span(ours), **({} if theirs is None else {"beside": _span(theirs)})}
    return period.facts(periods[0], periods[1] if theirs else None, priced, source)


def _span(span: Span) -> str:
    return " to ".join(clock(at) for at in span)


def _with_usage(found: Period, usage: Usage | None) -> Period:
    if usage is None:
        return found
    known = (found.start, found.end) if found.covered is None else (found.covered.first, found.covered.last)
    since, until = (datetime.fromtimestamp(at, UTC).isoformat() for at in known)
    tenants: dict[str, TenantCounts] = {}
    for row in usage(since, until).get("rows", ()):
        counted = {name: float(row.get(name) or 0) for name in TenantCounts.__dataclass_fields__}
        name = str(row.get("tenant"))
        tenants[name] = tenants.get(name, TenantCounts()) + TenantCounts(**counted)
    return replace(found, tenants=tenants)
