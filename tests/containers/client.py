"""A client of the gateway in the containers' network: `client.py URL KEY_FILE`. Prints what it saw as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import httpx

BODY = {
    "model": "default", "prompt": "import os\n", "max_tokens": 64, "stream": True, "ignore_eos": True,
    "return_token_ids": True, "stream_options": {"include_usage": True}, "adaserve": {"slo": {"tpot_ms": 200}},
}  # fmt: skip


def main() -> None:
    """One streamed completion."""
    key = Path(sys.argv[2]).read_text().strip()
    began, texts, tokens, done = time.monotonic(), [], 0, False
    with (
        httpx.Client(base_url=sys.argv[1], headers={"authorization": f"Bearer {key}"}, timeout=90) as client,
        client.stream("POST", "/v1/completions", json=BODY) as response,
    ):
        response.raise_for_status()
        first_ms, usage = 0.0, None
        for line in response.iter_lines():
            done = done or line == "data: [DONE]"
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                first_ms = first_ms or (time.monotonic() - began) * 1e3
                texts.append(choice["text"])
                tokens += len(choice.get("token_ids", []))
    told = {"done": done, "tokens": tokens, "events": len(texts), "first_ms": round(first_ms), "usage": usage}
    sys.stdout.write(
        json.dumps({**told, "total_ms": round((time.monotonic() - began) * 1e3), "text": "".join(texts)})
    )


if __name__ == "__main__":
    main()
