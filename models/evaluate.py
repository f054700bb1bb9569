"""Evaluate the stored pair on held-out files: `python -m models.evaluate [--json] [--card]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from models.card import write_card
from models.evaluation import Evaluation, evaluate_pair
from models.paths import DRAFT, TARGET


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Evaluate the embedded pair on held-out files.")
    add = parser.add_argument
    add("--json", action="store_true", help="print JSON in place of a table")
    add("--card", action="store_true", help="write the figures into the model card")
    add("--prompts", type=int, default=66, help="continuations to grow trees on")
    add("--max-files", type=int, help="only the first held-out files, for a quick look")
    add("--threads", type=int, default=torch.get_num_threads(), help="processor threads")
    add("--target", type=Path, default=TARGET)
    add("--draft", type=Path, default=DRAFT)
    return parser.parse_args()


def evaluation_table(result: Evaluation) -> Table:
    """The figures as a two-column table."""
    figures = asdict(result)
    table = Table("figure", "value", title="Embedded pair on held-out files")
    for name, value in figures.items():
        label = name.replace("_", " ")
        if isinstance(value, dict):
            for shape, ratio in value.items():
                table.add_row(f"{label} {shape}", f"{ratio:.2f}")
        else:
            table.add_row(label, f"{value:.3f}" if isinstance(value, float) else f"{value:,}")
    return table


def main() -> None:
    """Entry point."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    result = evaluate_pair(options.target, options.draft, num_prompts=options.prompts, max_files=options.max_files)
    if options.card:
        write_card(result)
    if options.json:
        print(json.dumps(asdict(result), indent=2))
    else:
        Console().print(evaluation_table(result))


if __name__ == "__main__":
    main()
