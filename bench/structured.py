"""Structured output: generated bounded schemas through the running system, with speculation and without.

    python -m bench.structured [--schemas 500] [--tokens 160] [--seed 1] [--json]

Every schema meets a prompt, a temperature and a seed. A completion that ends with ``stop`` must parse and validate
(by ``jsonschema``, which shares no code with the service), and its tokens must equal those with speculation off;
the share that ends with ``length`` is printed. Then hostile schemas: each must be refused within a second, and a
completion beside them goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import jsonschema
from rich.console import Console
from rich.progress import track

from bench.local import LocalStack, local_stack
from bench.prompts import source_prompts

CONCURRENCY = 4
TEMPERATURES = (0.0, 0.7, 1.0)
REFUSAL_S = 1.0
GAP_S = 1.0  # of a stream beside hostile schemas
LEAST_STOPPED = 0.5  # of the completions, or little was shown
CERTAIN = {  # to be refused on any machine
    *("depth 400", "size 300 KB", "remote reference", "no schema", "unsatisfiable", "recursion without end"),
}
PATTERNS = ("^[a-z]{1,8}$", "^[A-Z][a-z]{2,5}$", "^[0-9]{3}-[0-9]{4}$", "^(red|green|blue)$", "^[a-f0-9]{8}$")
FORMATS = ("date", "uuid", "ipv4")  # `jsonschema` refuses times that RFC 3339 allows


class Schemas:
    """Random JSON Schemas whose every instance is short."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> dict[str, Any]:
        """An object, at most three levels deep."""
        return self._object(3)

    def _any(self, depth: int) -> dict[str, Any]:
        kinds: list[Callable[[int], dict[str, Any]]] = [self._string, self._integer, self._choice, self._leaf]
        nested: list[Callable[[int], dict[str, Any]]] = [self._object, self._array, self._either]
        return self._random.choice(kinds + nested)(depth - 1) if depth > 0 else self._random.choice(kinds)(0)

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._random.sample(
            ["id", "name", "kind", "size", "tags", "on", "next_step"], self._random.randint(1, 4)
        )
        required = [name for name in names if self._random.random() < 0.7]
        return {
            "type": "object",
            "properties": {name: self._any(depth - 1) for name in names},
            "required": required,
            "additionalProperties": False,
        }

    def _array(self, depth: int) -> dict[str, Any]:
        low = self._random.randint(0, 2)
        return {
            "type": "array",
            "items": self._any(depth - 1),
            "minItems": low,
            "maxItems": low + self._random.randint(0, 2),
        }

    def _either(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self._any(depth - 1), {"type": "null"}]}

    def _string(self, _: int) -> dict[str, Any]:
        low = self._random.randint(0, 3)
        return self._random.choice(
            [
                {"type": "string", "minLength": low, "maxLength": low + self._random.randint(0, 12)},
                {"type": "string", "pattern": self._random.choice(PATTERNS)},
                {"type": "string", "format": self._random.choice(FORMATS)},
            ]
        )

    def _integer(self, _: int) -> dict[str, Any]:
        low = self._random.randint(-50, 50)
        return {"type": "integer", "minimum": low, "maximum": low + self._random.randint(0, 2000)}

    def _choice(self, _: int) -> dict[str, Any]:
        values = ["low", "high", "ü", 'a "quoted" one', 7, 1.5, None, True]
        return {"enum": self._random.sample(values, self._random.randint(1, 4))}

    def _leaf(self, _: int) -> dict[str, Any]:
        return self._random.choice([{"type": "boolean"}, {"type": "null"}, {"const": "fixed"}])


def deep(levels: int) -> dict[str, Any]:
    """Objects in objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def hostile() -> dict[str, dict[str, Any]]:
    """By name: what is meant to hurt whoever compiles it."""
    text = {"type": "string"}
    return {
        "depth 12": deep(12),
        "depth 400": deep(400),
        "size 300 KB": {"enum": [f"value {index}" for index in range(20_000)]},
        "size 60 KB of properties": {"properties": {f"property_{index}": text for index in range(1_700)}},
        "pattern (a{1,999}){1,999}": text | {"pattern": "^((a{1,999}){1,999}){1,99}$"},
        "pattern of 2^30 states": text | {"pattern": "^.*a.{400}b.{400}c$"},
        "alternatives": text
        | {"pattern": "^(" + "|".join(f"(a|b){{{n},{2 * n}}}c?" for n in range(1, 300)) + ")$"},
        "recursion without end": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        "product of allOf": {"allOf": [text | {"pattern": f"^(.*x){{{n}}}.*$"} for n in range(2, 40)]},
        "maxLength 10^9": text | {"minLength": 10**9, "maxLength": 2 * 10**9},
        "maxItems 10^9": {"type": "array", "items": text, "minItems": 10**9},
        "remote reference": {"$ref": "http://localhost/schema.json"},
        "no schema": {"type": "strang"},
        "unsatisfiable": {"type": "integer", "minimum": 3, "maximum": 2},
    }


@dataclass(frozen=True, slots=True)
class Case:
    schema: dict[str, Any]
    prompt: str
    temperature: float
    seed: int

    def body(self, num_tokens: int, *, speculation: bool) -> dict[str, Any]:
        """The REST request."""
        return {
            "prompt": self.prompt,
            "max_tokens": num_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "return_token_ids": True,
            "response_format": response_format(self.schema),
            "adaserve": {"speculation": {"enabled": speculation}},
        }


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """As OpenAI has it."""
    return {"type": "json_schema", "json_schema": {"name": "generated", "strict": True, "schema": schema}}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``invalid`` ended with stop and do not validate, ``unequal`` differ from speculation off: both must be 0."""

    cases: int
    stopped: int
    ended_by_length: int
    invalid: int
    unequal: int
    tokens: int
    speculative_steps: int
    drafted: int
    accepted: int
    seconds: float
    seconds_plain: float

    @property
    def holds(self) -> bool:
        """Whether all was shown, with trees that were verified."""
        has_shown = self.speculative_steps > 0 and self.stopped >= LEAST_STOPPED * self.cases
        return self.invalid == self.unequal == 0 and has_shown


