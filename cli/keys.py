"""`adaserve keys` and `adaserve audit`: API keys and what operators did, through a gateway's /admin."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from cli.exits import one_line_errors
from cli.options import LOCAL, AdminKey, Json, Url
from shared import api_keys, timestamps
from shared.api_keys import Scope

keys_app = typer.Typer(
    help="Create, list, revoke and rotate API keys.", no_args_is_help=True, add_completion=False
)

BAD_REQUEST = 400
KeyId = Annotated[str, typer.Argument(help="The part of the key between the dashes.")]


@keys_app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose requests they are.")] = "default",
    scope: Annotated[list[Scope] | None, typer.Option(help="May be repeated.", show_default="inference")] = None,
    expires: Annotated[str | None, typer.Option(help="ISO 8601 time, such as 2027-12-31.")] = None,
    expires_in: Annotated[str | None, typer.Option(help="Duration, such as 90d.")] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    for_file: Annotated[
        bool, typer.Option(help="Ask no gateway: print an entry for ADASERVE_KEYS_FILE, and the key on stderr.")
    ] = False,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: Json = False,
) -> None:
    """Make a key; it is shown this once."""
    scopes = scope or [Scope.INFERENCE]
    with one_line_errors():
        if for_file:
            _for_file(tenant, scopes, expires, expires_in, note)
            return
        body = {"tenant": tenant, "scopes": scopes, "expires": expires, "expires_in": expires_in, "note": note}
        made = _make(url, admin_key, body)
    _tell_secret(made, as_json=as_json)


@keys_app.command("list")
def list_keys(url: Url = LOCAL, admin_key: AdminKey = None, as_json: Json = False) -> None:
    """Every key that the gateway knows, also those that are good no more."""
    with one_line_errors():
        found = _ask(url, admin_key, "GET", "/admin/keys")
    typer.echo(json.dumps(found) if as_json else "\n".join(key_lines(found["keys"])))


@keys_app.command()
def revoke(key_id: KeyId, url: Url = LOCAL, admin_key: AdminKey = None, as_json: Json = False) -> None:
    """End a key for ever, on every gateway within two seconds."""
    with one_line_errors():
        done = _ask(url, admin_key, "DELETE", f"/admin/keys/{_checked(key_id)}")
    typer.echo(json.dumps(done) if as_json else f"{key_id} is revoked since {done['revoked']}")


@keys_app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option(help="For how long the secret before goes on.")] = "24h",
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: Json = False,
) -> None:
    """Give a key another secret; it is shown this once."""
    with one_line_errors():
        made = _ask(url, admin_key, "POST", f"/admin/keys/{_checked(key_id)}/rotate", {"grace": grace})
    _tell_secret(made, as_json=as_json)


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many of the last events.")] = 100,
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: Json = False,
) -> None:
    """Who changed which mode, key or policy, and when."""
    with one_line_errors():
        found = _ask(url, admin_key, "GET", "/admin/audit", limit=limit)
    lines = [json.dumps(event) for event in found["events"]] if as_json else audit_lines(found["events"])
    for line in lines:
        typer.echo(line)


def _make(url: str, admin_key: str | None, body: dict[str, Any]) -> dict[str, Any]:
    from cli.admin import AdminFailed  # its HTTP client costs every command a tenth of a second

    try:
        return _ask(url, admin_key, "POST", "/admin/keys", body)
    except AdminFailed as error:
        if error.status == BAD_REQUEST and str(error).startswith("tenant:"):
            raise AdminFailed(f"{error}: name one of them with --tenant", error.status) from None
        raise


def _ask(*what: Any, **params: Any) -> dict[str, Any]:
    from cli.admin import ask  # its HTTP client costs every command a tenth of a second

    return ask(*what, **params)


def key_lines(keys: list[dict[str, Any]]) -> list[str]:
    """For people."""
    head = f"{'id':<16} {'tenant':<16} {'scopes':<16} {'status':<8} {'created':<24} {'expires':<20} note"
    return [head] + [
        f"{key['id']:<16} {key['tenant']:<16} {','.join(key['scopes']):<16} {key['status']:<8} "
        f"{key['created']:<24} {key['expires'] or 'never':<20} {key['note']}"
        for key in keys
    ]


def audit_lines(events: list[dict[str, Any]]) -> list[str]:
    """For people."""
    return [
        f"{event['at']:<24} {event['what']:<14} by {event['who']:<16} "
        f"{json.dumps(event.get('before'))} -> {json.dumps(event.get('after'))}"
        for event in events
    ]


def _tell_secret(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made))
        return
    typer.echo(made["key"])
    until = f"; expires {made['expires']}" if made["expires"] else ""
    earlier = (
        f"; earlier secrets until {max(made['earlier_secrets_until'])}" if made["earlier_secrets_until"] else ""
    )
    typer.echo(
        f"id {made['id']}, tenant {made['tenant']}, scopes {', '.join(made['scopes'])}{until}{earlier}. "
        "The key is shown this once: only a digest is stored.",
        err=True,
    )


def _for_file(tenant: str, scopes: list[Scope], expires: str | None, expires_in: str | None, note: str) -> None:
    now_ms = round(time.time() * 1_000)
    expires_ms = None if expires is None else timestamps.at_ms(expires)
    if expires_in is not None:
        expires_ms = now_ms + timestamps.duration_ms(expires_in)
    key_id, secret = api_keys.new_id(), api_keys.new_secret()
    entry = {
        "tenant": tenant,
        "sha256": api_keys.digest_of(secret).hex(),
        "scopes": [str(scope) for scope in scopes],
        "created": timestamps.iso(now_ms),
        **({} if expires_ms is None else {"expires": timestamps.iso(expires_ms)}),
        **({"note": note} if note else {}),
    }
    typer.echo(f"  {json.dumps(key_id)}: {json.dumps(entry)}")  # JSON is YAML, and quotes what has to be quoted
    typer.echo(api_keys.spelled(key_id, secret), err=True)


def _checked(key_id: str) -> str:
    """It becomes part of a path. Raises ConfigurationError."""
    api_keys.check_id(key_id)
    return key_id
