"""Contexts as ranges of consecutive slots, for attention that reads keys where they lie. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.inference.plan import Int32Array, IntArray

SHORTEST_SPLIT = 512  # keys: a range is not split into less
SPLIT_BELOW = 16  # ranges: with so many, one for each of a few key heads, all of a GPU is at work


@dataclass(frozen=True, slots=True)
class KeyRanges:
    """Ranges of one or more sequences' contexts, in order: all columns [ranges]."""

    owner: IntArray  # index of the sequence
    first: IntArray  # slot
    count: IntArray  # of keys, at least one

    def of_each(self, sequences: IntArray) -> KeyRanges:
        """Those of sequence ``sequences[i]`` for each i in turn, whose owner is i."""
        per_sequence = np.bincount(self.owner, minlength=int(sequences.max(initial=-1)) + 1)
        starts = np.cumsum(per_sequence) - per_sequence
        counts = per_sequence[sequences]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = np.repeat(starts[sequences], counts) + within
        return KeyRanges(np.repeat(np.arange(len(sequences)), counts), self.first[chosen], self.count[chosen])


def key_ranges(slots: Int32Array, lengths: IntArray) -> KeyRanges:
    """The ranges of contexts whose ``slots`` stand one after the other, ``lengths`` of each.

    Few long ones are split, because what attends to a range works through it from end to end.
    """
    ends = np.cumsum(lengths)
    begins = np.flatnonzero(np.diff(slots, prepend=slots[:1]) != 1)
    begins = np.union1d(begins, (ends - lengths)[lengths > 0])
    counts = np.diff(begins, append=len(slots))
    longest = max(SHORTEST_SPLIT, -(-len(slots) // SPLIT_BELOW))
    parts = -(-counts // longest)
    within = (np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)) * longest
    begins = np.repeat(begins, parts) + within
    return KeyRanges(
        owner=np.searchsorted(ends, begins, side="right"),
        first=slots[begins],
        count=np.minimum(np.repeat(counts, parts) - within, longest),
    )
