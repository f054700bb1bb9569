"""The key benchmark times what it says (bench/key_speed.py)."""

from __future__ import annotations

import json
import sys

import pytest

from bench import key_speed
from shared.api_keys import Verdict


def test_it_reports_every_kind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["key_speed", "--keys", "20", "--repetitions", "30", "--json"])
    key_speed.main()
    told = json.loads(capsys.readouterr().out)
    assert told["keys"] == 20
    assert [line["kind"] for line in told["lines"]] == ["right key", "wrong secret", "unknown id", "none of ours"]
    assert all(0 < line["median_us"] <= line["p99_us"] <= line["worst_us"] for line in told["lines"])
    monkeypatch.setattr(sys, "argv", ["key_speed", "--keys", "5", "--repetitions", "5"])
    key_speed.main()
    assert "5 keys, 5 of each kind" in capsys.readouterr().out


def test_a_wrong_verdict_ends_it() -> None:
    records, spelled = key_speed.make(2)
    with pytest.raises(SystemExit, match="right key: ok instead of revoked"):
        key_speed.measure("right key", Verdict.REVOKED, records, spelled)
