"""`adaserve top`: the cell in a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.main import app
from cli.top_view import number, percent, view
from tests.unit.cli import fake_gateway
from tests.unit.cli.fake_gateway import FakeGateway

SNAPSHOT: dict[str, Any] = {
    "at_ms": 1,
    "cell": "default",
    "gateway": "g",
    "classes": [
        {"name": "coding", "objective": 0.9, "tpot_ms": 30.0, "requests": 10, "attainment": 0.8,
         "goodput_tokens_per_s": 12.34},
        {"name": "best_effort", "objective": None, "tpot_ms": None, "requests": 0, "attainment": None,
         "goodput_tokens_per_s": 0.0},
    ],
    "verifiers": [
        {"name": "v1", "mode": "full_verification", "mode_reason": "acceptance_collapse", "running": 3,
         "waiting": 0, "kv_used": 10, "kv_total": 40, "steps_per_s": 20.5, "tokens_per_s": 123.4, "slo_nodes": 5,
         "throughput_nodes": 7, "accepted": 6, "selected": 12, "calibration_error": 0.031},
        {"name": "v2"},
    ],
    "drafters": [{"name": "d"}], "selectors": [{"name": "s"}], "gateways": [{"name": "g"}],
    "requests": [
        {"id": f"r{index}", "tenant": "acme", "class": "coding", "state": "decoding", "output_tokens": 5,
         "tpot_ms": 40.0, "tpot_target_ms": 30.0, "slack_ms": -50.0} for index in range(5)
    ],
    "queue": {"tiers": [{"tier": 0, "waiting": 0, "oldest_s": None}, {"tier": 2, "waiting": 4, "oldest_s": 1.5}]},
    "redis": {"used_bytes": 3 << 20, "max_bytes": 64 << 20},
}  # fmt: skip


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway.running() as gateway:
        gateway.pages["/admin/live"] = lambda: json.dumps(SNAPSHOT)
        yield gateway


def drawn(snapshot: dict[str, Any], width: int = 160, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(view(snapshot, width=width, **{"requests": 3, **options}))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_all_of_the_cell_is_shown() -> None:
    text = drawn(SNAPSHOT)
    for words in ("cell default", "1 drafter ·", "2 verifiers", "3.00 MiB of 64", "coding", "80.0 %", "25.0 %"):
        assert words in text
    for words in ("acceptance_collapse", "50.0 %", "3 of 5", "r2", "-50.0", "1.50"):
        assert words in text
    assert "r3" not in text
    assert "lost" in drawn(SNAPSHOT, trouble="lost")


def test_a_narrow_terminal_has_fewer_columns_and_all_of_their_headings() -> None:
    narrow = drawn({**SNAPSHOT, "verifiers": [{"name": "v1", "mode": "speculative", "running": 3}]}, width=40)
    for words in ("speculative", "kept", "tok/s", "slack ms", "80.0 %"):
        assert words in narrow
    assert "calib. error" not in narrow
    assert "…" not in narrow
    wide = drawn({**SNAPSHOT, "verifiers": [{"name": "v1", "mode": "speculative", "running": 3}]}, width=110)
    assert "calib. error" in wide
    assert "…" not in wide


def test_long_names_and_reasons_leave_headings_and_figures_whole() -> None:
    ids = [{**one, "id": "cmpl-" + "0a" * 16} for one in SNAPSHOT["requests"]]
    text = drawn({**SNAPSHOT, "requests": ids}, width=40)
    for words in ("verifier ", "full_verification", "(acceptance_collapse)", "cmpl-0a0a", "slack ms", "-50.0"):
        assert words in text
    assert text.count("…") == 3  # of the ids alone


def test_what_another_version_does_not_tell_is_left_out() -> None:
    assert "cell ?" in drawn({})
    assert number(None) == percent(None) == "–"
    assert (number(1234), number(1234.5), number(0.123)) == ("1,234", "1,234", "0.12")


def test_without_a_terminal_it_looks_once(gateway: FakeGateway) -> None:
    result = CliRunner().invoke(app, ["top", "--url", gateway.url])
    assert (result.exit_code, "coding" in result.stdout) == (0, True)


@pytest.mark.parametrize("options", [("--once",), ("--once", "--json"), ()])
def test_a_cell_that_nobody_watched_is_looked_at_again(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr("cli.top.AGAIN_S", 0.01)
    silent = {**SNAPSHOT, "verifiers": [{"name": "v1", "mode": None, "running": None}]}
    looks = iter([silent, silent, SNAPSHOT])
    gateway.pages["/admin/live"] = lambda: json.dumps(next(looks))
    result = CliRunner().invoke(app, ["top", "--url", gateway.url, *options])
    assert (result.exit_code, "full_verif" in result.stdout) == (0, True)


def test_json_is_what_the_gateway_answers(gateway: FakeGateway) -> None:
    result = CliRunner().invoke(app, ["top", "--url", gateway.url, "--json", "--once"])
    assert json.loads(result.stdout) == SNAPSHOT


def test_a_gateway_without_the_view_is_one_line(gateway: FakeGateway) -> None:
    gateway.pages.clear()
    result = CliRunner().invoke(app, ["top", "--url", gateway.url, "--once"])
    assert (result.exit_code, result.stderr) == (1, "adaserve: the gateway answered 404\n")


def test_in_a_terminal_it_outlives_its_gateway_and_q_leaves() -> None:
    """A real terminal: the gateway is away at first, then there, and q ends it with code 0."""
    with fake_gateway.running() as gateway:
        gateway.pages["/admin/live"] = lambda: json.dumps(SNAPSHOT)
        url = gateway.url
    outer, inner = pty.openpty()
    code = f"from cli.main import app; app(['top', '--url', '{url}', '--every', '0.2'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    try:
        assert "refused" in seen(outer, "refused")
        os.write(outer, b"q")
        seen(outer, "never said")
        assert child.wait(5) == 0
    finally:
        child.kill()
        os.close(outer)


def seen(terminal: int, words: str) -> str:
    """What the terminal shows until it has the words, or has closed."""
    text, deadline = "", time.monotonic() + 10
    while words not in text and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                text += os.read(terminal, 65536).decode(errors="replace")
            except OSError:
                break
    return text
