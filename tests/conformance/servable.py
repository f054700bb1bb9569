"""Makes generated requests cheap and servable, before they are sent.

Values within their bounds are exchanged for others within their bounds: few tokens, the model that is served,
targets that can be met, idempotency keys that nobody has used, the tenant whose the API key is. So valid requests
stay valid, invalid ones invalid, and the valid ones reach the model.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from services.gateway.slo import HEADERS

MAX_TOKENS = 4
MAX_CHOICES = 2
MAX_TARGET_MS = 3_600_000.0
SERVABLE_MS = 60_000.0
TENANT = "conformance"
NOBODYS_KEY = "0" * 12
MAX_KEY, MAX_TENANT = 200, 40  # longer ones are left as they are
SMALL_IDS = 200  # every tokenizer has more

_LENGTHS = {
    "max_tokens": (MAX_TOKENS, 1 << 20),
    "max_completion_tokens": (MAX_TOKENS, 1 << 20),
    "min_tokens": (MAX_TOKENS, 1 << 20),
    "n": (MAX_CHOICES, 16),
}
_TARGETS = {"tpot_ms", "ttft_ms", "deadline_ms"}
_IDS = {"prompt", "tokens", "stop_token_ids"}
_HEADERS = {name for names in HEADERS.values() for name in names}


def change_path(parameters: MutableMapping[str, Any], key: str) -> None:
    """In place: what would be done to the campaign's own ``key`` is done to one that nobody has."""
    if [parameters.get("key_id")] == key.split("-")[1:2]:
        parameters["key_id"] = NOBODYS_KEY


def change_headers(headers: MutableMapping[str, Any], suffix: str) -> None:
    """In place; ``suffix`` makes a key new."""
    for name, value in list(headers.items()):
        if name.lower() in _HEADERS and is_target(value):
            headers[name] = str(SERVABLE_MS)
        if name.lower() == "idempotency-key" and isinstance(value, str) and 1 <= len(value) < MAX_KEY:
            headers[name] = value + suffix
        if name.lower() == "x-adaserve-tenant" and isinstance(value, str) and len(value) < MAX_TENANT:
            headers[name] = TENANT


def change_body(body: dict[str, Any]) -> None:
    """In place."""
    for name, (limit, bound) in _LENGTHS.items():
        value = body.get(name)
        if type(value) is int and limit < value <= bound:
            body[name] = limit
    if isinstance(body.get("model"), str) and len(body["model"]) <= 256:
        body["model"] = "default"
    for name in _IDS & body.keys():
        body[name] = _small_ids(body[name])
    options = body.get("adaserve")
    if isinstance(options, dict):
        for holder in (options, options.get("slo")):
            if isinstance(holder, dict):
                _relax(holder)


def _relax(targets: dict[str, Any]) -> None:
    for name in _TARGETS & targets.keys():
        if type(targets[name]) in (int, float) and is_target(targets[name]):
            targets[name] = SERVABLE_MS


def is_target(value: Any) -> bool:
    """Whether it is within a target's bounds."""
    try:
        return 0 < float(value) <= MAX_TARGET_MS and (not isinstance(value, str) or value[0].isdigit())
    except (TypeError, ValueError):
        return False


def _small_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_small_ids(item) for item in value]
    return value % SMALL_IDS if type(value) is int and 0 <= value < 2**31 else value
