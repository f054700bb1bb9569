"""The kinds of keys of a cell, as patterns of an ACL: every name that `shared.topics.Keys` can spell is of one."""

from __future__ import annotations

from collections.abc import Mapping

from shared.topics import Keys, Kind

KINDS: tuple[Kind, ...] = ("gateway", "drafter", "selector", "verifier")
ANY = "*"
ONE = "?"  # tiers have one digit; `requests:*` would take in what was released


def patterns(cell: str) -> Mapping[str, str]:
    """Glob of each class, by its name. Raises ConfigurationError for a cell that is none."""
    keys = Keys(cell)
    tiers = {
        name: of(0).removesuffix("0") + ONE
        for name, of in {
            "requests": keys.requests,
            "waiting": keys.waiting,
            "tags": keys.tags,
            "backlog": keys.backlog,
        }.items()
    }
    one = {
        "released": keys.released,
        "dead": keys.dead,
        "select": keys.select,
        "control": keys.control,
        "abandoned": keys.abandoned,
        "modes": keys.modes,
        "api_keys": keys.api_keys,
        "api_keys_version": keys.api_keys_version,
        "audit": keys.audit,
        "rollout": keys.rollout,
        "incarnation": keys.incarnation,
        "inspected": keys.inspected,
        "watched": keys.watched,
    }
    many = {
        "draft": keys.draft(ANY),
        "verify": keys.verify(ANY),
        "tokens": keys.tokens(ANY),
        "request": keys.request(ANY),
        "journal": keys.journal(ANY),
        "owned": keys.owned(ANY),
        "profile": keys.profile(ANY, ANY),
        "calibration": keys.calibration(ANY),
        "running": keys.running(ANY),
        "spent": f"{keys.spent}:{ANY}",
        "arms": keys.arms(0).removesuffix("0") + ANY,
        "usage": keys.usage(ANY),
        "inspect": keys.inspect(ANY),
        "live": keys.live(ANY),
    }
    members = {f"{kind}s": keys.members(kind) for kind in KINDS}
    heartbeats = {f"heartbeat_{kind}": keys.heartbeat(kind, ANY) for kind in KINDS}
    return tiers | one | many | members | heartbeats
