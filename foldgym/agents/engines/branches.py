"""Log-probs of many short continuations of one long text, for little more than the text itself.

The trunk is computed once and its keys and values are kept. The branches of all its places then go
through the model side by side: a branch sees the trunk up to where it leaves it, and itself, and
branches that begin alike are computed once (a prefix tree). One that begins as the trunk goes on
leaves it later. Masks are as large as the branches, never as the square of the trunk.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from foldgym.agents.engines import scoring
from foldgym.agents.engines.decoding import reading
from foldgym.agents.engines.solo import maskable
from foldgym.types import Ids

_TOKENS = 1 << 14  # of trunks in one pass, padding included
_NUMBERS = 1 << 26  # in one mask, or in the logits of one pass
_PARTS = 2  # of the branches, by where they leave: early ones need not look at the whole trunk


@dataclass(frozen=True, slots=True)
class Branch:
    """`ids` said after the first `at` ids of a trunk; log-probs are wanted of `ids[first:]`."""

    at: int
    ids: Ids
    first: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """A trunk and what might have been said at places along it."""

    trunk: Ids
    branches: tuple[Branch, ...]

    def __post_init__(self) -> None:
        for branch in self.branches:
            fits = 0 <= branch.first < len(branch.ids) and 0 <= branch.at <= len(self.trunk)
            if not fits or not branch.at + branch.first:
                raise ValueError(
                    f"{branch} does not fit a trunk of {len(self.trunk)} ids: it leaves one of its "
                    "places, and something stands before the first id to score"
                )


@dataclass(slots=True)
class _Row:
    """A tree as the model reads it: node n holds `ids[n]` at position `spots[n]`.

    It sees the first `leaves[n]` ids of the trunk and the nodes `lines[n]`, itself the last.
    `wanted` are the ids to score, in order, and node `froms[k]` predicts `wanted[k]`.
    """

    tree: Tree
    trunk: int = 1  # ids of the trunk that some branch sees
    ids: list[int] = field(default_factory=list[int])
    spots: list[int] = field(default_factory=list[int])
    leaves: list[int] = field(default_factory=list[int])
    lines: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    froms: list[int] = field(default_factory=list[int])
    wanted: list[int] = field(default_factory=list[int])

    def grow(self) -> None:
        """Lays all branches out as a prefix tree."""
        known: dict[tuple[int, Ids], int] = {}
        trunk = self.tree.trunk
        for branch in self.tree.branches:
            start, ids, first = branch.at, branch.ids, branch.first
            while first > 1 and start < len(trunk) and ids[0] == trunk[start]:
                start, ids, first = start + 1, ids[1:], first - 1  # the trunk says the same
            if not first:  # what predicts the first id is the trunk's last: read it again
                start, ids, first = start - 1, (trunk[start - 1], *ids), 1
            line: tuple[int, ...] = ()
            for depth in range(len(ids) - 1):  # nothing is predicted from the last
                key = start, ids[: depth + 1]
                if key not in known:
                    known[key] = len(self.ids)
                    self.ids.append(ids[depth])
                    self.spots.append(start + depth)
                    self.leaves.append(start)
                    self.lines.append((*line, known[key]))
                line = (*line, known[key])
            self.froms += line[first - 1 :]
            self.wanted += ids[first:]
            self.trunk = max(self.trunk, start)


class _Kept:
    """Keys and values of trunks: a cache that is looked at again and again and never grows."""

    def __init__(self, cache: DynamicCache) -> None:
        layers = cast("list[Any]", cache.layers)
        self._layers = [(layer.keys, layer.values) for layer in layers]
        self.seen = 0  # how many ids of the trunks the next pass looks at

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Called by the model in each layer: what was kept, and the branches behind it."""
        old_keys, old_values = self._layers[layer_idx]
        return (
            torch.cat([old_keys[:, :, : self.seen], keys], dim=2),
            torch.cat([old_values[:, :, : self.seen], values], dim=2),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Asked by models that were given no position ids; ours always are."""
        return self.seen


class BranchScorer:
    """Scores trees under a causal model; one that refuses our masks gets a row per branch.

    Which it is, is tried once: the model's parts must not change, its weights may.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        self._model, self._pad = model, pad_id
        config = model.config.get_text_config()
        windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ())
        self._window: int | None = config.sliding_window if windowed else None
        self._vocab: int = config.vocab_size
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.shares = maskable(config) and self._agrees()

    def __call__(self, trees: Sequence[Tree]) -> list[list[tuple[float, ...]]]:
        """Per tree and branch, log p of each wanted id at temperature 1, in the order given."""
        if not self.shares:
            return self._plainly(trees)
        rows = [_Row(tree) for tree in trees]
        for row in rows:
            row.grow()
        found: list[list[float]] = [[] for _ in trees]
        with reading(self._model):
            for places in _batches(rows, self._vocab):
                values = self._pass([rows[place] for place in places])
                for place, mine in zip(places, values, strict=True):
                    found[place] = mine
        return [_by_branch(tree, values) for tree, values in zip(trees, found, strict=True)]

    def _plainly(self, trees: Sequence[Tree]) -> list[list[tuple[float, ...]]]:
        pairs = [
            (tree.trunk[: branch.at] + branch.ids[: branch.first], branch.ids[branch.first :])
            for tree in trees
            for branch in tree.branches
        ]
        scores = iter(scoring.score(self._model, pairs, self._pad))
        return [[next(scores) for _ in tree.branches] for tree in trees]

    def _pass(self, rows: Sequence[_Row]) -> list[list[float]]:
        """The wanted log-probs of each row: trunks at once, then branches in the trunk's order."""
        width = max(row.trunk for row in rows)
        trunk_BL = torch.full((len(rows), width), self._pad)
        for b, row in enumerate(rows):
            ids = row.tree.trunk[: row.trunk]
            trunk_BL[b, : len(ids)] = torch.tensor(ids)
        cache = DynamicCache()  # without a config every layer keeps all it saw
        device = next(self._model.parameters()).device
        self._model(
            input_ids=trunk_BL.to(device), past_key_values=cache, use_cache=True, **self._last_only
        )
        kept = _Kept(cache)
        found = [[0.0] * len(row.wanted) for row in rows]
        bounds = [width * part // _PARTS for part in range(1, _PARTS + 1)]
        for low, high in zip([-1, *bounds], bounds, strict=False):
            nodes = [[n for n, at in enumerate(row.leaves) if low < at <= high] for row in rows]
            if any(nodes):
                kept.seen = max(1, high)
                self._part(rows, nodes, kept, found)
        return found

    def _part(
        self,
        rows: Sequence[_Row],
        nodes: Sequence[Sequence[int]],
        kept: _Kept,
        found: list[list[float]],
    ) -> None:
        """Reads some nodes of every row, with all before them in their lines."""
        weight = next(self._model.parameters())
        size = len(rows), max(map(len, nodes))
        ids_BN = torch.full(size, self._pad)
        spot_BN = torch.zeros(size, dtype=torch.int64)
        leave_BN = torch.ones(size, dtype=torch.int64)  # padding sees one id
        line_BNN = torch.zeros((*size, size[1]), dtype=torch.bool)
        places: list[dict[int, int]] = []
        for b, (row, mine) in enumerate(zip(rows, nodes, strict=True)):
            places.append(place := {node: n for n, node in enumerate(mine)})
            ids_BN[b, : len(mine)] = torch.tensor([row.ids[node] for node in mine])
            spot_BN[b, : len(mine)] = torch.tensor([row.spots[node] for node in mine])
            leave_BN[b, : len(mine)] = torch.tensor([row.leaves[node] for node in mine])
            pairs = [(place[node], place[seen]) for node in mine for seen in row.lines[node]]
            line_BNN[b, [n for n, _ in pairs], [n for _, n in pairs]] = True
        column_L = torch.arange(kept.seen)
        sees_BNS = torch.cat([column_L < leave_BN[:, :, None], line_BNN], dim=2)
        mask: Any = _mask(sees_BNS, weight)
        if self._window is not None:
            spot_BS = torch.cat([column_L.expand(len(rows), kept.seen), spot_BN], dim=1)
            near_BNS = sees_BNS & (spot_BS[:, None] > spot_BN[:, :, None] - self._window)
            mask = {"full_attention": mask, "sliding_attention": _mask(near_BNS, weight)}
        logits_BNV = self._model(
            input_ids=ids_BN.to(weight.device),
            position_ids=spot_BN.to(weight.device),
            attention_mask=mask,
            past_key_values=kept,
            use_cache=True,
        ).logits
        for row, place, logits_NV, values in zip(rows, places, logits_BNV, found, strict=True):
            asked = [k for k, node in enumerate(row.froms) if node in place]
            froms = [place[row.froms[k]] for k in asked]
            for k, value in zip(asked, _read(logits_NV, froms, row.wanted, asked), strict=True):
                values[k] = value

    def _agrees(self) -> bool:
        """Two small trees against a row per branch."""
        size = self._vocab
        some = [(5, (1, 2, 3), 1), (5, (1, 2, 4, 2), 2), (9, (7, 1), 0), (2, (8,), 0)]
        branches = tuple(Branch(at, tuple(i % size for i in s), f) for at, s, f in some)
        trees = [Tree(tuple(i % size for i in range(3, 12)), branches[k:]) for k in (0, 1)]
        rows = [_Row(tree) for tree in trees]
        for row in rows:
            row.grow()
        weight = next(self._model.parameters())
        try:
            with reading(self._model):
                shared = [value for row in self._pass(rows) for value in row]
            plain = [value for tree in self._plainly(trees) for row in tree for value in row]
        except Exception:  # whatever this model refuses, it does not fit
            return False
        tolerance = 1e-3 if weight.dtype in (torch.float32, torch.float64) else 0.2
        return all(abs(a - b) <= tolerance for a, b in zip(shared, plain, strict=True))


def _batches(rows: Sequence[_Row], vocab: int) -> Iterator[list[int]]:
    """Places of rows with branches, longest trunk first, as many at a time as the limits allow."""
    order = [place for place, row in enumerate(rows) if row.ids]
    order.sort(key=lambda place: -rows[place].trunk)
    batch: list[int] = []
    for place in order:
        longest = rows[(batch or [place])[0]].trunk
        nodes = max(len(rows[each].ids) for each in (*batch, place))
        count = len(batch) + 1
        most = nodes * max(longest + nodes, vocab)
        if batch and (count * longest > _TOKENS or count * most > _NUMBERS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _mask(sees_BNS: Tensor, weight: Tensor) -> Tensor:
    mask_BNS = torch.zeros(sees_BNS.shape, dtype=weight.dtype)
    return mask_BNS.masked_fill_(~sees_BNS, float("-inf")).unsqueeze(1).to(weight.device)


def _read(
    logits_NV: Tensor, froms: Sequence[int], wanted: Sequence[int], asked: Sequence[int]
) -> list[float]:
    """log p of the ids `wanted[k]` for k in `asked`, each from its row of logits."""
    exact = torch.float32 if logits_NV.device.type == "mps" else torch.float64
    place_M = torch.tensor(froms, dtype=torch.int64, device=logits_NV.device)
    chosen_M = torch.tensor([wanted[k] for k in asked], dtype=torch.int64).to(logits_NV.device)
    logprobs_MV = torch.log_softmax(logits_NV[place_M].to(exact), dim=-1)
    return logprobs_MV.gather(1, chosen_M.unsqueeze(1)).squeeze(1).tolist()


def _by_branch(tree: Tree, values: Sequence[float]) -> list[tuple[float, ...]]:
    left = iter(values)
    return [tuple(next(left) for _ in branch.ids[branch.first :]) for branch in tree.branches]
