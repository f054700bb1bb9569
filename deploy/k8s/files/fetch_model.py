"""Fetches models from the Hugging Face hub, each into its directory, which appears when it is whole.

    python fetch_model.py org/name[@revision] DIRECTORY [org/name[@revision] DIRECTORY ...]

Runs in the Job of the chart, with nothing but the hub's client. A directory that is there is left as it is.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from huggingface_hub import snapshot_download

# As services would fetch them (shared.inference.loading): no code, no pickled weights.
FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
NOT_FETCHED = ["*/*", "consolidated*"]


def fetch(source: str, directory: Path) -> None:
    """Fetch one model. What an earlier try has fetched of it is not fetched again."""
    if directory.is_dir():
        sys.stdout.write(f"{directory} is there already\n")
        return
    name, _, revision = source.partition("@")
    partial = directory.with_name(f".{directory.name}.partial")
    snapshot_download(
        name, revision=revision or None, local_dir=partial, allow_patterns=FETCHED, ignore_patterns=NOT_FETCHED
    )
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the client's notes on the download
    partial.rename(directory)
    sys.stdout.write(f"{source} is in {directory}\n")


def main() -> None:
    words = sys.argv[1:]
    if not words or len(words) % 2:
        sys.exit("usage: fetch_model.py MODEL DIRECTORY [MODEL DIRECTORY ...]")
    for source, directory in zip(words[::2], words[1::2], strict=True):
        fetch(source, Path(directory))


if __name__ == "__main__":
    main()
