"""A peer as a process: loads the pair once, then decodes greedily what each line asks for.

    PYTHON worker.py transformers|openvino '{"target": DIR, "draft": DIR, "threads": 2}'

The first line printed is `{"ready": {package: version}}`. A line read is `{"prompts": [[id, …], …], "tokens": N,
"depth": null | n | "default"}`, where a depth asks for speculation with so many drafted tokens; its answer is
`{"tokens": [[id, …], …], "seconds": s}`, or `{"error": text}`. Time is taken here around the peer's own call, ids
in and ids out: no HTTP, no tokenizer. Run as a file: OpenVINO's Python has not this package.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Decode = Callable[[Sequence[Sequence[int]], int, Any], list[list[int]]]


def transformers_decoder(target: str, draft: str, threads: int) -> Decode:
    """`generate`, prompts of a batch padded on the left; assisted by the draft where a depth is asked for."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    torch.set_num_threads(threads)
    load = transformers.AutoModelForCausalLM.from_pretrained
    model, assistant = (load(path, dtype=torch.float32).eval() for path in (target, draft))
    # The twin's vocabulary is the draft's and then padding. Of another size `generate` would take the draft for
    # one of another tokenizer and translate text at every step, which is slower.
    assistant.config.vocab_size = model.config.vocab_size
    for each in (model, assistant):
        each.generation_config.eos_token_id = None
        each.generation_config.pad_token_id = 0

    def assisted(depth: Any) -> Mapping[str, Any]:
        chosen = assistant.generation_config
        if depth == "default":  # 20 tokens, ended early by the draft's confidence
            chosen.num_assistant_tokens = chosen.assistant_confidence_threshold = None
        else:
            chosen.num_assistant_tokens, chosen.assistant_confidence_threshold = depth, 0.0
            chosen.num_assistant_tokens_schedule = "constant"
        return {"assistant_model": assistant}

    def decode(prompts: Sequence[Sequence[int]], count: int, depth: Any) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        options = assisted(depth) if depth else {}
        with torch.inference_mode():
            found = model.generate(ids, attention_mask=mask, max_new_tokens=count, do_sample=False, **options)
        answers: list[list[int]] = found[:, longest:].tolist()
        return answers

    return decode


def openvino_decoder(target: str, draft: str, threads: int) -> Decode:
    """The continuous batching pipeline, all in float32; a second one has the draft model."""
    genai: Any = importlib.import_module("openvino_genai")
    openvino: Any = importlib.import_module("openvino")
    numpy: Any = importlib.import_module("numpy")
    exact = {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": threads,
    }

    def pipeline(**options: Any) -> Any:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = 1  # GB
        scheduler.enable_prefix_caching = False
        return genai.ContinuousBatchingPipeline(target, scheduler, "CPU", {**exact, **options})

    plain = pipeline()
    drafted = pipeline(draft_model=genai.draft_model(draft, "CPU", **exact))

    def settings(count: int, depth: Any) -> Any:
        chosen = genai.GenerationConfig()
        chosen.max_new_tokens, chosen.ignore_eos, chosen.do_sample = count, True, False
        if depth == "default":
            chosen.assistant_confidence_threshold = 0.4  # it names no default; transformers' is this
        elif depth:
            chosen.num_assistant_tokens = depth
        return chosen

    def decode(prompts: Sequence[Sequence[int]], count: int, depth: Any) -> list[list[int]]:
        inputs = [openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)) for prompt in prompts]
        results = (drafted if depth else plain).generate(inputs, [settings(count, depth)] * len(inputs))
        return [list(result.m_generation_ids[0]) for result in results]

    return decode


PEERS: dict[str, tuple[Callable[[str, str, int], Decode], tuple[str, ...]]] = {
    "transformers": (transformers_decoder, ("transformers", "torch")),
    "openvino": (openvino_decoder, ("openvino-genai",)),
}


def answer(decode: Decode, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The line that answers a line."""
    start = time.perf_counter()
    try:
        tokens = decode(asked["prompts"], asked["tokens"], asked["depth"])
    except Exception as error:  # whatever a peer raises is told, and the next line may do better
        return {"error": f"{type(error).__name__}: {error}"}
    return {"tokens": tokens, "seconds": time.perf_counter() - start}


def main(kind: str, settings: Mapping[str, Any]) -> None:
    """Answer lines until there are none."""
    build, packages = PEERS[kind]
    decode = build(settings["target"], settings["draft"], settings["threads"])
    print(json.dumps({"ready": {name: importlib.metadata.version(name) for name in packages}}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(decode, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
