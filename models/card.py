"""The model card, with its figures filled in from an evaluation."""

from __future__ import annotations

from models.evaluation import Evaluation
from models.paths import MODELS
from models.records import Record, load_records

CARD = MODELS / "README.md"
TEMPLATE = """\
# The embedded pair

Two Llama models, a target and a draft, small enough to live in the repository, so that everything here runs
and is tested without a download. They write Python-looking text; they are a demonstration of speculative
decoding, not assistants. Written by `python -m models.evaluate --card`; do not edit.

| | target | draft |
|---|---|---|
| layers × hidden, MLP | 6 × 256, 768 | 2 × 160, 480 |
| heads, KV heads | 4 of 64, 2 | 5 of 32, 5 |
| parameters (tied embeddings) | {target_parameters} | {draft_parameters} |
| stored as | bfloat16 safetensors | bfloat16 safetensors |
| optimizer steps | {target_steps} | {draft_steps} |
| tokens trained on | {target_tokens} | {draft_tokens} |
| wall-clock time | {target_minutes} | {draft_minutes} |
| bits per byte, held-out files | **{target_bpb}** | {draft_bpb} |

## Tokens per verification

Temperature 0, {prompts} prompts of 128, 192 and 256 tokens from the middle of held-out files, {new_tokens}
new tokens each (fewer where the target ends the text). The tree is the served one: step 1 keeps the best
children of the root, each later step the best by path probability among the children of the last step;
every node is verified. The bonus token is counted.

| depth × width | whole continuation | before it repeats itself |
|---|---|---|
{tree_rows}

A model of this size soon loops when it is decoded greedily, and loops are guessed almost perfectly:
{repeated} of the tokens come after a continuation first repeated 12 tokens it had written before. The last
column leaves them out and is the one to compare with other pairs.

On the held-out text itself the draft's first choice is the target's first choice for {agreement} of the
positions, and the target's first choice is among the draft's first three for {coverage}.

## Data

Python source files of the standard library and of the packages installed beside the project, ASCII only,
data-like files and vendored copies left out, exact duplicates removed, at most 8 MB of a package and 16 MB
of the standard library; plus short request-and-answer texts in the chat format made from documented
functions of the training files. Nothing is downloaded. The sources keep their own licences.

A file is held out when the hash of its relative path says so (one in 64): {files} files, {megabytes} MB,
{tokens} tokens, never trained on. They are not independent of the training text: packages repeat
themselves, and {seen} of the held-out lines of 40 characters or more also occur in some training file.
Figures are for the files of the machine that wrote this card; other package versions give slightly
different ones.

## Tokenizer

Byte-level BPE of exactly 4,096 ids, the same files in both directories. Special tokens: `<|endoftext|>` (id
0, ends a document), `<|user|>`, `<|assistant|>`, `<|end|>`. Windows of 256, 512 and last 1,024 tokens were
trained on; positions up to 2,048 are allowed, and text beyond 1,024 tokens is outside of what the models
have seen.

## Again

```
python -m models.train --minutes 75    # resumes after an interruption; --fresh starts over
python -m models.evaluate              # the figures above; --json, --card
```

The target: next-token loss, Muon for the hidden matrices and AdamW for the rest, linear decay by wall-clock
time. The draft: cross-entropy to the target's distribution and to its first choice in equal parts, 60 % of
the windows from the training text and 40 % from continuations the target wrote itself.
"""


def write_card(result: Evaluation) -> None:
    """Render the card beside the models."""
    CARD.write_text(render_card(result, load_records()))


def render_card(result: Evaluation, records: dict[str, Record]) -> str:
    """The card's text."""
    return TEMPLATE.format(
        **record_figures("target", records.get("target")),
        **record_figures("draft", records.get("draft")),
        target_parameters=f"{result.target_parameters:,}",
        draft_parameters=f"{result.draft_parameters:,}",
        target_bpb=f"{result.target_bits_per_byte:.3f}",
        draft_bpb=f"{result.draft_bits_per_byte:.3f}",
        prompts=result.prompts,
        new_tokens=result.new_tokens,
        tree_rows=tree_rows(result),
        repeated=f"{result.repeated_token_share:.0%}",
        agreement=f"{result.top1_agreement:.1%}",
        coverage=f"{result.coverage_top3:.1%}",
        files=result.held_out_files,
        megabytes=f"{result.held_out_bytes / 1e6:.2f}",
        tokens=f"{result.held_out_tokens:,}",
        seen=f"{result.seen_line_share:.0%}",
    )


def record_figures(name: str, record: Record | None) -> dict[str, str]:
    """Training figures of one model."""
    if record is None:
        return {f"{name}_{figure}": "not recorded" for figure in ("steps", "tokens", "minutes")}
    return {
        f"{name}_steps": f"{record.steps:,}",
        f"{name}_tokens": f"{record.tokens / 1e6:.1f} M",
        f"{name}_minutes": f"{record.minutes:.0f} min, {record.device}",
    }


def tree_rows(result: Evaluation) -> str:
    """Table rows."""
    fresh = result.fresh_tokens_per_verification
    return "\n".join(
        f"| {shape.replace('x', ' × ')} | {ratio:.2f} | {fresh[shape]:.2f} |"
        for shape, ratio in result.tokens_per_verification.items()
    )