def run(stack: LocalStack, cases: Sequence[Case], num_tokens: int, console: Console) -> Verdict:
    """Both sides of every case."""
    answers, seconds = {}, {}
    for speculation in (True, False):
        started = time.perf_counter()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            asked = pool.map(
                lambda case, on=speculation: stack.complete(case.body(num_tokens, speculation=on)), cases
            )
            told = "with speculation" if speculation else "without"
            answers[speculation] = list(track(asked, told, total=len(cases), console=console))
        seconds[speculation] = time.perf_counter() - started
    spent = [answer["metrics"]["speculative_decoding"] for answer in answers[True]]
    choices = [answer["choices"][0] for answer in answers[True]]
    plain = [answer["choices"][0] for answer in answers[False]]
    stopped = [
        (case, choice) for case, choice in zip(cases, choices, strict=True) if choice["finish_reason"] == "stop"
    ]
    return Verdict(
        cases=len(cases),
        stopped=len(stopped),
        ended_by_length=sum(choice["finish_reason"] == "length" for choice in choices),
        invalid=sum(not is_valid(choice["text"], case.schema) for case, choice in stopped),
        unequal=sum(one["token_ids"] != other["token_ids"] for one, other in zip(choices, plain, strict=True)),
        tokens=sum(len(choice["token_ids"]) for choice in choices),
        speculative_steps=sum(told["num_spec_steps"] for told in spent),
        drafted=sum(told["num_draft_tokens"] for told in spent),
        accepted=sum(told["num_accepted_draft_tokens"] for told in spent),
        seconds=round(seconds[True], 1),
        seconds_plain=round(seconds[False], 1),
    )


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    """Whether it parses and validates, formats included."""
    try:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Refusal:
    name: str
    status: int
    seconds: float
    message: str

    @property
    def holds(self) -> bool:
        """Refused in time, or taken in time: not everything that looks hostile is too much."""
        return self.seconds <= REFUSAL_S and self.status in ((400,) if self.name in CERTAIN else (200, 400))


def attack(stack: LocalStack) -> tuple[list[Refusal], float]:
    """Each hostile schema, and the longest wait for a byte of the stream that ran beside them, in seconds."""
    refusals = []
    _post(stack, {"type": "object", "properties": {}})  # the process that compiles is there
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(_longest_gap, stack)
        for name, schema in hostile().items():
            started = time.perf_counter()
            status, message = _post(stack, schema)
            refusals.append(Refusal(name, status, round(time.perf_counter() - started, 3), message))
        return refusals, beside.result()


def _post(stack: LocalStack, schema: dict[str, Any]) -> tuple[int, str]:
    body = {"model": "default", "prompt": "{", "max_tokens": 4, "response_format": response_format(schema)}
    request = urllib.request.Request(  # noqa: S310 - always our own http URL
        f"{stack.url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]["message"]


def _longest_gap(stack: LocalStack) -> float:
    body = {
        "model": "default",
        "prompt": "import os",
        "max_tokens": 800,
        "ignore_eos": True,
        "stream": True,
        "seed": 1,
    }
    request = urllib.request.Request(  # noqa: S310
        f"{stack.url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    longest, last = 0.0, time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        for _ in response:
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    return longest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    console = Console(stderr=True)
    schemas = Schemas(asked.seed)
    cases = [
        Case(schemas.next(), prompt, TEMPERATURES[index % len(TEMPERATURES)], asked.seed * 100_000 + index)
        for index, prompt in enumerate(source_prompts(asked.schemas))
    ]
    settings = {"verifier": {"DTYPE": "float64"}, "selector": {"POLICY": "paper"}}
    with local_stack(settings) as stack:
        verdict = run(stack, cases, asked.tokens, console)
        refusals, gap_s = attack(stack)
    if asked.json:
        print(json.dumps({**asdict(verdict), "refusals": [asdict(one) for one in refusals], "gap_s": gap_s}))
    else:
        _print(verdict, refusals, gap_s)
    return 0 if verdict.holds and all(refusal.holds for refusal in refusals) and gap_s <= GAP_S else 1


def _print(verdict: Verdict, refusals: Sequence[Refusal], gap_s: float) -> None:
    print(
        f"{verdict.cases} schemas, {verdict.tokens} tokens, {verdict.seconds} s;"
        f" without speculation {verdict.seconds_plain} s"
    )
    print(f"  ended with stop    {verdict.stopped}, of these invalid {verdict.invalid}")
    print(f"  ended with length  {verdict.ended_by_length} ({verdict.ended_by_length / verdict.cases:.1%})")
    print(f"  tokens unlike those without speculation: in {verdict.unequal} completions")
    share = verdict.accepted / max(1, verdict.drafted)
    print(f"  {verdict.speculative_steps} speculative steps, {verdict.drafted} drafted, {share:.1%} accepted")
    for refusal in refusals:
        print(f"  {refusal.status} in {refusal.seconds:.3f} s  {refusal.name}: {refusal.message[:110]}")
    print(f"  longest gap of a stream beside them: {gap_s:.3f} s")


if __name__ == "__main__":
    sys.exit(main())
