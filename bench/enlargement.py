"""The algebra of a larger Llama with the same outputs: more layers, width, heads, MLP columns and vocabulary rows.

With H the source's hidden size, W > H the new one and s = sqrt(H / W):

- *Hidden state.* Its first H features are the source's. Feature H holds the constant c, which every embedding
  row writes and nothing else touches; the rest is zero. Projections back into the hidden state have zero rows
  there.
- *RMSNorm* divides by the mean square over W features. Where S is the sum of the source's squares,
  (S + c²) / W + eps' = (S / H + eps) · H / W for eps' = (H · eps − c²) / W, so the constant takes over a part of
  eps and weights multiplied by s undo the rest, exactly. In the layers' norms the constant's weight is zero.
- *Heads* beyond the source's, *MLP columns* and *layers* have random weights, so they cost what they cost in any
  model, but zero columns in o_proj and down_proj. The query heads per KV head stay the same, so that every head of
  the source finds its own KV head. Rows and columns of the source that meet zero features are random as well.
- *Vocabulary.* The head is untied. Rows of the source's ids ignore the constant; the rows behind them see nothing
  else and multiply it by −K, so their logits are −K · c / rms. K is chosen from norms of the source's weights
  (`suppression`) so that these logits lie MARGIN below the lowest one the source could ever give: no greedy or
  sampled token is one of theirs, in stock transformers as in the verifier, which needs no mask for them. (Cutting
  the logits to the tokenizer's ids would be another way, but then sampling would cost less than it does with a
  real vocabulary of this size, and stock `generate` would still draw the padding.)

All kernels are dense, so the zeros cost as much as other weights; a pruning or sparse runtime could find them. The
outputs are the same up to rounding in float32 and float64; bfloat16 arithmetic rounds s and tells them apart.
Widening like this is known as a function-preserving transformation (Chen et al., Net2Net, 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from transformers import LlamaConfig, PreTrainedModel

from shared.errors import ModelError
from shared.inference.kv import head_dim_of
from shared.inference.loading import DTYPES

Dtype = Literal["float32", "bfloat16", "float64"]
Weights = dict[str, torch.Tensor]

MARGIN = 1e4  # the noise of drawing spans 41, times the temperature
MAX_PARAMETERS = 2_000_000_000
MAX_SEED = 2**63 - 1
_COPIED = (
    "max_position_embeddings",
    "rope_parameters",
    "hidden_act",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinShape:
    """Size of the enlarged model, and how its weights are stored. Heads follow from the hidden size."""

    layers: int = 12
    hidden: int = 768
    mlp: int = 3072
    vocab: int = 32_000
    seed: int = 0
    dtype: Dtype = "float32"


def enlarge(model: PreTrainedModel, shape: TwinShape) -> tuple[LlamaConfig, Weights]:
    """The enlarged model: its configuration, and its weights by name.

    ``model`` is the source, in float64. Weights have the shape's dtype, norms float64 because s is irrational.
    Raises ModelError for a source or a shape that cannot be enlarged, and for a dtype that cannot hold the
    source's weights exactly.
    """
    check_source(model.config)
    check_shape(model.config, shape)
    config = _twin_config(model.config, shape)
    return config, _Enlargement(model, config, shape).weights()


def check_shape(source: LlamaConfig, shape: TwinShape) -> None:
    """Raises ModelError, naming field, value and limit, for a shape the source cannot be enlarged to."""
    least = {
        "layers": source.num_hidden_layers,
        "hidden": source.hidden_size + 1,  # the constant needs a feature of its own
        "mlp": source.intermediate_size,
        "vocab": source.vocab_size,
    }
    for field, limit in least.items():
        if getattr(shape, field) < limit:
            raise ModelError(f"{field} is {getattr(shape, field)}; the least is {limit}")
    step = head_dim_of(source) * _queries_per_kv_head(source)
    if shape.hidden % step:
        raise ModelError(f"hidden is {shape.hidden}; it must be a multiple of {step}, one KV head's query heads")
    if not 0 <= shape.seed <= MAX_SEED:
        raise ModelError(f"seed is {shape.seed}; it must be from 0 to {MAX_SEED}")
    if shape.dtype not in get_args(Dtype):
        raise ModelError(f"dtype is {shape.dtype!r}; it must be one of {', '.join(get_args(Dtype))}")
    size = 2 * shape.vocab * shape.hidden + shape.layers * 3 * shape.hidden * (shape.hidden + shape.mlp)
    if size > MAX_PARAMETERS:
        raise ModelError(
            f"layers {shape.layers}, hidden {shape.hidden}, mlp {shape.mlp} and vocab {shape.vocab} make "
            f"{size:,} parameters; the limit is {MAX_PARAMETERS:,}"
        )


def check_source(config: Any) -> None:
    """Raises ModelError, naming the field, for a model that is no plain Llama."""
    wanted = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    for field, value in wanted.items():
        if getattr(config, field, None) != value:
            raise ModelError(f"{field} of the source is {getattr(config, field, None)!r}; it must be {value!r}")
    if config.rms_norm_eps <= 0.0:
        raise ModelError(f"rms_norm_eps of the source is {config.rms_norm_eps}; it must be above 0")


def _twin_config(source: LlamaConfig, shape: TwinShape) -> LlamaConfig:
    heads = shape.hidden // head_dim_of(source)
    return LlamaConfig(
        **{field: getattr(source, field) for field in _COPIED},
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // _queries_per_kv_head(source),
        head_dim=head_dim_of(source),
        rms_norm_eps=(source.hidden_size * source.rms_norm_eps - constant(source) ** 2) / shape.hidden,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype=shape.dtype,
    )


def constant(source: LlamaConfig) -> float:
    """c: a power of two, so that every dtype holds it; its square takes an eighth to a half of H · eps."""
    return float(2.0 ** math.floor(math.log2(math.sqrt(source.hidden_size * source.rms_norm_eps / 2))))


def suppression(config: LlamaConfig, state: Weights, width: int) -> float:
    """K, a power of two: with it padded logits lie MARGIN below any logit of the source. ``width`` is W.

    −K · c / rms is at most −K · c / (largest rms); no logit is below −(longest head row) · |normed|. The largest
    rms follows from `_longest_hidden`. These are bounds, not estimates from samples.
    """
    longest_row = float(_head(state).norm(dim=1).max())
    lowest = longest_row * _longest_normed(config, state["model.norm.weight"])
    largest = _longest_hidden(config, state) ** 2 / width + config.rms_norm_eps * config.hidden_size / width
    return float(2.0 ** math.ceil(math.log2((lowest + MARGIN) * math.sqrt(largest) / constant(config))))


def _longest_hidden(config: LlamaConfig, state: Weights) -> float:
    """No hidden state is longer: the embedding and what each layer can add to it, by spectral norms.

    Attention averages values, and |silu(x)| ≤ |x|.
    """
    length = float(state["model.embed_tokens.weight"].norm(dim=1).max())
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        normed = _longest_normed(config, state[f"{prefix}.input_layernorm.weight"])
        value, output = _spectral(state, f"{prefix}.self_attn", "v_proj", "o_proj")
        length += output * math.sqrt(config.num_attention_heads) * value * normed
        normed = _longest_normed(config, state[f"{prefix}.post_attention_layernorm.weight"])
        length += math.prod(_spectral(state, f"{prefix}.mlp", "gate_proj", "up_proj", "down_proj")) * normed**2
    return length


def _spectral(state: Weights, prefix: str, *names: str) -> list[float]:
    return [float(torch.linalg.matrix_norm(state[f"{prefix}.{name}.weight"], ord=2)) for name in names]


def _longest_normed(config: LlamaConfig, weight: torch.Tensor) -> float:
    return math.sqrt(config.hidden_size) * float(weight.abs().max())


def _head(state: Weights) -> torch.Tensor:
    """The output matrix, [vocab, hidden]; the embedding where it is tied."""
    return state.get("lm_head.weight", state["model.embed_tokens.weight"])


def _queries_per_kv_head(config: LlamaConfig) -> int:
    return int(config.num_attention_heads // config.num_key_value_heads)


class _Enlargement:
    """One source, one shape, one stream of random numbers."""

    def __init__(self, model: PreTrainedModel, config: LlamaConfig, shape: TwinShape) -> None:
        self._source: LlamaConfig = model.config
        self._config = config
        self._state: Weights = model.state_dict()
        self._dtype = DTYPES[shape.dtype]
        self._generator = torch.Generator().manual_seed(shape.seed)
        # Normed features have a mean square of about 1, so what random rows compute does too.
        self._spread = math.sqrt(3.0 / self._source.hidden_size)

    def weights(self) -> Weights:
        weights = {"model.embed_tokens.weight": self._embedding(), "lm_head.weight": self._output()}
        for layer in range(self._config.num_hidden_layers):
            weights |= self._layer(f"model.layers.{layer}", is_new=layer >= self._source.num_hidden_layers)
        return weights | {"model.norm.weight": self._norm(self._state["model.norm.weight"], of_constant=1.0)}

    def _embedding(self) -> torch.Tensor:
        table = self._around("model.embed_tokens.weight", self._config.vocab_size, self._config.hidden_size)
        hidden = self._source.hidden_size
        table[:, hidden:] = 0.0
        table[:, hidden] = constant(self._source)
        return table

    def _output(self) -> torch.Tensor:
        rows, hidden = self._source.vocab_size, self._source.hidden_size
        head = self._random(self._config.vocab_size, self._config.hidden_size)
        head[:rows, :hidden] = self._exact("lm_head.weight", _head(self._state))
        head[:rows, hidden] = 0.0
        head[rows:, :hidden] = 0.0
        head[rows:, hidden] = -suppression(self._source, self._state, self._config.hidden_size)
        return head

    def _layer(self, prefix: str, *, is_new: bool) -> Weights:
        config = self._config
        queries = config.num_attention_heads * config.head_dim
        pairs = config.num_key_value_heads * config.head_dim
        inward = {  # rows; what they compute beyond the source's rows is multiplied by zero afterwards
            "self_attn.q_proj": queries,
            "self_attn.k_proj": pairs,
            "self_attn.v_proj": pairs,
            "mlp.gate_proj": config.intermediate_size,
            "mlp.up_proj": config.intermediate_size,
        }
        outward = {"self_attn.o_proj": queries, "mlp.down_proj": config.intermediate_size}  # columns
        weights: Weights = {}
        for name in ("input_layernorm.weight", "post_attention_layernorm.weight"):
            weight = torch.ones(self._source.hidden_size) if is_new else self._state[f"{prefix}.{name}"]
            weights[f"{prefix}.{name}"] = self._norm(weight, of_constant=0.0)
        for name, rows in inward.items():
            name = f"{prefix}.{name}.weight"
            weights[name] = self._around(name, rows, config.hidden_size)
        for name, columns in outward.items():
            name = f"{prefix}.{name}.weight"
            weights[name] = self._in_zeros(name, config.hidden_size, columns)
        return weights

    def _norm(self, weight: torch.Tensor, *, of_constant: float) -> torch.Tensor:
        """Weights times s, then the constant's, then ones for features that are zero."""
        hidden, width = self._source.hidden_size, self._config.hidden_size
        wide = torch.ones(width, dtype=torch.float64)
        wide[:hidden] = weight.double() * math.sqrt(hidden / width)
        wide[hidden] = of_constant
        return wide

    def _around(self, name: str, rows: int, columns: int) -> torch.Tensor:
        """Random numbers around the source's matrix of this name, if it has one."""
        return self._placed(name, self._random(rows, columns))

    def _in_zeros(self, name: str, rows: int, columns: int) -> torch.Tensor:
        return self._placed(name, torch.zeros(rows, columns, dtype=self._dtype))

    def _placed(self, name: str, matrix: torch.Tensor) -> torch.Tensor:
        if name in self._state:
            block = self._state[name]
            matrix[: block.shape[0], : block.shape[1]] = self._exact(name, block)
        return matrix

    def _exact(self, name: str, block: torch.Tensor) -> torch.Tensor:
        stored = block.to(self._dtype)
        if not torch.equal(stored.to(block.dtype), block):
            raise ModelError(f"dtype is {self._dtype}; it cannot hold {name} of the source exactly")
        return stored

    def _random(self, rows: int, columns: int) -> torch.Tensor:
        empty = torch.empty(rows, columns, dtype=self._dtype)
        return empty.uniform_(-self._spread, self._spread, generator=self._generator)
