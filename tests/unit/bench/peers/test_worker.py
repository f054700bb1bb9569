"""Each peer decodes the embedded pair, plainly, with speculation and in a batch: the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from bench.peers.contestants import Peer, PeerError, Process
from bench.peers.environment import Environment, Pair
from bench.peers.worker import transformers_decoder
from models.paths import DRAFT, TARGET
from shared.inference.loading import load_model
from tests.effort import heavy

PROMPTS = [[51, 600, 7, 1200, 33, 9, 80], [300, 12]]
TOKENS = 12
INSTALLED = Environment(Path(__file__).parents[4] / ".tools")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    """By the definition of greedy decoding, without a cache."""
    model = load_model(str(TARGET), device="cpu", dtype="float32")
    found = []
    for prompt in PROMPTS:
        tokens: list[int] = []
        for _ in range(TOKENS):
            with torch.inference_mode():
                tokens.append(int(model(torch.tensor([[*prompt, *tokens]])).logits[0, -1].argmax()))
        found.append(tokens)
    return found


def test_transformers(expected: list[list[int]]) -> None:
    decode = transformers_decoder(str(TARGET), str(DRAFT), 1)
    assert decode(PROMPTS, TOKENS, None) == expected
    for depth in ("default", 3, "default"):
        for prompt, tokens in zip(PROMPTS, expected, strict=True):
            assert decode([prompt], TOKENS, depth) == [tokens]


@heavy
@pytest.mark.parametrize("start", [INSTALLED.openvino, INSTALLED.llama])
def test_a_peer_of_its_own_environment(start: Callable[[Pair], Process], expected: list[list[int]]) -> None:
    try:
        process = start(Pair(TARGET, DRAFT, threads=1))
    except PeerError as error:
        pytest.skip(str(error))
    try:
        plain = Peer("plain", process)
        if start == INSTALLED.openvino:  # node-llama-cpp exchanges tokens between the streams of a batch
            assert _answers(plain, PROMPTS) == expected
        assert [_answers(plain, [prompt])[0] for prompt in PROMPTS] == expected
        for depth in (3, "default"):
            peer = Peer("speculating", process, True, depth)
            for prompt, tokens in zip(PROMPTS, expected, strict=True):
                assert _answers(peer, [prompt]) == [tokens]
    finally:
        process.stop()


def _answers(peer: Peer, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    return peer.decode(prompts, TOKENS).tokens
