"""What is wrong with a deployment, from a snapshot of it: pure, one function for each question.

A finding that is a problem costs requests or promises now; a warning will, or may. What could not be looked at is
said as such, and is neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MIN_REDIS = 7
SKEW_S = 2.0
MEMORY_FULL, MEMORY_TIGHT = 0.95, 0.8
CALIBRATION_OFF = 0.1
OLDEST_S = 10.0
BUSY = 1.5  # load over cores
HARMLESS = ("", "operator")


class Severity(StrEnum):
    """How much it matters."""

    PROBLEM = "problem"
    WARNING = "warning"
    FINE = "fine"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, why it matters, and what to do about it; the last two empty where all is fine."""

    severity: Severity
    subject: str
    what: str
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """What Redis says of itself. ``members``: kind -> member -> what its heartbeat says, None without one.

    ``waiting``: by tier, requests that wait now, and how many more than a moment before.
    """

    version: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Mapping[str, Any] | None]] = field(default_factory=dict)
    dead_letters: int = 0
    waiting: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    clock_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """``error`` of the gateway or Redis: why it could not be asked, "" where it answers; None: not asked.

    `statuses` are those of the gateway's paths, `answers` the JSON of those that succeeded. Clocks are Unix time
    in seconds; the gateway's only to the second.
    """

    url: str
    gateway_error: str = ""
    statuses: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    gateway_clock_s: float | None = None
    redis_error: str | None = None
    redis: Redis | None = None
    otlp: Mapping[str, str] = field(default_factory=dict)  # endpoint -> why it cannot be reached, "" where it can
    load: float = 0.0
    cores: int = 1
    threads: int = 1


