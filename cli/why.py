"""`adaserve why`: in plain words, why a request met or missed its targets."""

from __future__ import annotations

import json
import re
from typing import Annotated

import typer

from cli.exits import one_line_errors
from cli.options import LOCAL, AdminKey, Json, Url
from shared.errors import ConfigurationError

_ID = re.compile(r"(?:chatcmpl-|cmpl-)?[0-9a-f]{32}")


def why(
    request_id: Annotated[str, typer.Argument(help="The id of a completion, or of its stream.")],
    url: Url = LOCAL,
    admin_key: AdminKey = None,
    as_json: Json = False,
) -> None:
    """Why a request met or missed its targets; it is known until ten minutes after its end."""
    from cli.admin import ask  # its HTTP client costs every command a tenth of a second

    with one_line_errors():
        if not _ID.fullmatch(request_id):
            raise ConfigurationError(
                f"REQUEST_ID {request_id[:64]!r} must be 32 hex digits, as an answer's `id` has them"
            )
        found = ask(url, admin_key, "GET", f"/admin/requests/{request_id}")
    typer.echo(json.dumps(found) if as_json else "\n".join(found["explanation"]))
