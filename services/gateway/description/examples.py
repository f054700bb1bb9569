"""Requests and replies for the OpenAPI document. Tests hold each against its schema and send the requests."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]

REQUEST = "5f0c1d2e3a4b5c6d7e8f90a1b2c3d4e5"
STREAM = f"chatcmpl-{REQUEST}"
CREATED = 1790000000

CHATS: dict[str, Json] = {
    "plain": {"model": "default", "messages": [{"role": "user", "content": "def add(a, b):"}], "max_tokens": 8},
    "of a schema": {
        "messages": [{"role": "user", "content": "A person, as JSON:"}],
        "max_tokens": 8,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "person",
                "schema": {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]},
            },
        },
    },
    "with a target": {
        "model": "default",
        "messages": [
            {"role": "system", "content": "You write Python."},
            {"role": "user", "content": [{"type": "text", "text": "def add(a, b):"}]},
        ],
        "max_completion_tokens": 8,
        "temperature": 0.7,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
        "adaserve": {"slo": {"tpot_ms": 1000, "ttft_ms": 60000}, "speculation": {"enabled": True, "max_depth": 8}},
    },
}
COMPLETIONS: dict[str, Json] = {
    "plain": {"model": "default", "prompt": "import os\n", "max_tokens": 8},
    "token ids": {
        "prompt": [5, 6, 7],
        "max_tokens": 8,
        "min_tokens": 2,
        "n": 2,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.05,
        "stop": ["\n\n"],
        "logit_bias": {"5": -100},
        "logprobs": 1,
        "return_token_ids": True,
        "adaserve": {"resumable": True, "deadline_ms": 60000},
    },
}
TOKENIZE: dict[str, Json] = {
    "a prompt": {"prompt": "import os", "return_token_strs": True},
    "messages": {"messages": [{"role": "user", "content": "hello"}]},
}
DETOKENIZE: dict[str, Json] = {"token ids": {"tokens": [5, 6, 7]}}
ORDERS: dict[str, Json] = {"back to automatic": {"mode": "auto", "reason": "the incident is over"}}

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 8,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 0},
}
FIGURES = {
    "time_to_first_token_ms": 31.402,
    "generation_time_ms": 84.115,
    "queue_time_ms": 1.204,
    "mean_itl_ms": 12.016,
    "tokens_per_second": 83.222,
    "speculative_decoding": {
        "mean_acceptance_length": 2.333,
        "draft_acceptance_rate": 0.4,
        "num_draft_tokens": 10,
        "num_accepted_draft_tokens": 4,
        "num_spec_steps": 3,
    },
    "acceptance": "exact",
    "slo": {
        "class": "custom",
        "tpot_target_ms": 40.0,
        "tpot_raised_from_ms": None,
        "ttft_target_ms": None,
        "tpot_ms": 12.016,
        "met": True,
    },
}
_CHAT_HEAD = {"id": STREAM, "object": "chat.completion.chunk", "created": CREATED, "model": "target"}
_TEXT_HEAD = {"id": f"cmpl-{REQUEST}", "object": "text_completion", "created": CREATED, "model": "target"}

CHAT_REPLY: Json = {
    **_CHAT_HEAD,
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "\n    return a + b", "refusal": None},
            "logprobs": None,
            "finish_reason": "length",
        }
    ],
    "usage": USAGE,
    "metrics": FIGURES,
}
COMPLETION_REPLY: Json = {
    **_TEXT_HEAD,
    "choices": [{"index": 0, "text": "import sys\n", "logprobs": None, "finish_reason": "length"}],
    "usage": USAGE,
    "metrics": FIGURES,
}


def _event(position: int, chunk: Json) -> str:
    return f"id: {REQUEST}:{position}:0a1b2c3d\ndata: {json.dumps(chunk, separators=(',', ':'))}\n\n"


def _chat_event(position: int, delta: Json, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _event(position, {**_CHAT_HEAD, "choices": [choice]})


def _text_event(position: int, text: str, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return _event(position, {**_TEXT_HEAD, "choices": [choice]})


_DONE = "data: [DONE]\n\n"
CHAT_EVENTS = (
    _chat_event(9, {"role": "assistant", "content": ""})
    + _chat_event(17, {"content": "\n    return a + b"})
    + _chat_event(17, {}, "length")
    + _event(17, {**_CHAT_HEAD, "choices": [], "usage": USAGE, "metrics": FIGURES})
    + _DONE
)
COMPLETION_EVENTS = _text_event(17, "import sys\n") + _text_event(17, "", "length") + _DONE

CANCELLED: Json = {"id": REQUEST, "object": "stream", "status": "cancelled"}
INSPECTED: Json = {
    "id": REQUEST,
    "object": "inspect",
    "cursor": "1790000000123-0",
    "more": False,
    "iterations": [
        {
            "position": 9,
            "mode": "speculative",
            "step": 3,
            "tpot_target_ms": 40.0,
            "tpot_ms": 12.016,
            "need": 1.4,
            "budget": 6,
            "rows": 2,
            "depth": 4,
            "width": 2,
            "draft_ms": 3.2,
            "select_ms": 0.21,
            "predicted_ms": 14.5,
            "verify_ms": 9.8,
            "nodes": [
                {"parent": -1, "token": 513, "text": " return", "p": 0.91, "phase": "slo", "accepted": True},
                {"parent": -1, "token": 870, "text": " pass", "p": 0.05, "phase": None, "accepted": False},
                {"parent": 0, "token": 97, "text": " a", "p": 0.6, "phase": "throughput", "accepted": False},
            ],
            "own": {"token": 98, "text": " b"},
        }
    ],
}
LIVE: Json = {
    "at_ms": 1790000000000,
    "cell": "default",
    "gateway": "gateway.5c",
    "draining": False,
    "classes": [
        {
            "name": "chatbot",
            "objective": 0.95,
            "tpot_ms": 50.0,
            "requests": 120,
            "met": 117,
            "attainment": 0.975,
            "goodput_tokens_per_s": 88.4,
        }
    ],
    "verifiers": [
        {
            "name": "verifier.1f",
            "mode": "speculative",
            "mode_reason": "",
            "mode_since_ms": 1790000000000.0,
            "running": 3,
            "waiting": 0,
            "prefilling": 1,
            "kv_used": 40,
            "kv_total": 512,
            "steps_per_s": 41.2,
            "tokens_per_s": 180.5,
            "budget_used": 3200,
            "slo_nodes": 300,
            "throughput_nodes": 1700,
            "accepted": 1400,
            "selected": 2000,
            "acceptance_by_depth": [{"depth": 1, "accepted": 900, "rejected": 120}],
            "calibration_error": 0.021,
            "expected_accepted": 1412.5,
            "realised_accepted": 1400,
            "drafter": "drafter.9a",
        }
    ],
    "drafters": [{"name": "drafter.9a"}],
    "selectors": [{"name": "selector.04"}],
    "gateways": [{"name": "gateway.5c"}],
    "requests": [
        {
            "id": REQUEST,
            "tenant": "acme",
            "class": "chatbot",
            "verifier": "verifier.1f",
            "state": "decoding",
            "position": 17,
            "output_tokens": 8,
            "tpot_ms": 12.016,
            "tpot_target_ms": 50.0,
            "slack_ms": 303.872,
        }
    ],
    "queue": {"tiers": [{"tier": tier, "waiting": 0, "oldest_s": 0.0} for tier in range(4)]},
    "redis": {"used_bytes": 4194304, "max_bytes": 0},
}
TOKENS: Json = {"count": 2, "max_model_len": 2048, "tokens": [513, 870], "token_strs": ["import", "Ġos"]}
MODEL: Json = {
    "id": "target",
    "object": "model",
    "created": CREATED,
    "owned_by": "adaserve",
    "max_model_len": 2048,
    "zero_load_ms": 18.25,
    "slo_classes": [{"class": "chatbot", "tpot_ms": 50.0, "ttft_ms": None, "tier": 1, "is_default": True}],
}
METRICS = 'adaserve_http_requests_total{route="/v1/completions",status="200"} 1.0\n'
MODES: Json = {
    "orders": {"cell": {"mode": "auto", "reason": "the incident is over", "by": "admin", "at_ms": 1790000000000}},
    "verifiers": {"verifier.1f": {"mode": "speculative", "reason": "", "since_ms": 1790000000000}},
}

PROMISES: Json = {
    "policy": {"file": "policy.yaml", "digest": "5f0c1d2e", "since_ms": 1790000000000, "error": None},
    "classes": {
        "chatbot": {"tpot": None, "tpot_ms": 50.0, "ttft_ms": None, "tier": 1, "objective": 0.95, "trace": 0.1}
    },
    "tenants": {},
    "schedules": [True],
}
ROLLOUT: Json = {
    "id": "6f0d3c1b8a94e275",
    "tenants": ["acme"],
    "otherwise": "plain",
    "steps": [0.1, 0.5, 1.0],
    "step": 1,
    "share": 0.1,
    "since_ms": 1790000000000,
    "halted": None,
    "next": {"move": "wait", "reason": "the step is 3 h old, and lasts 24 h"},
    "objectives": {"chatbot": 0.95},
    "min_requests": 100,
    "margin": 0.02,
    "arms": {"treatment": {"chatbot": {"attained": 97, "total": 100}}, "control": {}},
}
ROLLOUT_ORDERS: dict[str, Json] = {"to a step": {"step": 1}, "halt": {"halt": True, "reason": "an incident"}}
KEY: Json = {
    "id": "3f9a1c0b7d2e",
    "tenant": "acme",
    "scopes": ["inference"],
    "created": "2026-11-28T12:00:00Z",
    "expires": None,
    "revoked": None,
    "status": "active",
    "earlier_secrets_until": [],
    "note": "the chat of the shop",
}
REVOKED_KEY: Json = {**KEY, "status": "revoked", "revoked": "2026-11-28T12:30:00Z"}
KEY_WITH_SECRET: Json = {**KEY, "key": "sk-3f9a1c0b7d2e-EXAMPLE"}
NEW_KEYS: dict[str, Json] = {"for a month": {"tenant": "default", "expires_in": "30d", "note": "a trial"}}
CHANGE: Json = {
    "at": "2026-11-28T12:00:00Z",
    "what": "mode.set",
    "who": "admin",
    "before": {"cell": None},
    "after": {"cell": {"mode": "auto"}},
    "request_id": "5f0c1d2e",
}
USAGE_ROW: Json = {
    "requests": 3,
    "prompt_tokens": 1200,
    "cached_tokens": 800,
    "output_tokens": 384,
    "drafted_tokens": 700,
    "accepted_tokens": 250,
    "steps": 134,
    "met": 2,
    "missed": 1,
}
USAGE_REPORT: Json = {
    "object": "usage",
    "since": "2026-11-28T00:00:00Z",
    "until": "2026-11-29T00:00:00Z",
    "by": "day",
    "rows": [{"start": "2026-11-28T00:00:00Z", "tenant": "acme", "class": "chatbot", **USAGE_ROW}],
    "totals": USAGE_ROW,
}
USAGE_CSV = (
    f"start,tenant,class,{','.join(USAGE_ROW)}\r\n"
    f"2026-11-28T00:00:00Z,acme,chatbot,{','.join(map(str, USAGE_ROW.values()))}\r\n"
)
ACCOUNT: Json = {
    "id": REQUEST,
    "object": "request",
    "tenant": "acme",
    "class": "chatbot",
    "status": "finished",
    "finish": "length",
    "verdict": "missed",
    "is_partial": False,
    "slo": {"tpot_target_ms": 40.0, "ttft_target_ms": None},
    "timing": {
        "arrived_ms": 1790000000000.0,
        "gateway_ms": 2.1,
        "queue_ms": 1.2,
        "compile_ms": 0.0,
        "admit_ms": 0.1,
        "prefill_ms": 80.0,
        "first_token_ms": 1790000000085.0,
        "last_token_ms": 1790000001635.0,
        "ttft_ms": 85.0,
        "tpot_ms": 62.0,
        "generation_ms": 1550.0,
        "preempted_ms": 0.0,
        "unserved_ms": 0.0,
        "restart_ms": 0.0,
    },
    "tokens": {"prompt": 400, "cached": 0, "output": 26},
    "speculation": {"drafted_tokens": 60, "accepted_tokens": 10, "mean_tree_size": 4.0, "mean_accepted": 0.667},
    "steps": {
        "total": 16,
        "speculative": 15,
        "bare": 1,
        "bare_reasons": {"drafter_behind": 1},
        "late": 6,
        "prefill": 1,
        "waited_ring_ms": 600.0,
        "forward_ms": 900.0,
        "predicted_forward_ms": 880.0,
        "alone_ms": 390.0,
        "other_prefill_ms": 0.0,
        "commit_ms": 30.0,
        "mean_batch_requests": 14.0,
        "mean_batch_tokens": 70.0,
        "mean_batch_prompt_tokens": 0.0,
    },
    "takeovers": 0,
    "preemptions": 0,
    "causes": {"ttft": [], "tpot": [{"cause": "ring", "ms": 24.0, "share_ms": 11.4}]},
    "explanation": [
        "It missed its targets: 26 tokens, class chatbot.",
        "TPOT was 62.0 ms against a target of 40.0 ms: 22.0 ms a token too many.",
        "Of these, 11.4 ms: waiting for the drafter's trees, 40.0 ms a step.",
    ],
}

_ERRORS: dict[int, tuple[str, str, str | None, str]] = {
    400: (
        "temperature: Input should be less than or equal to 2 (got 2.5)",
        "invalid",
        "temperature",
        "invalid_value",
    ),
    401: ("The API key is not known", "invalid", None, "invalid_api_key"),
    403: ("x-adaserve-tenant names no tenant of the policy", "invalid", "x-adaserve-tenant", "unknown_tenant"),
    404: ("There is no such stream, or it ended more than ten minutes ago", "invalid", "id", "stream_not_found"),
    409: ("Another connection has taken this stream over", "invalid", None, "detached"),
    413: ("The body is larger than 1048576 bytes", "invalid", None, "body_too_large"),
    415: ("content-type: must be application/json (got '')", "invalid", "content-type", "unsupported_media_type"),
    422: (
        "Idempotency-Key: this key belongs to a request with another body",
        "invalid",
        "Idempotency-Key",
        "idempotency_key_reused",
    ),
    429: ("as many requests wait as tier 2 takes now (at most 1024 in all)", "rate_limit", None, "queue_full"),
    500: (
        "Something broke inside the server; the request id finds it in the logs",
        "server",
        None,
        "internal_error",
    ),
    502: (
        "The server that this request is forwarded to cannot be reached",
        "server",
        None,
        "upstream_unreachable",
    ),
    503: ("No capacity now: the message bus does not answer", "service_unavailable", None, "unavailable"),
    504: (
        "adaserve.deadline_ms: it was over before the request could begin",
        "server",
        "adaserve.deadline_ms",
        "deadline_exceeded",
    ),
}


def error(status: int) -> Json:
    """An error that the status carries."""
    message, kind, param, code = _ERRORS[status]
    prefix = "invalid_request" if kind == "invalid" else kind
    return {"error": {"message": message, "type": f"{prefix}_error", "param": param, "code": code}}
