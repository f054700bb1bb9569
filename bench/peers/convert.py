"""The pair's models in the formats of the peers: OpenVINO IR and GGUF, float32.

    PEERS_PYTHON convert.py openvino SOURCE DESTINATION
    PEERS_PYTHON convert.py gguf SOURCE DESTINATION [VOCABULARY]

Run as a file by the peers' Python, which has `optimum-intel` and `gguf` and not this package. A destination that
is there is left as it is; a new one appears complete or not at all.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

# Hugging Face's name of a layer's tensor, and GGUF's.
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
NORMAL, USER_DEFINED = 1, 4  # kinds of tokens in GGUF


def to_openvino(source: Path, destination: Path, _: int | None) -> None:
    """A stateful IR without weight compression. No tokenizer is needed for token ids, but a pipeline with a draft
    model asks for one."""
    intel: Any = importlib.import_module("optimum.intel")
    tokenizers: Any = importlib.import_module("openvino_tokenizers")
    openvino: Any = importlib.import_module("openvino")
    transformers: Any = importlib.import_module("transformers")
    model = intel.OVModelForCausalLM.from_pretrained(
        str(source), export=True, compile=False, load_in_8bit=False, torch_dtype="float32"
    )
    model.save_pretrained(str(destination))
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(source))
    encoder, decoder = tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True)
    openvino.save_model(encoder, destination / "openvino_tokenizer.xml")
    openvino.save_model(decoder, destination / "openvino_detokenizer.xml")


def to_gguf(source: Path, destination: Path, vocabulary: int | None) -> None:
    """One file `model.gguf`. It names no end of sequence, so that nothing ends before its number of tokens.

    llama.cpp refuses a draft model whose vocabulary is not the target's: ``vocabulary`` is the size to pad to.
    """
    gguf: Any = importlib.import_module("gguf")
    config = json.loads((source / "config.json").read_text())
    size = vocabulary or config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(str(destination / "model.gguf"), "llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(size)
    _add_vocabulary(writer, source, size)
    for name, tensor in sorted(_weights(source).items()):
        array = tensor.to(torch.float32).numpy()
        if "q_proj" in name or "k_proj" in name:
            array = interleave(array, heads if "q_proj" in name else kv_heads)
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            array = padded(array, size)
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Of a Llama's tensor ``name``. Raises KeyError for one that llama.cpp does not know here."""
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    layer, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{int(layer)}.{LAYER[part]}.{kind}"


def interleave(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows [heads · dim, …] with each head's two halves taken in turn: llama.cpp rotates neighbours where
    transformers rotates halves."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def padded(rows: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Rows [vocab, …] with copies of the first one up to ``size``: of equal logits the lowest id is drawn."""
    return np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)])


def _weights(source: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(source.glob("*.safetensors")):
        found |= load_file(path)
    return found


def _add_vocabulary(writer: Any, source: Path, size: int) -> None:
    told = json.loads((source / "tokenizer.json").read_text())
    texts = {index: text for text, index in told["model"]["vocab"].items()}
    special = {each["id"] for each in told["added_tokens"]}
    tokens = [f"<{index}>" if index in special else texts.get(index, f"<{index}>") for index in range(size)]
    merges = [each if isinstance(each, str) else " ".join(each) for each in told["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([NORMAL if index in texts else USER_DEFINED for index in range(size)])
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)


FORMATS = {"openvino": to_openvino, "gguf": to_gguf}


def main(kind: str, source: Path, destination: Path, vocabulary: int | None = None) -> None:
    """Write ``destination`` unless it is there."""
    if destination.is_dir():
        return
    part = destination.with_name(f"{destination.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        FORMATS[kind](source, part, vocabulary)
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))
