"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.settings import API_KEY

LOCAL = "http://127.0.0.1:8000"
SCHEMES = ("http://", "https://")


def with_scheme(url: str | None) -> str | None:
    """Raises BadParameter for a URL that does not say how to be reached."""
    if url is not None and not url.startswith(SCHEMES):
        meant = f"http://{url.rpartition('//')[2]}"
        raise typer.BadParameter(f"{url!r} begins with neither http:// nor https://; did you mean {meant} ?")
    return url


Url = Annotated[str, typer.Option(callback=with_scheme, help="Where the gateway is.")]
AdminKey = Annotated[
    str | None,
    typer.Option(envvar="ADASERVE_ADMIN_KEY", help="An API key with the scope admin, or the gateway's own."),
]
Json = Annotated[bool, typer.Option("--json", help="As the gateway answers.")]
ApiKey = Annotated[str | None, typer.Option(envvar=API_KEY, help="Where the gateway asks for one.")]
AsTenant = Annotated[
    str | None,
    typer.Option(help="Who asks, where a policy has no tenant called default.", show_default="the key's"),
]
