"""The reduction tree: fixed by the number of blocks alone, never by the cluster, so that the bits are always the same.

The tree is binary over block numbers: node ``(level, j)`` covers blocks ``j * 2**level`` up to ``(j + 1) * 2**level``. A
*span* is one such node, reduced inside one Dask task; whichever level the spans are cut at, the sums are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Combine = Callable[[Any, Any], Any]


def span_level(n_blocks: int, max_spans: int) -> int:
    """Smallest level of the tree that has at most ``max_spans`` nodes."""
    level = 0
    while -(-n_blocks // (1 << level)) > max(1, max_spans):
        level += 1
    return level


def span_ranges(n_blocks: int, level: int) -> list[tuple[int, int]]:
    """Block ranges ``(first, stop)`` of the tree's nodes at ``level``."""
    size = 1 << level
    return [(lo, min(lo + size, n_blocks)) for lo in range(0, n_blocks, size)]


def reduce_tree(partials: Iterable[Any], combine: Combine) -> Any:
    """Reduce the leaves of an aligned subtree in the tree's order, holding at most one partial a level.

    >>> reduce_tree("abcde", lambda a, b: f"({a}{b})")
    '(((ab)(cd))e)'
    """
    # A binary counter: the trailing zeros of the number of leaves so far are the subtrees that are now complete.
    stack: list[Any] = []
    for n, partial in enumerate(partials, 1):
        while not n & 1:
            partial = combine(stack.pop(), partial)
            n >>= 1
        stack.append(partial)
    if not stack:
        raise ValueError("a reduction needs at least one block")
    answer = stack.pop()
    while stack:
        answer = combine(stack.pop(), answer)
    return answer
