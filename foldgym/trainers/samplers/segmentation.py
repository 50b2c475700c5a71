"""How a trajectory of the MemAct kind falls into segments, from token counts alone.

The recorder builds the segments that are trained on, from the actual sampler calls. This plans:
what a folding schedule will cost before anything is played.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Tokens a segment starts from, tokens generated in it, actions in it."""

    prefix_len: int
    generated: int
    turns: int


def dcpo_segmentation(prompt_len: int, actions: Sequence[tuple[str, int, int, int]]) -> list[Span]:
    """Segments of (kind, policy tokens, observation tokens, pruned tokens) actions.

    Each action changes the context by policy + observation - pruned. A `"memory"` action closes its
    segment; the next starts from the edited context. There is no empty last segment. Only generated
    tokens are trained. Source: MemAct (DCPO), code and text.
    """
    spans: list[Span] = []
    context = start = prompt_len
    generated = turns = 0
    for kind, policy, observation, pruned in actions:
        context += policy + observation - pruned
        generated, turns = generated + policy, turns + 1
        if kind == "memory":
            spans.append(Span(start, generated, turns))
            start, generated, turns = context, 0, 0
    return [*spans, Span(start, generated, turns)] if turns else spans
