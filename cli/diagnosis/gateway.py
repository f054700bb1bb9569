"""Whether the gateway answers, opens to the keys given, and has the policy it is meant to have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cli.diagnosis.snapshot import Finding, Severity, Snapshot

NOT_FOUND = 404


def gateway(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether it answers, and would serve."""
    if snapshot.gateway_error:
        yield Finding(
            Severity.PROBLEM,
            "gateway",
            f"no gateway at {snapshot.url}: {snapshot.gateway_error}",
            "no client gets an answer here",
            "start it, or name the right --url",
        )
        return
    if snapshot.statuses.get("/v1/models") == NOT_FOUND:
        yield Finding(
            Severity.PROBLEM,
            "gateway",
            f"what answers at {snapshot.url} is no gateway: it has no /v1/models",
            "a drafter, a selector or a verifier has probes and metrics there, and nobody else is looked at",
            "name the URL of a gateway with --url; its port is 8000 unless it was told another",
        )
        return
    live, ready = snapshot.statuses.get("/live"), snapshot.statuses.get("/ready")
    if live != 200:
        yield Finding(
            Severity.PROBLEM,
            "gateway",
            f"/live answers {live}",
            "the process cannot do its work any more",
            "restart it; its log says which part has ended",
        )
    elif ready != 200:
        yield Finding(
            Severity.PROBLEM,
            "gateway",
            f"/ready answers {ready}",
            "requests are refused: Redis takes no writes, no verifier lives, or the gateway drains",
            "see the findings about Redis and verifiers",
        )
    else:
        yield Finding(Severity.FINE, "gateway", f"{snapshot.url} answers and is ready")
    told = snapshot.answers.get("/admin/live")
    served = told.get("cell") if isinstance(told, Mapping) else None
    if served is not None and served != snapshot.cell:
        yield Finding(
            Severity.PROBLEM,
            "cell",
            f"the gateway serves the cell {served}, not {snapshot.cell}",
            "what Redis tells here is not about what this gateway serves",
            f"--cell {served} (ADASERVE_CELL), or the --url of a gateway of {snapshot.cell}",
        )


def keys(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the keys that were given are good."""
    if snapshot.gateway_error or snapshot.statuses.get("/v1/models") == NOT_FOUND:
        return
    refused = {
        401: "asks for a key, or for another one",
        403: "says that this key has not the scope, or the tenant",
    }
    if _lacks_tenant(snapshot):
        yield _tenant(snapshot)
    for path, name in (("/v1/models", "--api-key (ADASERVE_API_KEY)"), ("/admin/mode", "--admin-key")):
        status = snapshot.statuses.get(path)
        if path == "/v1/models" and _lacks_tenant(snapshot):
            continue
        if status in refused:
            yield Finding(
                Severity.PROBLEM if path == "/v1/models" else Severity.UNKNOWN,
                "keys",
                f"{path} {refused[status]}",
                "without a good one nothing more can be looked at there",
                f"give {name}; `adaserve keys list` shows which are good",
            )
        elif status == 200:
            yield Finding(Severity.FINE, "keys", f"{path} opens")


def _lacks_tenant(snapshot: Snapshot) -> bool:
    """Whether no key is wrong, but the name of who asks."""
    return not snapshot.has_key and snapshot.codes.get("/v1/models") == "unknown_tenant"


def _tenant(snapshot: Snapshot) -> Finding:
    why = "without a tenant of the policy /v1 opens to nobody; all else was looked at"
    if snapshot.tenant is None:
        what = "the policy has no tenant called default, so requests must name theirs"
        return Finding(Severity.UNKNOWN, "tenant", what, why, "name a tenant with --tenant")
    what = f"the policy has no tenant {snapshot.tenant}"
    return Finding(Severity.PROBLEM, "tenant", what, why, "name one of its tenants with --tenant")


def policy(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the policy in force is the one in its file."""
    told = snapshot.answers.get("/admin/slo")
    if told is None:
        return
    error = told["policy"]["error"]
    if error is not None:
        yield Finding(
            Severity.PROBLEM,
            "policy",
            f"the policy file was refused: {error['message']}",
            "the one before it is still in force",
            "adaserve policy check FILE, and mend it",
        )
    else:
        yield Finding(Severity.FINE, "policy", f"{told['policy']['file'] or 'none; every request is as it asks'}")
