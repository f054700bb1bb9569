from models.card import render_card
from models.evaluation import Evaluation
from models.records import Record

RESULT = Evaluation(
    held_out_files=3,
    held_out_bytes=1_500_000,
    held_out_tokens=400_000,
    seen_line_share=0.125,
    target_parameters=5_000_000,
    draft_parameters=1_000_000,
    target_bits_per_byte=1.1999,
    draft_bits_per_byte=1.5,
    top1_agreement=0.5,
    coverage_top3=0.75,
    prompts=66,
    new_tokens=128,
    tokens_per_verification={"4x1": 2.0, "4x3": 3.25},
    repeated_token_share=0.4,
    fresh_tokens_per_verification={"4x1": 1.5, "4x3": 2.75},
)


def test_card_shows_the_measured_figures() -> None:
    record = Record(steps=2000, tokens=16_000_000, minutes=50.0, device="2 CPU threads")
    card = render_card(RESULT, {"target": record})
    for figure in ("**1.200**", "| 4 × 3 | 3.25 | 2.75 |", "40%", "12%", "16.0 M", "not recorded"):
        assert figure in card
    assert "{" not in card
