from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.peers import convert


@pytest.mark.parametrize(
    ("name", "gguf"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"),
        ("model.layers.11.mlp.down_proj.weight", "blk.11.ffn_down.weight"),
        ("model.layers.3.post_attention_layernorm.weight", "blk.3.ffn_norm.weight"),
    ],
)
def test_names(name: str, gguf: str) -> None:
    assert convert.gguf_name(name) == gguf


def test_an_unknown_tensor_is_refused() -> None:
    with pytest.raises(KeyError, match=r"self_attn\.q_norm"):
        convert.gguf_name("model.layers.0.self_attn.q_norm.weight")


def test_rotating_neighbours_after_interleaving_is_rotating_halves() -> None:
    """As the attention scores need it: the same products of queries and keys at any two positions."""
    generator = np.random.default_rng(1)
    heads, dim = 3, 8
    angles = generator.normal(size=dim // 2)
    rows = generator.normal(size=(heads * dim, 5))
    vector = generator.normal(size=5)
    halves = (rows @ vector).reshape(heads, dim)
    pairs = (convert.interleave(rows, heads) @ vector).reshape(heads, dim)
    first, second = halves[:, : dim // 2], halves[:, dim // 2 :]
    even, odd = pairs[:, 0::2], pairs[:, 1::2]
    assert np.array_equal(first, even)
    assert np.array_equal(second, odd)
    rotated = first * np.cos(angles) - second * np.sin(angles)
    assert np.allclose(rotated, even * np.cos(angles) - odd * np.sin(angles))


def test_padding_repeats_the_first_row_and_nothing_else() -> None:
    rows = np.arange(6.0).reshape(3, 2)
    padded = convert.padded(rows, 5)
    assert padded.shape == (5, 2)
    assert np.array_equal(padded[:3], rows)
    assert np.array_equal(padded[3:], rows[[0, 0]])
    assert np.array_equal(convert.padded(rows, 3), rows)


def test_a_destination_appears_complete_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(source: Path, destination: Path, vocabulary: int | None) -> None:
        (destination / "some").write_text("")
        raise OSError("disk full")

    def whole(source: Path, destination: Path, vocabulary: int | None) -> None:
        (destination / "all").write_text(f"{source.name} {vocabulary}")

    monkeypatch.setattr(convert, "FORMATS", {"half": half, "whole": whole})
    with pytest.raises(OSError, match="disk full"):
        convert.main("half", tmp_path / "source", tmp_path / "found")
    assert list(tmp_path.iterdir()) == []
    convert.main("whole", tmp_path / "source", tmp_path / "found", 7)
    assert (tmp_path / "found" / "all").read_text() == "source 7"
    convert.main("half", tmp_path / "source", tmp_path / "found")  # is there: not written again
    assert [path.name for path in tmp_path.iterdir()] == ["found"]
