"""Question and answer documents made from documented functions, so that chat markers mean something."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from models.corpus import SourceFile, path_digest
from models.tokenizer import ASSISTANT, END, USER

MAX_ANSWER_CHARACTERS = 1600
KEEP_ONE_IN = 4
REQUESTS = (
    "Write a Python function `{name}`. {summary}",
    "Please implement `{name}` in Python: {summary}",
    "{summary} Write it in Python as `{name}`.",
    "def {name}: {summary}",
)


def documented_functions(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, first docstring line, source) of each top-level documented function."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            summary = (ast.get_docstring(node) or "").partition("\n")[0].strip()
            source = ast.get_source_segment(text, node)
            if summary and source and len(source) <= MAX_ANSWER_CHARACTERS:
                yield node.name, summary, source


def chat_documents(files: Iterable[SourceFile]) -> Iterator[str]:
    """One request and its answer for a stable quarter of the documented functions."""
    for file in files:
        for name, summary, source in documented_functions(file.text):
            digest = path_digest(f"{file.name}:{name}")
            if digest % KEEP_ONE_IN == 0:
                request = REQUESTS[digest // KEEP_ONE_IN % len(REQUESTS)]
                question = request.format(name=name, summary=summary)
                yield f"{USER}\n{question}{END}{ASSISTANT}\n{source}{END}"
