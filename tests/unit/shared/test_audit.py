"""Audit events: one JSON line, never a secret (shared/audit.py)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audit import LEFT_OUT, MAX_BYTES, SECRET_NAMES, AuditEvent, read_line
from shared.errors import UnreadableMessage

SECRET = "sk-3f0c9d-hunter2hunter2"


def event(**changes: Any) -> AuditEvent:
    return AuditEvent(**({"what": "mode.set", "who": "3f0c9d", "at_ms": 0} | changes))


def test_a_line_tells_who_what_when_before_and_after() -> None:
    line = event(before=None, after={"mode": "auto"}, request_id="r1").line()
    assert "\n" not in line
    assert read_line(line.encode()) == {
        "at": "1970-01-01T00:00:00Z",
        "what": "mode.set",
        "who": "3f0c9d",
        "before": None,
        "after": {"mode": "auto"},
        "request_id": "r1",
    }


@pytest.mark.parametrize("name", sorted(SECRET_NAMES))
def test_what_is_called_like_a_secret_is_left_out(name: str) -> None:
    line = event(after={"list": [{name.upper(): "hunter2", "id": "abc"}]}).line()
    assert "hunter2" not in line
    assert json.loads(line)["after"]["list"][0] == {name.upper(): LEFT_OUT, "id": "abc"}


def test_a_tenant_may_be_called_like_a_secret() -> None:
    after = {"tenants": {"secret": {"rpm": 5}}}
    assert json.loads(event(after=after).line())["after"] == after


@given(
    st.recursive(
        st.just(SECRET),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    )
)
def test_what_is_spelled_like_an_api_key_is_left_out(value: Any) -> None:
    assert "hunter2" not in event(before=value, after=(value, f"was {SECRET}, is")).line()


def test_an_event_that_is_too_long_says_so() -> None:
    found = json.loads(event(after="x" * MAX_BYTES).line())
    assert found["before"] == found["after"]
    assert "left out: the event has" in found["after"]
    assert (found["what"], found["who"]) == ("mode.set", "3f0c9d")


@pytest.mark.parametrize("line", [b"", b"garbage", b"[]", b'{"at": 1}'])
def test_other_lines_are_unreadable(line: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        read_line(line)
