"""Whole rings of table models on a real Redis, one cell each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from shared.telemetry import Telemetry, configure
from shared.tokenizer import Tokenizer, load_tokenizer
from shared.topics import Keys
from tests.ring import TableRing
from tests.tiny_tokenizers import byte_level, save


@pytest.fixture(scope="module")
def telemetry() -> Iterator[Telemetry]:
    with configure("verifier", "test") as configured:
        yield configured


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    return load_tokenizer(str(save(byte_level(), directory)))


@pytest.fixture
def build(redis_url: str, redis_client: Redis, telemetry: Telemetry, tokenizer: Tokenizer) -> Any:
    cells = iter(range(10_000))

    def make(**options: Any) -> TableRing:
        own = options.pop("telemetry", telemetry)
        return TableRing(redis_url, redis_client, Keys(f"ring{next(cells)}"), own, tokenizer, **options)

    return make
