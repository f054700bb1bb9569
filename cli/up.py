"""`adaserve up`: Redis, four services, one streamed completion, then everything stays up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cli import bus, models, ports, settings
from cli.bus import Bus
from cli.greeting import Place, greet
from cli.service import Service, ServicePlan
from cli.stack import Stack
from cli.voice import Voice
from shared.errors import ConfigurationError
from shared.policy import load_policy
from shared.settings import PREFIX, known_variables

HEALTH_PORTS = {"drafter": 9101, "selector": 9102, "verifier": 9103}
LOOPBACK = "127.0.0.1"
ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104  recognised here, never chosen
DEFAULT_PORT = 8000
OPEN_TENANT = "default"  # whose requests without a tenant are
DRAIN_S = 10.0
GATEWAY_DRAIN_S = 30.0  # what it takes by default (ADASERVE_DRAIN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve up`; None leaves it to the environment, then to the default."""

    target: str | None
    draft: str | None
    host: str | None
    port: int | None


def run(choices: Choices, console: Console) -> int:
    """Until a signal; returns the exit code. What keeps it from starting raises an AdaServeError."""
    started = time.monotonic()
    environment = settings.inherited()
    known = {service: known_variables(settings.settings_of(service)) for service in settings.SERVICES}
    divided = settings.divide(environment, known)
    pair = choose_models(choices, environment, divided, known)
    choose_ports(choices, environment, divided)
    models.require_same_tokens(*pair)
    api_key = environment.get(settings.API_KEY)
    tenant = None if api_key else tenant_to_name(divided["gateway"].get(f"{PREFIX}POLICY_FILE"))
    voice = Voice(console)
    divided["verifier"][f"{PREFIX}DRAIN_S"] = "0"  # the gateway has drained before it: nobody waits any more
    with bus.running(settings.redis_url(environment), settings.bus_url(environment)) as redis:
        voice.say("up", redis.words)
        for service in divided:
            divided[service][f"{PREFIX}REDIS_URL"] = redis.url
        plans = {service: _plan(service, divided[service]) for service in settings.SERVICES}
        place = _place(plans, redis, tenant)
        stack = Stack([Service(plan, voice.say) for plan in plans.values()], voice.say, redis.watch)
        return asyncio.run(stack.run(lambda: greet(voice, place, started, api_key)))


def tenant_to_name(policy_file: str | None) -> str | None:
    """Whom a request without a key must name: the policy's first tenant, where none is called default.

    Raises ConfigurationError for a policy that no gateway would take.
    """
    tenants = load_policy(Path(policy_file)).tenants if policy_file else {}
    return None if OPEN_TENANT in tenants else next(iter(tenants), None)


def _place(plans: Mapping[str, ServicePlan], redis: Bus, tenant: str | None) -> Place:
    urls = {name: url_of(plan.host, plan.port) for name, plan in plans.items()}
    return Place(
        url=urls["gateway"],
        redis_url=bus.without_password(redis.url) if redis.server is None else redis.url,
        metrics={worker: f"{urls[worker]}/metrics" for worker in HEALTH_PORTS},
        tenant=tenant,
    )


def url_of(host: str, port: int) -> str:
    """An IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def choose_models(
    choices: Choices,
    environment: Mapping[str, str],
    divided: Mapping[str, dict[str, str]],
    known: Mapping[str, frozenset[str]],
) -> tuple[str, str]:
    """Put target and draft into the environment of the services that read them; returns both."""

    def choose(role: str, option: str | None) -> str:
        variable = f"{PREFIX}{role}".upper()
        choice = models.checked(option or environment.get(variable) or models.embedded(role), f"--{role}")
        for service, names in known.items():
            if variable in names:
                divided[service][variable] = choice
        return choice

    return choose("target", choices.target), choose("draft", choices.draft)


def choose_ports(choices: Choices, environment: Mapping[str, str], divided: Mapping[str, dict[str, str]]) -> None:
    """The gateway's address is the user's choice; workers answer probes on the loopback, on any free port."""
    host = choices.host or environment.get(f"{PREFIX}HTTP_HOST") or LOOPBACK
    port = choices.port or _port_of(environment)
    _bind(divided["gateway"], host, ports.require(host, port))
    for service, preferred in HEALTH_PORTS.items():
        _bind(divided[service], LOOPBACK, ports.prefer(LOOPBACK, preferred))


def _port_of(environment: Mapping[str, str]) -> int:
    value = environment.get(f"{PREFIX}HTTP_PORT", str(DEFAULT_PORT))
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 65535:
        raise ConfigurationError(f"{PREFIX}HTTP_PORT={value!r}: a port is a whole number from 1 to 65535")
    return int(value)


def _bind(environment: dict[str, str], host: str, port: int) -> None:
    environment[f"{PREFIX}HTTP_HOST"], environment[f"{PREFIX}HTTP_PORT"] = host, str(port)


def _plan(service: str, environment: Mapping[str, str]) -> ServicePlan:
    host = environment[f"{PREFIX}HTTP_HOST"]
    return ServicePlan(
        name=service,
        # -P: a folder named `shared` or `services` in the current directory must not shadow ours.
        command=(sys.executable, "-P", "-m", f"services.{service}"),
        environment=environment,
        host=LOOPBACK if host in ALL_INTERFACES else host,
        port=int(environment[f"{PREFIX}HTTP_PORT"]),
        drain_s=_drain_s(service, environment),
    )


def _drain_s(service: str, environment: Mapping[str, str]) -> float:
    """The gateway's own budget for open streams and a little; the others hold nothing that must end."""
    value = environment.get(f"{PREFIX}DRAIN_S", "")
    own = float(value) if value.isdigit() else GATEWAY_DRAIN_S
    return DRAIN_S + (own if service == "gateway" else 0.0)
