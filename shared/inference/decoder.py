"""The forward pass of the supported families, Llama's shape, over packed rows and a KV pool.

The weights are a stock transformers model's; the code between them is our own, because stock modules cost a small
model more than its arithmetic does, and because what stands between the products can then be had in the same calls
(docs/adr/0015-own-forward.md). Tested equal to stock for every family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as functional
from transformers import PreTrainedModel

from shared.inference.kv import KVCache, head_dim_of
from shared.inference.linear import Linear, linear
from shared.inference.norm import Norm, norm
from shared.inference.rotary import Rotary, interleaved, rotate

Reduce = Callable[[torch.Tensor], torch.Tensor]
Weights = tuple[torch.Tensor, torch.Tensor | None]  # of one product: weight [out, in], bias [out]


class Pass(Protocol):
    """The rows of one forward pass over T tokens, as the layers see them."""

    last_position: int
    num_logits: int
    wanted: torch.Tensor | None  # [num_logits] of the T tokens; None: all, in order

    def store(self, pool: torch.Tensor, new: torch.Tensor) -> None:
        """Write new keys or values [T, kv_heads, head_dim] to where they belong."""

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None, scaling: float
    ) -> torch.Tensor:
        """query [T or more, heads, head_dim] over a layer's keys and values -> [T, heads * head_dim]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's weights."""

    attention_norm: Norm
    projection: Linear  # queries, keys and values in one: [(heads + 2 * kv_heads) * head_dim]
    head_norm: Norm | None  # Qwen3's, of queries and keys: [heads + kv_heads, head_dim]
    output: Linear
    mlp_norm: Norm
    gate: Linear
    up: Linear
    down: Linear
    num_kv_heads: int
    window: int | None  # a query sees only keys fewer than so many positions back


class Decoder:
    """Embedding, layers and head. Takes the model's weights over: the model is of no use afterwards.

    ``vocab_size`` cuts the logits to the leading ids. ``reduce`` sums [T, hidden] over the ranks that each hold a
    part of every layer's heads and MLP; None where this process has all of them. ``gather`` puts the logits
    [L, ids] of the ranks' parts of the head together, on the rank that needs them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        vocab_size: int,
        reduce: Reduce | None = None,
        gather: Reduce | None = None,
    ) -> None:
        config = model.config
        stock: Any = model.get_decoder()
        self._head_dim = head_dim_of(config)
        self._vocab_size = vocab_size
        self._reduce = reduce
        self._gather = gather
        rotary = stock.rotary_emb
        limit = config.max_position_embeddings
        self._rotary = Rotary(rotary.inv_freq, rotary.attention_scaling, model.dtype, limit)
        self._embedding = _kept(stock.embed_tokens.weight)
        head = model.get_output_embeddings().weight.detach()[:vocab_size]
        self._head = linear(head)
        self._norm = norm(_kept(stock.norm.weight), config.rms_norm_eps)
        self._layers = [_layer(layer, self._head_dim, config.rms_norm_eps) for layer in stock.layers]
        self._scaling: float = stock.layers[0].self_attn.scaling
        self._rows_for = self._layers[0].gate.rows_for

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self._head_dim

    @property
    def tables(self) -> torch.Tensor:
        """Rotations by position, as far as they were needed; replaced when a pass needs more."""
        return self._rotary.table

    @property
    def window(self) -> int | None:
        """The smallest of the layers' windows; None where every layer sees everything."""
        return min((layer.window for layer in self._layers if layer.window is not None), default=None)

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, rows: Pass, cache: KVCache) -> torch.Tensor:
        """Writes the KV of the T fed tokens and returns the wanted logits [L, vocab_size], in the rows' order.

        ids and positions are integers [T] on the weights' device.
        """
        num_tokens = len(ids)
        ids, positions = self._enough(ids), self._enough(positions)
        hidden = functional.embedding(ids, self._embedding)
        rotations = self._rotary.at(positions, rows.last_position)
        for index, layer in enumerate(self._layers):
            keys, values = cache.layer(index)
            query, key, value = self._project(layer, layer.attention_norm(hidden), rotations)
            rows.store(keys, key[:num_tokens])
            rows.store(values, value[:num_tokens])
            is_last = index == len(self._layers) - 1
            if is_last and rows.num_logits == 0:
                return hidden.new_empty((0, self._vocab_size))
            mixed = self._enough(rows.attend(query, keys, values, layer.window, self._scaling))
            if is_last and rows.wanted is not None:
                wanted = self._enough(rows.wanted)
                hidden, mixed = hidden[wanted], mixed[wanted]
            hidden = self._added(layer.output, mixed, hidden)
            normed = layer.mlp_norm(hidden)
            hidden = self._added(layer.down, layer.up.times(normed, layer.gate.silu(normed)), hidden)
        logits = self._head(self._norm(hidden))[: rows.num_logits]
        return logits if self._gather is None else self._gather(logits)[:, : self._vocab_size]

    def _enough(self, rows: torch.Tensor) -> torch.Tensor:
        """[n, ...] -> [rows_for(n), ...]: zeros that nothing reads (`Linear.rows_for`)."""
        missing = self._rows_for(len(rows)) - len(rows)
        if missing == 0:
            return rows
        return torch.cat((rows, rows.new_zeros((missing, *rows.shape[1:]))))

    def _project(
        self, layer: Layer, normed: torch.Tensor, rotations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotated queries [T, heads, head_dim], rotated keys and plain values [T, kv_heads, head_dim]."""
        heads = layer.projection(normed).view(len(normed), -1, self._head_dim)
        num_values = layer.num_kv_heads
        turned = heads.narrow(1, 0, heads.shape[1] - num_values)
        if layer.head_norm is not None:
            turned = layer.head_norm(turned)
        turned = rotate(turned, rotations)
        num_queries = turned.shape[1] - num_values
        return (
            turned.narrow(1, 0, num_queries),
            turned.narrow(1, num_queries, num_values),
            heads.narrow(1, heads.shape[1] - num_values, num_values),
        )

    def _added(self, product: Linear, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        if self._reduce is None:
            return product.plus(rows, residual)
        return residual + self._reduce(product(rows))


def _layer(stock: Any, head_dim: int, epsilon: float) -> Layer:
    attention, mlp = stock.self_attn, stock.mlp
    queries, keys, values = (_taken(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    num_kv_heads = len(keys[0]) // head_dim
    return Layer(
        attention_norm=norm(_kept(stock.input_layernorm.weight), epsilon),
        projection=_projection(queries, keys, values, head_dim),
        head_norm=_head_norm(attention, len(queries[0]) // head_dim, num_kv_heads, head_dim, epsilon),
        output=linear(*_taken(attention.o_proj)),
        mlp_norm=norm(_kept(stock.post_attention_layernorm.weight), epsilon),
        gate=linear(*_taken(mlp.gate_proj)),
        up=linear(*_taken(mlp.up_proj)),
        down=linear(*_taken(mlp.down_proj)),
        num_kv_heads=num_kv_heads,
        window=_window(attention),
    )


def _kept(weight: torch.Tensor) -> torch.Tensor:
    """On a CPU a copy: what was loaded is a view of the mapped file, and any view keeps all of it in memory."""
    return weight.detach().clone() if weight.device.type == "cpu" else weight.detach()


def _taken(module: torch.nn.Linear) -> Weights:
    """The module's weight and bias, which it then no longer holds: no weight is in memory twice for long."""
    weight, bias = _kept(module.weight), None if module.bias is None else _kept(module.bias)
    module.weight = torch.nn.Parameter(weight.new_empty(0), requires_grad=False)
    return weight, bias


def _projection(queries: Weights, keys: Weights, values: Weights, head_dim: int) -> Linear:
    weight = torch.cat([interleaved(queries[0], head_dim), interleaved(keys[0], head_dim), values[0]])
    if queries[1] is None or keys[1] is None or values[1] is None:
        return linear(weight)
    bias = torch.cat([interleaved(queries[1], head_dim), interleaved(keys[1], head_dim), values[1]])
    return linear(weight, bias)


def _head_norm(attention: Any, num_heads: int, num_kv_heads: int, head_dim: int, epsilon: float) -> Norm | None:
    if getattr(attention, "q_norm", None) is None:
        return None
    queries, keys = (interleaved(norm.weight.detach(), head_dim) for norm in (attention.q_norm, attention.k_norm))
    return norm(torch.cat([queries.expand(num_heads, -1), keys.expand(num_kv_heads, -1)]), epsilon)


def _window(attention: Any) -> int | None:
    """Of Qwen's layers by themselves, of Mistral's by the configuration."""
    config = attention.config
    window = attention.sliding_window if hasattr(attention, "sliding_window") else None
    if config.model_type == "mistral":
        window = config.sliding_window
    return None if window is None else int(window)
