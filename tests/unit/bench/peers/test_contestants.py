from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.peers.__main__ import started
from bench.peers.contestants import Peer, PeerError, Process
from bench.peers.environment import Environment, Pair
from bench.peers.worker import answer
from models.paths import DRAFT

ECHO = """
import json, sys
print("a library's greeting")
print(json.dumps({"ready": {"echo": "1.0"}}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["depth"] == 13:
        print(json.dumps({"error": "no such depth"}), flush=True)
    else:
        print(json.dumps({"tokens": asked["prompts"], "seconds": asked["tokens"] / 4}), flush=True)
"""


def test_a_worker_is_asked_line_by_line() -> None:
    process = Process([sys.executable, "-c", ECHO])
    try:
        assert process.versions == {"echo": "1.0"}
        peer = Peer("echo", process)
        found = peer.decode([[1, 2], [3]], 2)
        assert (found.tokens, found.seconds, found.speed) == ([[1, 2], [3]], 0.5, 6.0)
        peer.depth = 13
        with pytest.raises(PeerError, match="no such depth"):
            peer.decode([[1]], 1)
        peer.depth = None
        assert peer.decode([[4]], 4).tokens == [[4]]
    finally:
        process.stop()


def test_a_worker_that_ends_says_why() -> None:
    with pytest.raises(
        PeerError, match=r"ended with 1: ModuleNotFoundError: No module named 'nothing_of_this_name'"
    ):
        Process([sys.executable, "-c", "import nothing_of_this_name"])


def test_peers_that_are_not_installed_are_named(tmp_path: Path) -> None:
    pair = Pair(DRAFT, DRAFT, threads=1)
    with started(pair, Environment(tmp_path), ["OpenVINO", "llama.cpp"]) as (processes, skipped):
        assert processes == {}
    assert skipped["OpenVINO"] == f"{tmp_path}/peers/bin/python is missing: `make peers` installs it"
    assert "node-llama-cpp" in skipped["llama.cpp"]


def test_what_a_peer_raises_is_an_answer() -> None:
    def fails(*_: object) -> list[list[int]]:
        raise ValueError("context is full")

    asked = {"prompts": [[1]], "tokens": 2, "depth": None}
    assert answer(fails, asked) == {"error": "ValueError: context is full"}
    told = answer(lambda prompts, count, depth: [[*prompts[0], count]], asked)
    assert told["tokens"] == [[1, 2]]
    assert told["seconds"] >= 0
