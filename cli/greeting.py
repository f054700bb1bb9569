"""What `adaserve up` shows once all is ready: a first completion, and what to type next."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.text import Text

from cli import settings
from cli.completion import Answer, CompletionFailed, Question, stream, summary
from cli.voice import Voice

FIRST_PROMPT = 'class Stack:\n    """A stack of values."""\n\n    def __init__(self'


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it is. ``metrics``: the workers' pages by name; ``tenant``: whom requests must name, if any."""

    url: str
    redis_url: str
    metrics: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None


async def greet(voice: Voice, place: Place, started: float, api_key: str | None = None) -> None:
    """Stream the first completion and say where to go next.

    Keys and policies may refuse it, whose it is: that is no reason not to serve others.
    """
    voice.say("up", f"ready after {time.monotonic() - started:.1f} s; the first completion:")
    try:
        voice.say("up", await _first(voice, place, started, api_key))
    except CompletionFailed as error:
        voice.say("up", f"it was not served: {error}")
    voice.console.print(Text(next_steps(place)), soft_wrap=True)


async def _first(voice: Voice, place: Place, started: float, api_key: str | None) -> str:
    """Its figures."""
    answer, first_token_s = Answer(), 0.0
    question = Question(prompt=FIRST_PROMPT, max_tokens=64, temperature=0.6, seed=1, tpot_ms=250)
    with voice.streaming() as console:
        console.print(Text(FIRST_PROMPT, style="dim"), end="")
        async for piece in stream(place.url, question, answer, settings.presented(api_key, place.tenant)):
            first_token_s = first_token_s or time.monotonic() - started
            console.print(Text(piece, style="bold green"), end="", soft_wrap=True)
    first = (
        f"first token {first_token_s:.1f} s after the command" if first_token_s else "the model had nothing to say"
    )
    return f"{first} · {summary(answer)}"


def next_steps(place: Place) -> str:
    """What to type now."""
    url, tenant = place.url, place.tenant
    header = f" -H 'x-adaserve-tenant: {tenant}'" if tenant else ""
    headers = f', default_headers={{"x-adaserve-tenant": "{tenant}"}}' if tenant else ""
    option = f" --tenant {tenant}" if tenant else ""
    pages = "".join(f"\n  {name + ':':<9} {page}" for name, page in place.metrics.items())
    metrics = "".join(f" --metrics {page}" for page in place.metrics.values())
    return f"""
AdaServe is up at {url} (Ctrl-C drains); its console is {url}/ in a browser. Try:

  curl -N {url}/v1/completions{header} -H 'content-type: application/json' -d \\
    '{{"prompt": "import os\\n", "max_tokens": 32, "stream": true, "adaserve": {{"slo": {{"tpot_ms": 30}}}}}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none"{headers})
  print(client.completions.create(model="default", prompt="import os\\n", max_tokens=32).choices[0].text)

  .venv/bin/adaserve complete 'def main():' --url {url} --tpot-ms 30{option}
  .venv/bin/adaserve doctor --url {url} --redis {place.redis_url}{option}
  .venv/bin/adaserve replay --trace paper:rps=1,lengths=0.2 --limit 20 --url {url}{option}{metrics}

Metrics of the other services:{pages}
"""
