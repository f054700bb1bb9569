"""What `adaserve doctor` sees of Redis: members and their clocks, queues and groups, and who may do what."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redis import Redis as Client
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from cli.bus import without_password
from cli.diagnosis.snapshot import Redis
from cli.rights_examination import are_of_another_cell, refusals, rights_of
from shared.errors import BusUnavailable, ConfigurationError
from shared.failures import is_reply
from shared.functions import execute, is_missing_function
from shared.heartbeat import clock_skew_ms, described
from shared.replies import text
from shared.streams import connect
from shared.topics import NUM_TIERS, SELECTOR_GROUP, VERIFIER_GROUP, Keys, Kind

BETWEEN_S = 1.0  # two looks at the queues and their groups
KINDS: tuple[Kind, ...] = ("gateway", "verifier", "drafter", "selector")
T = TypeVar("T")


class Look:
    """Asks one thing after the other; what its user may not ask is left out and remembered by name."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.unasked: list[str] = []

    def at(self, what: str, ask: Callable[..., T], *arguments: Any) -> T | None:
        """What ``ask`` finds, None where its user may not."""
        try:
            return ask(self.client, *arguments)
        except NoPermissionError:
            self.unasked.append(what)
        except BusUnavailable as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            self.unasked.append(what)
        return None


def examined_redis(url: str, keys: Keys) -> tuple[Redis | None, str | None, str]:
    """What was seen; else why it could not be asked, and what to do about that. Takes about a second.

    Raises ConfigurationError for what is no URL.
    """
    try:
        client = connect(url)
    except ValueError as error:  # redis-py's, before it has asked anybody; what is no URL may hold a password
        raise ConfigurationError(f"--redis or REDIS_URL is no URL of a Redis: {_one_line(error)}") from None
    place = without_password(url).partition("?")[0]
    try:
        return _seen(Look(client), keys), None, ""
    except AuthenticationError as error:
        remedy = "ADASERVE_REDIS_USERNAME and _PASSWORD_FILE: name a user that Redis has, and its password"
        return None, f"Redis at {place} does not let this user in: {_one_line(error)}", remedy
    except (BusUnavailable, RedisError, OSError, ValueError) as error:
        return None, f"Redis at {place} does not answer: {_one_line(error)}", _remedy(error, url)
    finally:
        client.close()


def _remedy(error: BaseException, url: str) -> str:
    told = str(error).lower()
    if "certificate" in told:
        return "ADASERVE_REDIS_CA_FILE: name the CA of Redis' certificate, in which the URL's host must be"
    if "closed by server" in told and not url.startswith("rediss"):
        return "if it speaks TLS only, the URL begins with rediss://; else see its log"
    return "start it, or name the right REDIS_URL"


def _seen(look: Look, keys: Keys) -> Redis:
    look.at("PING", lambda client: client.ping())
    before, missing = look.at("queues", _waiting, keys) or {}, _without_group(look, keys)
    time.sleep(BETWEEN_S)
    now = look.at("queues", _waiting, keys) or {}
    info = look.at("INFO", _info) or {}
    seen = {kind: look.at(f"{kind}s", _members, keys, kind) or {} for kind in KINDS}
    return Redis(
        version=str(info.get("redis_version", "")),
        info=info,
        members={kind: {name: about for name, (about, _) in found.items()} for kind, found in seen.items()},
        skews_s={
            f"{kind} {name}": skew_ms / 1e3
            for kind, found in seen.items()
            for name, (_, skew_ms) in found.items()
            if skew_ms is not None
        },
        dead_letters=look.at("dead letters", lambda client: int(client.xlen(keys.dead))) or 0,
        waiting={tier: (now[tier], now[tier] - before.get(tier, now[tier])) for tier in now},
        without_group={stream: there for stream, there in _without_group(look, keys).items() if stream in missing},
        library=look.at("the function library", library_of),
        rights=(rights := look.at("ACL DRYRUN", rights_of, keys)),
        has_other_cells_users=rights is not None and are_of_another_cell(rights, keys),
        refusals=look.at("ACL LOG", refusals) or (),
        clock_s=look.at("TIME", lambda client: _now_ms(client) / 1e3),
        unasked=tuple(dict.fromkeys(look.unasked)),
    )


def _info(client: Client) -> Mapping[str, Any]:
    found: Mapping[str, Any] = client.info()
    return found


def library_of(client: Client) -> int | None:
    """The version of the function library, 0 where there is none, None where that is not known."""
    try:
        return int(execute(client, ("FCALL", "adaserve_version", 0)))
    except ResponseError as error:
        if not is_missing_function(error):
            raise
        return 0


def _waiting(client: Client, keys: Keys) -> dict[int, int]:
    return {
        tier: int(client.xlen(keys.requests(tier))) + int(client.zcard(keys.waiting(tier)))
        for tier in range(NUM_TIERS)
    }


def groups_of(keys: Keys) -> dict[str, str]:
    """Stream -> the group that it must have."""
    work = (keys.released, *(keys.requests(tier) for tier in range(NUM_TIERS)))
    return {**dict.fromkeys(work, VERIFIER_GROUP), keys.select: SELECTOR_GROUP}


def _without_group(look: Look, keys: Keys) -> dict[str, bool]:
    """Streams without their group -> whether they are there at all."""
    told = {stream: look.at("groups", _has_group, stream, group) for stream, group in groups_of(keys).items()}
    return {stream: found[0] for stream, found in told.items() if found is not None and not found[1]}


def _has_group(client: Client, stream: str, group: str) -> tuple[bool, bool]:
    """Whether the stream is there, and its group."""
    try:
        found = client.xinfo_groups(stream)
    except ResponseError as error:
        if not is_reply(error, "no such key"):
            raise
        return False, False
    return True, any(text(one["name"]) == group for one in found)


def _members(client: Client, keys: Keys, kind: Kind) -> dict[str, tuple[dict[str, Any] | None, float | None]]:
    """What each says, and how far its clock is ahead; also those without a heartbeat, which others forget."""
    names = sorted(text(name) for name in client.smembers(keys.members(kind)))
    beats = client.mget([keys.heartbeat(kind, name) for name in names]) if names else []
    now_ms = _now_ms(client)
    told = {name: None if beat is None else described(beat) or {} for name, beat in zip(names, beats, strict=True)}
    return {name: (about, None if about is None else clock_skew_ms(about, now_ms)) for name, about in told.items()}


def _now_ms(client: Client) -> float:
    seconds, micros = client.time()
    return float(seconds) * 1e3 + micros / 1e3


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
