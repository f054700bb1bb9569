"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.settings import API_KEY

ApiKey = Annotated[str | None, typer.Option(envvar=API_KEY, help="Where the gateway asks for one.")]
AsTenant = Annotated[
    str | None,
    typer.Option(help="Who asks, where a policy has no tenant called default.", show_default="the key's"),
]
