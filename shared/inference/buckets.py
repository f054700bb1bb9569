"""Which fixed shape a pass is padded to, so that few shapes serve all passes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from shared.inference.tiles import Shape, power_of_two, words

FEWEST_KEYS = 256
MOST_SCORES = 1 << 24  # queries times keys of all tiles: what a mask has


@dataclass(frozen=True, slots=True)
class Buckets:
    """Shapes up to ``max_tokens`` fed tokens and ``max_keys`` committed keys of a row."""

    max_tokens: int
    max_keys: int

    def of(self, shape: Shape) -> Shape | None:
        """The bucket that a pass of this shape is padded to; None for what is larger than all of them."""
        bucket = self.above(shape)
        is_small = bucket.tokens <= self.max_tokens and bucket.num_scores <= MOST_SCORES
        return bucket if is_small and bucket.holds(shape) else None

    def above(self, shape: Shape) -> Shape:
        """The smallest bucket for a shape, which may be beyond the largest.

        Tokens and logits grow by halves at most, the rest by factors of two: that padding only attention computes.
        """
        tokens = step(shape.tokens)
        return Shape(
            tokens=tokens,
            tiles=min(tokens, power_of_two(shape.tiles)),
            queries=shape.queries,
            keys=self.keys_for(shape.keys),
            nodes=power_of_two(shape.nodes),
            logits=min(tokens, step(shape.logits)) if shape.logits else 0,
            ranges=ranges_for(shape.ranges),
        )

    def keys_for(self, keys: int) -> int:
        """Columns for so many committed keys; none for none."""
        return min(power_of_two(max(FEWEST_KEYS, keys)), words(self.max_keys)) if keys else 0


def ranges_for(ranges: int) -> int:
    """Ranges of keys for so many; none for none."""
    return power_of_two(ranges) if ranges else 0


def step(count: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, … that is not below ``count``."""
    double = power_of_two(count)
    return double * 3 // 4 if count <= double * 3 // 4 else double
