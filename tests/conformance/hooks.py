"""What schemathesis loads: makes valid requests cheap and servable, checks events, counts answers."""

from __future__ import annotations

import atexit
import itertools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import schemathesis

from services.gateway.app import VERSION
from services.gateway.description.document import document
from tests.conformance import servable
from tests.conformance.described import Described

COUNTS = "CONFORMANCE_COUNTS"  # file for the answers by status
OWN_KEY = "CONFORMANCE_KEY"  # what the campaign presents
_described = Described(document(VERSION))
_statuses: Counter[str] = Counter()
_new = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Called with every request before it is sent."""
    if isinstance(case.body, dict):
        servable.change_body(case.body)
    if case.path_parameters:
        servable.change_path(case.path_parameters, os.environ.get(OWN_KEY, ""))
    if case.headers:
        servable.change_headers(case.headers, f"{os.getpid()}-{next(_new)}")


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    _statuses[str(response.status_code)] += 1


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """HTTP has recipients ignore headers that they do not know (RFC 9110, 5.1)."""
    unknown_header = "in header - object with unexpected properties" in failure.message
    return not (failure.code == "ST201" and unknown_header)


@schemathesis.check
def events_conformance(context: Any, response: Any, case: Any) -> None:
    """Every event of a stream is as its schema says, and the last one is `[DONE]` or an error."""
    kinds = response.headers.get("content-type", [""])
    if response.status_code == 200 and kinds[0].startswith("text/event-stream"):
        headers = {name: ", ".join(values) for name, values in response.headers.items()}
        answer = httpx.Response(response.status_code, headers=headers, text=response.text)
        _described.check_answer(case.method.lower(), case.operation.path, answer)


def _write_counts() -> None:
    if path := os.environ.get(COUNTS):
        Path(path).write_text(json.dumps(_statuses))


atexit.register(_write_counts)
