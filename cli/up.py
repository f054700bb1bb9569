"""`adaserve up`: Redis, four services, one streamed completion, then everything stays up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from cli import bus, models, ports, settings
from cli.bus import Bus
from cli.completion import Answer, CompletionFailed, Question, stream, summary
from cli.service import Service, ServicePlan
from cli.stack import Stack
from shared.errors import ConfigurationError
from shared.settings import PREFIX, known_variables

HEALTH_PORTS = {"drafter": 9101, "selector": 9102, "verifier": 9103}
LOOPBACK = "127.0.0.1"
ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104  recognised here, never chosen
DEFAULT_PORT = 8000
DRAIN_S = 10.0
GATEWAY_DRAIN_S = 30.0  # what it takes by default (ADASERVE_DRAIN_S)
COLORS = {"up": "bold", "gateway": "cyan", "selector": "magenta", "drafter": "yellow", "verifier": "green"}
FIRST_PROMPT = 'class Stack:\n    """A stack of values."""\n\n    def __init__(self'


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
    divided["verifier"][f"{PREFIX}DRAIN_S"] = "0"  # the gateway has drained before it: nobody waits any more
    with bus.running(settings.redis_url(environment)) as redis:
        _say(console, "up", redis.words)
        for service in divided:
            divided[service][f"{PREFIX}REDIS_URL"] = redis.url
        return asyncio.run(_up(divided, redis, console, started, environment.get(settings.API_KEY)))


async def _up(
    divided: Mapping[str, Mapping[str, str]], redis: Bus, console: Console, started: float, api_key: str | None
) -> int:
    def say(name: str, line: str) -> None:
        _say(console, name, line)

    plans = {service: _plan(service, divided[service]) for service in settings.SERVICES}
    url = url_of(plans["gateway"].host, plans["gateway"].port)
    stack = Stack([Service(plan, say) for plan in plans.values()], say, redis.watch)
    return await stack.run(lambda: greet(console, url, started, api_key))


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


async def greet(console: Console, url: str, started: float, api_key: str | None = None) -> None:
    """Stream the first completion and say where to go next.

    Keys and policies may refuse it, whose it is: that is no reason not to serve others.
    """
    _say(console, "up", f"ready after {time.monotonic() - started:.1f} s; the first completion:")
    answer = Answer()
    question = Question(prompt=FIRST_PROMPT, max_tokens=64, temperature=0.6, seed=1, tpot_ms=250)
    console.print(Text(FIRST_PROMPT, style="dim"), end="")
    first_token_s = 0.0
    try:
        async for piece in stream(url, question, answer, settings.presented(api_key, None)):
            first_token_s = first_token_s or time.monotonic() - started
            console.print(Text(piece, style="bold green"), end="", soft_wrap=True)
    except CompletionFailed as error:
        console.print()
        _say(console, "up", f"it was not served: {error}")
        console.print(Text(next_steps(url)), soft_wrap=True)
        return
    console.print()
    first = (
        f"first token {first_token_s:.1f} s after the command" if first_token_s else "the model had nothing to say"
    )
    _say(console, "up", f"{first} · {summary(answer)}")
    console.print(Text(next_steps(url)), soft_wrap=True)


def next_steps(url: str) -> str:
    """What to type now."""
    return f"""
AdaServe is up at {url} (Ctrl-C drains); its console is {url}/ in a browser. Try:

  curl -N {url}/v1/completions -H 'content-type: application/json' -d \\
    '{{"prompt": "import os\\n", "max_tokens": 32, "stream": true, "adaserve": {{"slo": {{"tpot_ms": 30}}}}}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none")
  print(client.completions.create(model="default", prompt="import os\\n", max_tokens=32).choices[0].text)

  .venv/bin/adaserve complete 'def main():' --url {url} --tpot-ms 30
"""


def _say(console: Console, name: str, line: str) -> None:
    console.print(Text.assemble((f"{name:<8} | ", COLORS.get(name, "")), line), soft_wrap=True)
