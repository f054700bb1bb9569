"""Keys for files, made as operators make them."""

from __future__ import annotations

from typer.testing import CliRunner

from cli.main import app


def made_for_file(*words: str) -> tuple[str, str]:
    """An entry for the file, and its key; ``words`` are options of `adaserve keys create`."""
    done = CliRunner().invoke(app, ["keys", "create", "--for-file", *words])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr.strip()
