"""Exit codes of the command line: 0 done, 1 failed, 2 a bad setting or file, 3 no bus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from shared.errors import AdaServeError, BusUnavailable, ConfigurationError
from shared.settings import EXIT_BUS_UNAVAILABLE, EXIT_CONFIGURATION

EXIT_FAILED = 1
PYDANTICS = "Value error, "  # Typer checks choices with pydantic, whose words begin so


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A deliberate error becomes one line on stderr and its exit code."""
    try:
        yield
    except AdaServeError as error:
        typer.echo(f"adaserve: {error}", err=True)
        codes = {ConfigurationError: EXIT_CONFIGURATION, BusUnavailable: EXIT_BUS_UNAVAILABLE}
        code = next((code for kind, code in codes.items() if isinstance(error, kind)), EXIT_FAILED)
        raise typer.Exit(code) from None


class PlainErrors(TyperGroup):
    """All commands; a bad option is told without the words of the library that found it."""

    def invoke(self, ctx: Any) -> Any:
        """Raises what the command raises."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(PYDANTICS)
            raise
