"""Every function that the release before calls, as it calls it, on a real Redis: `python scenario.py`.

Run with that release's tree in PYTHONPATH; it imports nothing of this one. Names and numbers are fixed; times and
entry ids are Redis' own.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

from shared import door_scripts, scripts
from shared.embedded_redis import EmbeddedRedis
from shared.functions import LIBRARY
from shared.records import CommitRow, Origin
from shared.streams import connect
from shared.topics import VERIFIER_GROUP, Keys

KEYS = Keys("c")
V1, V2, G1, G2 = "v.1", "v.2", "g.1", "g.2"
ENTRY = "<entry>"  # in place of the id of the newest entry of a queue


def packed(*tokens: int) -> bytes:
    return b"".join(token.to_bytes(4, "little") for token in tokens)


def origin(tier: int = 2, attachment: int = 1) -> Origin:
    return Origin(
        body=b"body", tenant="acme", tier=tier, seed=7, gateway=G1, traceparent=None, form=b"form", cost=9,
        weight=2.0, attachment=attachment,
    )  # fmt: skip


def row(request: str, epoch: str, start: int, end: int, **more: Any) -> CommitRow:
    tokens = packed(*range(start, end))
    return CommitRow(
        request=request, epoch=epoch, start=start, start_digest=f"d{start}", end=end, end_digest=f"d{end}",
        tokens=tokens, event=b"event", **more,
    )  # fmt: skip


def steps() -> list[tuple[str, Any]]:
    """Name -> call, or commands that prepare the next ones."""
    admit = {"limit": 8, "share": 4.0}
    k, one, two, three = KEYS, "1", "2", "3"
    calls: list[tuple[str, Any]] = [
        ("group", [("XGROUP", "CREATE", k.requests(2), VERIFIER_GROUP, "0", "MKSTREAM")]),
        ("group", [("XGROUP", "CREATE", k.released, VERIFIER_GROUP, "0", "MKSTREAM")]),
        ("alive", [("SET", k.heartbeat("verifier", V1), "x"), ("SADD", k.members("verifier"), V1)]),
        ("gateway", [("XADD", k.tokens(G1), "*", "a", "b"), ("XADD", k.tokens(G2), "*", "a", "b")]),
        ("room", scripts.room(k, tier=2, tenant="acme", **admit)),
    ]
    for request in (one, two, three):
        digest = {"position": 3, "digest": "d3"}
        calls.append(("enqueue", scripts.enqueue(k, request=request, origin=origin(), **digest, **admit)))
        read = ("XREADGROUP", "GROUP", VERIFIER_GROUP, V1, "COUNT", "1", "STREAMS", k.requests(2), ">")
        calls.append(("read", [read]))
        place = {"entry_id": ENTRY, "stream": k.requests(2)}
        calls.append(("claim", scripts.claim(k, request=request, verifier=V1, epoch=f"e{request}", **place)))
    calls += [
        ("claim again", scripts.claim(k, request=one, verifier=V1, epoch="e1", entry_id="", stream=k.requests(2))),
        ("commit", scripts.commit(k, verifier=V1, rows=[row(one, "e1", 3, 5), row(two, "e2", 3, 4)])),
        ("commit again", scripts.commit(k, verifier=V1, rows=[row(one, "e1", 3, 5), row(two, "e2", 3, 4)])),
        ("fenced", scripts.commit(k, verifier=V1, rows=[row(one, "other", 5, 6)])),
        (
            "finish",
            scripts.commit(k, verifier=V1, rows=[row(two, "e2", 4, 6, finish="length"), row(one, "e1", 5, 6)]),
        ),
        ("release", scripts.release(k, request=one, verifier=V1, epoch="e1")),
        ("read", [("XREADGROUP", "GROUP", VERIFIER_GROUP, V1, "COUNT", "1", "STREAMS", k.released, ">")]),
        ("reclaim", scripts.claim(k, request=one, verifier=V1, epoch="e4", entry_id=ENTRY, stream=k.released)),
        ("attach", scripts.attach(k, request=one, gateway=G2, position=4, detached=b"gone", attachment=2)),
        ("attach late", scripts.attach(k, request=one, gateway=G1, position=3, detached=b"gone", attachment=1)),
        ("attach ended", scripts.attach(k, request=two, gateway=G2, position=3, detached=b"gone", attachment=3)),
        ("attach nothing", scripts.attach(k, request="9", gateway=G2, position=3, detached=b"", attachment=1)),
        ("leave", scripts.leave(k, request=one, gateway=G2, attachment=2, grace_ms=0)),
        ("overdue", scripts.overdue(k)),
        ("cancel", scripts.cancel(k, request=one, event=b"end", only_overdue=True)),
        ("cancel again", scripts.cancel(k, request=one, event=b"end")),
        (
            "poisoned",
            scripts.cancel(k, request=three, event=b"end", status=scripts.Terminal.POISONED, dead_reason="x"),
        ),
    ]
    chain = {"start": 3, "position": 5, "digest": "d5", "tokens": packed(3, 4)}
    calls += [
        ("reseed", scripts.reseed(k, request="4", origin=origin(), **chain, first_token_ms=1.0)),
        ("reseed again", scripts.reseed(k, request="4", origin=origin(), **chain)),
        (
            "reseed queued",
            scripts.reseed(k, request="5", origin=origin(1), start=3, position=3, digest="d3", tokens=b""),
        ),
        ("own", scripts.reseed(k, request="6", origin=origin(), **chain, owner=V1, owner_epoch="a", epoch="e6")),
        ("commit own", scripts.commit(k, verifier=V1, rows=[row("6", "e6", 5, 7, finish="stop")])),
        ("refill", scripts.refill(k, 1)),
        ("forget", scripts.forget_consumer(k, stream=k.released, consumer=V2)),
        ("forget alive", scripts.forget_verifier(k, V1)),
        ("forget", scripts.forget_verifier(k, V2)),
        ("labels", scripts.add_labels(k, pair="d:t", packed={0: b"\0" * 4096}, cap=8192)),
        ("hold", door_scripts.hold(k, tenant="acme", requests=["a", "b"], limit=3)),
        ("hold too many", door_scripts.hold(k, tenant="acme", requests=["c", "d"], limit=3)),
        ("let go", door_scripts.let_go(k, tenant="acme", requests=["a"])),
        ("keys", door_scripts.write_keys(k, new_version="1", changes=[door_scripts.KeyChange("i", b"r")])),
        ("read keys", door_scripts.read_keys(k, known_version="")),
        ("read keys again", door_scripts.read_keys(k, known_version="1")),
    ]
    return calls


def text(value: Any) -> Any:
    """JSON of what is on the wire."""
    if isinstance(value, bytes):
        is_plain = value.isascii() and value.decode().isprintable()
        return value.decode() if is_plain else {"base64": base64.b64encode(value).decode()}
    return [text(one) for one in value] if isinstance(value, list | tuple) else value


def bare(value: Any) -> Any:
    """What is on the wire of JSON."""
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return [bare(one) for one in value] if isinstance(value, list) else value


def play(client: Any, recorded: list[dict[str, Any]], told: Callable[[dict[str, Any], Any], None]) -> None:
    """Runs commands of JSON in order; ``told`` hears of each function with its reply."""
    for step in recorded:
        words = bare(step["command"])
        if ENTRY in words:
            ((newest, _),) = client.xrevrange(words[6], count=1)
            words[words.index(ENTRY)] = newest
        try:
            reply = client.execute_command(*words)
        except Exception as error:
            reply = f"error {error}"
        if words[0] == "FCALL":  # what others answer is not ours
            told(step, reply)


def main() -> None:
    recorded: list[dict[str, Any]] = []
    for name, call in steps():
        commands = call if isinstance(call, list) else [call.command()]
        recorded += [{"name": name, "command": text(command)} for command in commands]
    with EmbeddedRedis() as server:
        client = connect(server.url)
        client.function_load(LIBRARY)
        play(client, recorded, lambda step, reply: step.update(reply=text(reply)))
    json.dump(recorded, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