def diagnosed(snapshot: Snapshot) -> list[Finding]:
    """All findings, the worst first."""
    found = [finding for look in LOOKS for finding in look(snapshot)]
    order = list(Severity)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def gateway(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether it answers, and would serve."""
    if snapshot.gateway_error:
        yield Finding(
            Severity.PROBLEM,
            "gateway",
            f"no gateway at {snapshot.url}: {snapshot.gateway_error}",
            "no client gets an answer here",
            "start it, or name the right --url",
        )
        return
    live, ready = snapshot.statuses.get("/live"), snapshot.statuses.get("/ready")
    if live != 200:
        yield Finding(
            Severity.PROBLEM,
            "gateway",
            f"/live answers {live}",
            "the process cannot do its work any more",
            "restart it; its log says which part has ended",
        )
    elif ready != 200:
        yield Finding(
            Severity.PROBLEM,
            "gateway",
            f"/ready answers {ready}",
            "requests are refused: Redis takes no writes, no verifier lives, or the gateway drains",
            "see the findings about Redis and verifiers",
        )
    else:
        yield Finding(Severity.FINE, "gateway", f"{snapshot.url} answers and is ready")


def keys(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the keys that were given are good."""
    if snapshot.gateway_error:
        return
    refused = {
        401: "asks for a key, or for another one",
        403: "says that this key has not the scope, or the tenant",
    }
    for path, name in (("/v1/models", "--api-key (ADASERVE_API_KEY)"), ("/admin/mode", "--admin-key")):
        status = snapshot.statuses.get(path)
        if status in refused:
            yield Finding(
                Severity.PROBLEM if path == "/v1/models" else Severity.UNKNOWN,
                "keys",
                f"{path} {refused[status]}",
                "without a good one nothing more can be looked at there",
                f"give {name}; `adaserve keys list` shows which are good",
            )
        elif status == 200:
            yield Finding(Severity.FINE, "keys", f"{path} opens")


def redis(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether it is there, new enough, and keeps what it is given."""
    if snapshot.redis_error:
        yield Finding(
            Severity.PROBLEM,
            "redis",
            snapshot.redis_error,
            "the queue and all journals are in it",
            "start it, or name the right REDIS_URL",
        )
    if snapshot.redis is None:
        if snapshot.redis_error is None:
            yield Finding(Severity.UNKNOWN, "redis", "not looked at: no REDIS_URL was given")
        return
    server = snapshot.redis
    if int(server.version.partition(".")[0] or 0) < MIN_REDIS:
        yield Finding(
            Severity.PROBLEM,
            "redis",
            f"version {server.version}; functions need {MIN_REDIS} or newer",
            "the scripts cannot be loaded",
            "update Redis or Valkey",
        )
    else:
        yield Finding(Severity.FINE, "redis", f"version {server.version} answers")
    yield from _memory(server.info)
    yield from _persistence(server.info)


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        yield Finding(
            Severity.PROBLEM,
            "redis memory",
            f"maxmemory-policy is {policy}",
            "an evicted key is a forgotten request",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
    if most and used >= MEMORY_TIGHT * most:
        is_full = used >= MEMORY_FULL * most
        yield Finding(
            Severity.PROBLEM if is_full else Severity.WARNING,
            "redis memory",
            f"{used / most:.0%} of maxmemory, {most >> 20} MiB, is used",
            "at maxmemory commits are held and new requests refused",
            "raise maxmemory: ten minutes of journals have to fit",
        )
    elif policy == "noeviction":
        yield Finding(Severity.FINE, "redis memory", f"{used >> 20} MiB used of {most >> 20 or 'no limit of'} MiB")


def _persistence(info: Mapping[str, Any]) -> Iterator[Finding]:
    if int(info.get("aof_enabled", 0)) and info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            Severity.PROBLEM,
            "redis persistence",
            "its last write to the append-only file failed",
            "it refuses writes, so nothing is served",
            "look at its disk",
        )
    elif not int(info.get("aof_enabled", 0)):
        yield Finding(
            Severity.WARNING,
            "redis persistence",
            "appendonly is no",
            "with Redis' process the queue goes, and usage, keys and orders with it",
            "CONFIG SET appendonly yes, unless that is meant",
        )
    else:
        yield Finding(Severity.FINE, "redis persistence", "the append-only file is written")


def members(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether of each kind one lives, and all heartbeats are on time."""
    if snapshot.redis is None:
        yield from _verifiers_seen_by_the_gateway(snapshot)
        return
    losses = {
        "verifier": (Severity.PROBLEM, "nothing is served"),
        "drafter": (Severity.WARNING, "requests are decoded without speculation, so tight targets are missed"),
        "selector": (Severity.WARNING, "no trees are selected, so requests are decoded without speculation"),
    }
    for kind, (severity, why) in losses.items():
        known = snapshot.redis.members.get(kind, {})
        live = [name for name, about in known.items() if about is not None]
        if not live:
            yield Finding(severity, f"{kind}s", f"no {kind} lives", why, "start one; its log says why it ended")
        else:
            yield Finding(Severity.FINE, f"{kind}s", f"{', '.join(sorted(live))}")
        late = sorted(set(known) - set(live))
        if late and live:
            yield Finding(
                Severity.WARNING,
                f"{kind}s",
                f"{', '.join(late)} has no heartbeat",
                "it is dead, or its machine has stopped it for more than a second",
                "if it still runs, give it more CPU: others take over what it owns",
            )


def _verifiers_seen_by_the_gateway(snapshot: Snapshot) -> Iterator[Finding]:
    modes = snapshot.answers.get("/admin/mode")
    if modes is None:
        return
    if not modes["verifiers"]:
        yield Finding(
            Severity.PROBLEM,
            "verifiers",
            "the gateway sees no verifier with its token map",
            "nothing is served",
            "start one with the same target model",
        )
    else:
        yield Finding(Severity.FINE, "verifiers", ", ".join(sorted(modes["verifiers"])))


def pair(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether drafters and verifiers have the same token ids."""
    if snapshot.redis is None:
        return
    maps = {
        kind: {
            about["token_map"]
            for about in snapshot.redis.members.get(kind, {}).values()
            if about is not None and "token_map" in about
        }
        for kind in ("verifier", "drafter")
    }
    if not maps["verifier"] or not maps["drafter"]:
        return
    if len(maps["verifier"]) > 1:
        yield Finding(
            Severity.PROBLEM,
            "models",
            "verifiers have different token maps",
            "a request's tokens would mean something else on the other one",
            "give all verifiers of the cell the same target",
        )
    if strange := maps["drafter"] - maps["verifier"]:
        yield Finding(
            Severity.PROBLEM if strange == maps["drafter"] else Severity.WARNING,
            "models",
            "a drafter's token map is no verifier's",
            "verifiers do not use it",
            "give it a draft model with the target's tokenizer",
        )
    elif len(maps["verifier"]) == 1:
        yield Finding(Severity.FINE, "models", "drafters and verifiers have the same token map")


def modes(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether verifiers speculate, and if not, why not."""
    told = snapshot.answers.get("/admin/mode")
    if told is None:
        return
    for place, order in told["orders"].items():
        if order["mode"] != "auto":
            yield Finding(
                Severity.WARNING,
                "modes",
                f"{place} is ordered to {order['mode']}: {order['reason'] or 'no reason given'}",
                "the order holds until it is withdrawn",
                "adaserve mode auto, when it is no longer needed",
            )
    for name, mode in told["verifiers"].items():
        reason = mode["reason"] or ""
        if mode["mode"] == "full_verification" and reason not in HARMLESS:
            yield Finding(
                Severity.PROBLEM if reason == "ring_deadline" else Severity.WARNING,
                "modes",
                f"{name} decodes without speculation: {reason}",
                "tight targets are missed meanwhile",
                MODE_REMEDIES.get(reason, "docs/operations.md, verification modes"),
            )
        elif mode["mode"] == "speculative":
            yield Finding(
                Severity.FINE, "modes", f"{name} speculates" + (f", cautiously: {reason}" if reason else "")
            )


MODE_REMEDIES = {
    "no_drafter": "start a drafter with the same token map",
    "ring_deadline": "the breaker is open: see whether drafter and selector have CPU, and their distance to Redis",
    "acceptance_collapse": "the draft fits the target no more: retrain it, or give the drafter the right model",
    "calibration_drift": "it tries again by itself; if it comes back, retrain the draft",
    "latency_prediction": "passes take other times than predicted: look for others that use the same CPU or GPU",
}


def live(snapshot: Snapshot) -> Iterator[Finding]:
    """What the gateway's live view of the cell says of calibration and queues."""
    told = snapshot.answers.get("/admin/live")
    if not isinstance(told, Mapping):
        return
    for verifier in told.get("verifiers", ()):
        error = verifier.get("calibration_error")
        if isinstance(error, int | float) and error > CALIBRATION_OFF:
            yield Finding(
                Severity.WARNING,
                "calibration",
                f"{verifier.get('name')}: calibrated probabilities are off by {error:.0%}",
                "nodes are selected that are not accepted, and the other way round",
                "it learns by itself; if it stays, retrain the draft",
            )
    for tier in told.get("queue", {}).get("tiers", ()):
        if isinstance(tier.get("oldest_s"), int | float) and tier["oldest_s"] > OLDEST_S:
            yield Finding(
                Severity.WARNING,
                "queues",
                f"the oldest request of tier {tier.get('tier')} has waited for {tier['oldest_s']:.0f} s",
                "first tokens come late",
                "one more verifier, or limits for the tenants that fill the queue",
            )


def queues(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether more comes than is served, and what nobody could serve."""
    if snapshot.redis is None:
        return
    growing = {tier: (now, more) for tier, (now, more) in snapshot.redis.waiting.items() if more > 0}
    for tier, (now, more) in growing.items():
        yield Finding(
            Severity.WARNING,
            "queues",
            f"{now} requests wait in tier {tier}, {more} more than a second ago",
            "first tokens come later and later, until requests are refused",
            "one more verifier, or limits for the tenants that fill the queue",
        )
    if not growing:
        waiting = sum(now for now, _ in snapshot.redis.waiting.values())
        yield Finding(Severity.FINE, "queues", f"{waiting} requests wait, and they become no more")
    if snapshot.redis.dead_letters:
        yield Finding(
            Severity.WARNING,
            "dead letters",
            f"{snapshot.redis.dead_letters} requests could not be served by any verifier",
            "their clients were told an error",
            "`XREVRANGE {<cell>}:dead + - COUNT 10` tells ids and reasons; delete what is settled",
        )


def policy(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the policy in force is the one in its file."""
    told = snapshot.answers.get("/admin/slo")
    if told is None:
        return
    error = told["policy"]["error"]
    if error is not None:
        yield Finding(
            Severity.PROBLEM,
            "policy",
            f"the policy file was refused: {error['message']}",
            "the one before it is still in force",
            "adaserve policy check FILE, and mend it",
        )
    else:
        yield Finding(Severity.FINE, "policy", f"{told['policy']['file'] or 'none; every request is as it asks'}")


def clocks(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the gateway's clock agrees with Redis'."""
    if snapshot.redis is None or snapshot.gateway_clock_s is None:
        return
    skew = snapshot.gateway_clock_s - snapshot.redis.clock_s
    if abs(skew) > SKEW_S:
        yield Finding(
            Severity.WARNING,
            "clocks",
            f"the gateway's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Redis'",
            "keys expire, schedules change and quotas count at the wrong time",
            "run NTP on both machines",
        )
    else:
        yield Finding(Severity.FINE, "clocks", f"gateway and Redis agree within {SKEW_S:g} s")


def traces(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether spans arrive anywhere."""
    for endpoint, error in snapshot.otlp.items():
        if error:
            yield Finding(
                Severity.WARNING,
                "traces",
                f"the OTLP endpoint {endpoint} cannot be reached: {error}",
                "spans are lost; nothing else is",
                "start the collector, or mend OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        else:
            yield Finding(Severity.FINE, "traces", f"the OTLP endpoint {endpoint} can be reached")


def machine(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether this machine has more to do than cores."""
    if snapshot.threads > snapshot.cores:
        yield Finding(
            Severity.WARNING,
            "cpu",
            f"{snapshot.threads} threads are set for a forward pass, and there are {snapshot.cores} cores here",
            "threads that wait for each other spin, and take the cores of the other services",
            "ADASERVE_THREADS and OMP_NUM_THREADS: together no more than the cores",
        )
    if snapshot.load > BUSY * snapshot.cores:
        yield Finding(
            Severity.WARNING,
            "cpu",
            f"the load of this machine is {snapshot.load:.1f} on {snapshot.cores} cores",
            "passes take longer than predicted, and heartbeats may be late",
            "stop what else runs here, or give the services machines of their own",
        )


LOOKS: tuple[Callable[[Snapshot], Iterator[Finding]], ...] = (
    gateway, keys, redis, members, pair, modes, live, queues, policy, clocks, traces, machine,
)  # fmt: skip
