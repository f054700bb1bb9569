"""What the release before says on the wire is understood, and what this one says is what that one expects.

Recorded by `python -m tests.upgrade.record`; `make upgrade` runs services of both.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from shared import codec, inspection, messages
from shared.functions import LIBRARY, VERSION, execute, library_version, load_library
from shared.scripts import claim, commit, enqueue
from shared.topics import VERIFIER_GROUP, Keys
from tests.upgrade.mixed import library_of
from tests.upgrade.record import PLACE
from tests.upgrade.releases import ROOT, previous_release
from tests.upgrade.scenario import KEYS, bare, origin, packed, play, row

GOLDEN = sorted((PLACE / "golden").glob("*.hex"))
OLD_LIBRARY = (PLACE / "scripts.lua").read_text(encoding="utf-8")
CALLS: list[dict[str, Any]] = json.loads((PLACE / "calls.json").read_text(encoding="utf-8"))
TIME = re.compile(rb"\d{10,}\.\d+")
ENTRY_ID = re.compile(rb"\d{10,}-\d+")


def test_what_is_recorded_is_of_the_release_that_is_named() -> None:
    assert (PLACE / "release").read_text().strip() == previous_release(), "run python -m tests.upgrade.record"


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_its_messages_are_read_and_the_same_are_written(file: Path) -> None:
    """Written too: it refuses a message with a field that it does not know, or without one that it does."""
    kind = getattr(messages, file.stem, None) or getattr(inspection, file.stem)
    body = bytes.fromhex(file.read_text())
    assert codec.encode(codec.decode(kind, body)) == body


def shape(value: Any) -> Any:
    """A reply with times and entry ids left out."""
    if isinstance(value, list | tuple):
        return [shape(one) for one in value]
    if isinstance(value, str):
        value = value.encode()
    return ENTRY_ID.sub(b"<id>", TIME.sub(b"<time>", value)) if isinstance(value, bytes) else value


def test_every_call_of_it_gets_from_this_library_what_it_got_from_its_own(redis_client: Redis) -> None:
    load_library(redis_client)
    odd = []

    def compare(step: dict[str, Any], reply: Any) -> None:
        if shape(reply) != shape(bare(step["reply"])):
            odd.append((step["name"], shape(bare(step["reply"])), shape(reply)))

    play(redis_client, CALLS, compare)
    assert odd == []


def test_the_recorded_calls_are_all_that_it_makes() -> None:
    registered = set(re.findall(r"'(adaserve_\w+)'", OLD_LIBRARY)) - {"adaserve_version"}
    assert {step["command"][1] for step in CALLS if step["command"][0] == "FCALL"} == registered


def test_its_library_gives_way_and_it_leaves_this_one(redis_client: Redis) -> None:
    """Whoever comes first: the newer library stays, also by that release's own rule."""
    assert library_version(OLD_LIBRARY) <= VERSION
    execute(redis_client, ("FUNCTION", "LOAD", OLD_LIBRARY))
    load_library(redis_client)
    assert execute(redis_client, ("FCALL", "adaserve_version", 0)) == VERSION


def test_what_its_library_misreads_of_this_release_is_not_committed(redis_client: Redis) -> None:
    """Why a verifier waits for the library of its release: rows of a batch could be refused, never wrong."""
    execute(redis_client, ("FUNCTION", "LOAD", OLD_LIBRARY))
    stream = KEYS.requests(2)
    redis_client.xgroup_create(stream, VERIFIER_GROUP, id="0", mkstream=True)
    for request in "123":
        asked = enqueue(KEYS, request=request, origin=origin(), position=3, digest="d3", limit=8)
        assert asked.parse(execute(redis_client, asked.command())).value == "OK"
        ((entry, _),) = redis_client.xrevrange(stream, count=1)
        redis_client.xreadgroup(VERIFIER_GROUP, "v.1", {stream: ">"})
        epoch = {"epoch": f"e{request}", "entry_id": entry.decode(), "stream": stream}
        taken = claim(KEYS, request=request, verifier="v.1", **epoch)
        assert taken.parse(execute(redis_client, taken.command())).status.value == "OK"
    made = commit(KEYS, verifier="v.1", rows=[row(request, f"e{request}", 3, 5) for request in "123"])
    results = made.parse(execute(redis_client, made.command())).results
    for request, verdict in zip("123", results, strict=True):
        told = [fields[b"tokens"] for _, fields in redis_client.xrange(KEYS.journal(request))]
        assert (verdict.value, told) in (("OK", [packed(3, 4)]), ("FENCED", []))


def test_a_version_is_raised_with_every_change_of_the_library() -> None:
    if library_version(OLD_LIBRARY) == VERSION:
        assert OLD_LIBRARY == LIBRARY, "the functions have changed: raise VERSION in shared/scripts.lua"


def test_the_library_of_a_tree_is_what_its_processes_load() -> None:
    assert library_of(ROOT) == LIBRARY


def test_no_key_has_changed_its_name() -> None:
    """Both releases find the same streams and hashes: those of the recorded calls are spelled as here."""
    keys = Keys("c")
    spelled = {keys.requests(2), keys.released, keys.request("1"), keys.journal("1"), keys.owned("v.1"), keys.dead}
    spelled |= {keys.abandoned, keys.members("verifier"), keys.heartbeat("verifier", "v.1"), keys.tokens("g.1")}
    spelled |= {keys.calibration("d:t"), keys.running("acme"), keys.api_keys, keys.api_keys_version}
    words = {word for step in CALLS for word in step["command"] if isinstance(word, str)}
    assert spelled <= words
