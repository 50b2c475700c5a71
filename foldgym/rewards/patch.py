"""SWE-RL: how similar a predicted patch is to the oracle's, file by file."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher


def patch_similarity(
    pred_patch: Mapping[str, str], oracle_patch: Mapping[str, str], format_error: bool = False
) -> float:
    """Mean over the union of paths of the similarity of the two diffs; -1 on a format error.

    A path that one side lacks (or has empty) scores 0; two empty patches score 1. `difflib`'s
    automatic junk is off, for it changes values above 200 characters. The ratio is not symmetric:
    prediction first. Source: SWE-RL's code. It measures text, not correctness, and its time is
    quadratic in a diff's length.
    """
    if format_error:
        return -1.0
    paths = sorted({*pred_patch, *oracle_patch})
    if not paths:
        return 1.0
    return sum(
        _similarity(pred_patch.get(path, ""), oracle_patch.get(path, "")) for path in paths
    ) / len(paths)


def _similarity(pred: str, oracle: str) -> float:
    if not pred or not oracle:
        return 0.0
    return SequenceMatcher(None, pred, oracle, autojunk=False).ratio()
