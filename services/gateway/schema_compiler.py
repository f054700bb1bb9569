"""The process that tries JSON Schemas: `python -m services.gateway.schema_compiler TARGET`.

A line of JSON when it is ready; then one line in, a schema's text, and one line out: why it is refused, "" where
it is not, or null where the machine was too busy to tell. Every schema is compiled in a fork that ends when its
time or memory is over, whatever the library does with it: no schema can hold up a gateway, and what a verifier
compiles later has been compiled here within these limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

from shared.errors import GrammarError
from shared.grammar import Grammars
from shared.schema_refs import has_endless_ref
from shared.tokenizer import load_tokenizer

CPU_S = 0.1  # so long a verifier may stand still for it
WALL_S = 0.8
MEMORY_BYTES = 256 << 20
TOO_COMPLEX = f"is refused: it takes more than {CPU_S:g} s to compile"


def main() -> None:
    tokenizer = load_tokenizer(sys.argv[1])
    grammars = Grammars(tokenizer, vocab_size=tokenizer.vocab_size, end_ids=tokenizer.eos_token_ids)
    _say("ready")
    for line in sys.stdin.buffer:
        _say(_tried(grammars, json.loads(line)))


def _say(answer: str | None) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _tried(grammars: Grammars, schema: str) -> str | None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the library's last words may quote the schema
        _limit()
        os.write(write, json.dumps(refusal(grammars, schema)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if told:
        return str(json.loads(told))
    # Of the wall clock's limit a busy machine may have had most; the others are the schema's own doing.
    return None if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else TOO_COMPLEX


def refusal(grammars: Grammars, schema: str) -> str:
    """Why a schema is refused, "" if it is not: it must compile, and say how an output may begin."""
    if has_endless_ref(json.loads(schema)):
        return "is refused: a $ref comes back to itself"
    try:
        grammars.matcher(schema).allowed_after([])
    except GrammarError as error:
        return str(error)
    return ""


def _limit() -> None:
    """CPU seconds, wall clock and memory of this process from now on; it does not survive any of them."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, used + MEMORY_BYTES)):
        with contextlib.suppress(ValueError):  # a hard limit below it is one already
            resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main()
