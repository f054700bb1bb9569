"""Fields of OpenAI's and other open servers' requests that we know and do not have yet.

Asking for their behaviour is a named 400, never a silent pass. Their neutral values, which many clients send
always, are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from services.gateway.errors import ApiError, invalid
from services.gateway.schemas import AdaServeOptions, ChatRequest, Message, Options, ResponseFormat, Sampling

_NOTHING = (None,)
_OFF = (None, False)
_NONE_GIVEN: tuple[Any, ...] = (None, [], {})

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "echo": _OFF,
    "suffix": (None, ""),
    "length_penalty": (None, 1),
    "top_logprobs": (None, 0),
    "prompt_logprobs": _NOTHING,
    "tools": _NONE_GIVEN,
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "functions": _NONE_GIVEN,
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": _NOTHING,
    "prediction": _NOTHING,
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
    "web_search_options": _NOTHING,
    "store": _OFF,
    "use_beam_search": _OFF,
    "guided_json": _NOTHING,
    "guided_regex": _NOTHING,
    "guided_choice": _NOTHING,
    "guided_grammar": _NOTHING,
    "structured_outputs": _NOTHING,
    "chat_template": _NOTHING,
    "chat_template_kwargs": _NONE_GIVEN,
    "prompt_embeds": _NOTHING,
}
NEUTRAL_MESSAGE: dict[str, tuple[Any, ...]] = {
    "tool_calls": _NONE_GIVEN,
    "function_call": _NOTHING,
    "refusal": _NOTHING,
    "audio": _NOTHING,
    "tool_call_id": _NOTHING,
}
# Names for the caller's own bookkeeping: nothing is expected of the server.
LABELS = frozenset({"prompt_cache_key", "safety_identifier", "prompt_cache_retention"})

_MAX_WARNED = 8
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def check(request: Sampling) -> list[str]:
    """Names of the unknown fields, which are ignored. Raises ApiError 400 for a known one we do not have."""
    unknown = _unknown("", request.model_extra, NEUTRAL)
    options = request.adaserve
    if options is not None:
        unknown += _unknown_options(options)
    if request.response_format is not None:
        unknown += _unknown_format(request.response_format)
    if request.stream_options is not None:
        unknown += _unknown("stream_options.", request.stream_options.model_extra, {})
    return unknown + (check_messages(request.messages) if isinstance(request, ChatRequest) else [])


def check_messages(messages: Sequence[Message]) -> list[str]:
    """As `check`."""
    return [name for index, message in enumerate(messages) for name in _unknown_message(index, message)]


def check_plain(request: Options) -> list[str]:
    """Names of unknown fields in a body without fields that are known and not built."""
    return _unknown("", request.model_extra, {})


def warning(unknown: list[str]) -> dict[str, str]:
    """The header about ignored fields; empty where there are none."""
    if not unknown:
        return {}
    names = [name if _PLAIN_NAME.fullmatch(name) else "(unprintable)" for name in unknown]
    more = f" and {len(names) - _MAX_WARNED} more" if len(names) > _MAX_WARNED else ""
    return {"x-adaserve-warning": f"ignored unknown fields: {', '.join(names[:_MAX_WARNED])}{more}"}


def _unknown_options(options: AdaServeOptions) -> list[str]:
    unknown = _unknown("adaserve.", options.model_extra, {})
    if options.slo is not None:
        unknown += _unknown("adaserve.slo.", options.slo.model_extra, {})
    if options.speculation is not None:
        unknown += _unknown("adaserve.speculation.", options.speculation.model_extra, {})
    return unknown


def _unknown_format(wanted: ResponseFormat) -> list[str]:
    unknown = _unknown("response_format.", wanted.model_extra, {})
    if wanted.json_schema is not None:
        unknown += _unknown("response_format.json_schema.", wanted.json_schema.model_extra, {})
    return unknown


def _unknown_message(index: int, message: Message) -> list[str]:
    return _unknown(f"messages.{index}.", message.model_extra, NEUTRAL_MESSAGE)


def _unknown(prefix: str, extra: dict[str, Any] | None, known: dict[str, tuple[Any, ...]]) -> list[str]:
    unknown = []
    for name, value in (extra or {}).items():
        if name in known:
            if not any(value == neutral and _alike(value, neutral) for neutral in known[name]):
                raise unsupported(prefix + name)
        elif name not in LABELS:
            unknown.append(prefix + name)
    return unknown


def unsupported(param: str) -> ApiError:
    return invalid(
        param, "is not supported yet; leave it out or at its neutral value", code="unsupported_parameter"
    )


def _alike(value: Any, neutral: Any) -> bool:
    """JSON has booleans apart from numbers; Python says True == 1."""
    return isinstance(value, bool) == isinstance(neutral, bool)
