"""A short run of the campaign, and that it finds what it looks for."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from shared import codec
from shared.errors import UnreadableMessage
from shared.messages import ControlEvent, DraftRequest, Request
from tests.fuzz import campaign, mutation

SEED = 20


def test_nothing_but_declared_errors_and_bounded_cost() -> None:
    found = campaign.run(2_700, SEED)
    assert found.failures == []
    assert min(found.inputs.values()) >= 200
    assert found.refused.keys() == found.inputs.keys() - {"traceparent"}


def test_an_undeclared_error_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(_: Any) -> object:
        raise OverflowError("of a number")

    reader = campaign.Reader("careless", lambda chance: chance.random(), careless, ValueError)
    monkeypatch.setattr(campaign, "readers", lambda: [reader])
    assert "OverflowError" in campaign.run(1, SEED).failures[0]


def test_a_costly_input_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = campaign.Reader("generous", lambda _: 60_000_000, lambda size: bytes(size), None)
    monkeypatch.setattr(campaign, "readers", lambda: [reader])
    assert "MB" in campaign.run(1, SEED).failures[0]


@pytest.mark.parametrize("kind", [Request, DraftRequest])
def test_a_wide_body_ends_before_it_is_in_memory(kind: type[Any]) -> None:
    flat = b"\xdc\x00\x40" + b"\x90" * 64  # 64 empty lists
    body = b"\x82\xa1v\x02\xa4stop" + b"\xdc\x00\x40" + flat * 64
    with pytest.raises(UnreadableMessage, match="msgpack"):
        codec.decode(kind, body)


def test_a_field_too_many_is_named() -> None:
    fields = msgpack.unpackb(mutation.golden(ControlEvent))
    with pytest.raises(UnreadableMessage, match="'later'"):
        codec.decode(ControlEvent, msgpack.packb({**fields, "later": "x" * 100}))
