"""Rows of random tokens that are said twice, in blocks whose order changes: what the second half teaches is copying alone.

    a b c │ d e │ f g h i ║ d e │ f g h i │ a b c
                            ^     ^ ^ ^     ^ ^    are targets

Which block comes next cannot be known, but how it goes on can: from the place where its beginning stood before. A model that
predicts this has found the circuit that all reading rests on (induction heads; Olsson et al., 2022). In dialogues alone the
signal is too thin for it to form within a few million tokens.
"""

import random
from array import array
from itertools import pairwise

from afina.data.conversation import Source
from afina.data.render import Row

FIRST = 3  # the special tokens before it are left out


def blocks(rng: random.Random, vocabulary: int) -> list[list[int]]:
    """Two to eight blocks of two to eight tokens, no token twice."""
    lengths = [rng.randint(2, 8) for _ in range(rng.randint(2, 8))]
    tokens = rng.sample(range(FIRST, vocabulary), sum(lengths))
    ends = [sum(lengths[:number]) for number in range(len(lengths) + 1)]
    return [tokens[start:stop] for start, stop in pairwise(ends)]


def said_twice(rng: random.Random, vocabulary: int, number: int) -> Row:
    """The blocks, and again in another order; a third of the rows keep the order."""
    first = blocks(rng, vocabulary)
    second = first if rng.random() < 1 / 3 else rng.sample(first, len(first))
    ids = [token for block in first for token in block]
    spans = []
    for block in second:
        spans.append((len(ids) + 1, len(ids) + len(block)))
        ids += block
    return Row(array("i", ids), tuple(spans), Source("blocks", number))


def rows_of_blocks(count: int, vocabulary: int, seed: int) -> list[Row]:
    rng = random.Random(seed)
    return [said_twice(rng, vocabulary, number) for number in range(1, count + 1)]
