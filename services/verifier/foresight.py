"""What is known of a request's next draws before there are logits: the ids whose noise is loud.

The noise depends on seed and position only, so a verifier that waits for trees can look for them meanwhile. What
was not looked for is found when the token is drawn, and is the same. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.verifier.gumbel import Loud, loud
from services.verifier.sampling import SamplingParams


class Foresight:
    """Of one request, by position. Of 150,000 ids a position keeps about a thousand: 16 kB."""

    __slots__ = ("_known", "_params")

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._known: dict[int, Loud] = {}

    def at(self, position: int) -> Loud | None:
        """What is known of the draw that fills ``position``."""
        return self._known.get(position)

    def look(self, position: int, num_ids: int) -> None:
        """Find out about ``position``, in a vocabulary of ``num_ids``, if that is of use and not known."""
        if self._params.weighs_all and position not in self._known:
            self._known[position] = loud(self._params.seed, position, num_ids)

    def forget(self, position: int) -> None:
        """The context has this length now: what lies behind is not drawn again."""
        for past in [known for known in self._known if known < position]:
            del self._known[past]


def look_ahead(
    requests: Sequence[tuple[Foresight, int]], num_positions: int, num_ids: int, is_over: Callable[[], bool]
) -> None:
    """Look at ``num_positions`` of each (foresight, position), everybody's nearest first, until it is over."""
    for ahead in range(num_positions):
        for foresight, position in requests:
            if is_over():
                return
            foresight.look(position + ahead, num_ids)
