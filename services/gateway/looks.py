"""Which of an operator's looks at a stream is new: it is audited once, not with each page and each poll. Pure."""

from __future__ import annotations

from collections import OrderedDict

LOOK_S = 600.0  # as long as an inspected stream is kept
MAX_LOOKS = 1_024


class Looks:
    """The last looks; what is forgotten for their number is audited once more."""

    def __init__(self) -> None:
        self._since: OrderedDict[tuple[str, str], float] = OrderedDict()

    def is_new(self, who: str, stream: str, now_s: float) -> bool:
        """Whether ``who`` has not begun to look at the stream within LOOK_S; from now on they have."""
        since = self._since.get((who, stream))
        if since is not None and now_s - since < LOOK_S:
            return False
        self._since[who, stream] = now_s
        self._since.move_to_end((who, stream))
        while len(self._since) > MAX_LOOKS:
            self._since.popitem(last=False)
        return True
