"""Events of a stream padded to a few sizes, so that who watches encrypted traffic does not see tokens' lengths.

The filler stands in `obfuscation`, the field that OpenAI's streams have for this. It is made from the event's id:
a stream told again is the same, and what compresses traffic on its way can hardly undo it. Pure.
"""

from __future__ import annotations

from hashlib import shake_128

from services.gateway.schemas import Sampling

FIELD = ',"obfuscation":""'
_END = "}\n\n"


def padding_of(body: Sampling, *, multiple: int, always: bool) -> int:
    """Bytes whose multiple each event is to fill, 0 for none: as the request says, else if this gateway ``always``
    pads."""
    asked = body.adaserve.padding if body.adaserve is not None else None
    if asked is None and body.stream_options is not None:
        asked = body.stream_options.include_obfuscation
    return multiple if (always if asked is None else asked) else 0


def pad(event: str, event_id: str, multiple: int) -> str:
    """The event, which ends with a JSON object, with filler up to the next multiple of so many bytes."""
    missing = -(len(event.encode()) + len(FIELD)) % multiple
    filler = shake_128(event_id.encode()).hexdigest((missing + 1) // 2)[:missing]
    return f'{event.removesuffix(_END)}{FIELD[:-1]}{filler}"{_END}'
