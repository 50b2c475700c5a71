"""Log-probs of many short continuations of one long text, for little more than the text itself.

The trunk is computed once and its keys and values are kept. All branches of all its places then go
through the model as one row: a branch sees the trunk up to where it leaves it, and itself, and
branches that begin alike are computed once (a prefix tree). No key or value is copied, and the
mask is as large as the branches, not as the trunk.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from foldgym.agents.engines import scoring
from foldgym.agents.engines.decoding import reading
from foldgym.agents.engines.solo import maskable
from foldgym.types import Ids

_TOKENS = 1 << 14  # of trunks in one pass, padding included
_NUMBERS = 1 << 26  # in one mask, or in the logits of one pass


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
    """A tree as the model reads it. Node n holds `ids[n]` at position `spots[n]`."""

    tree: Tree
    trunk: int = 1  # ids of the trunk that some branch sees
    ids: list[int] = field(default_factory=list[int])
    spots: list[int] = field(default_factory=list[int])
    leaves: list[int] = field(default_factory=list[int])  # how much of the trunk a node sees
    lines: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])  # ancestors, itself
    paths: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])  # by branch

    def grow(self) -> None:
        """Lays all branches out as a prefix tree."""
        known: dict[tuple[int, Ids], int] = {}
        for branch in self.tree.branches:
            start, ids = branch.at, branch.ids
            if not branch.first:  # what predicts the first id is the trunk's last: read it again
                start, ids = start - 1, (self.tree.trunk[start - 1], *ids)
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
            self.paths.append(line)
            self.trunk = max(self.trunk, start)


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
        found: list[list[tuple[float, ...]]] = [[] for _ in trees]
        with reading(self._model):
            for places in self._batches(rows):
                batch = [rows[place] for place in places]
                for place, scores in zip(places, self._pass(batch), strict=True):
                    found[place] = scores
        return found

    def _plainly(self, trees: Sequence[Tree]) -> list[list[tuple[float, ...]]]:
        pairs = [
            (tree.trunk[: branch.at] + branch.ids[: branch.first], branch.ids[branch.first :])
            for tree in trees
            for branch in tree.branches
        ]
        scores = iter(scoring.score(self._model, pairs, self._pad))
        return [[next(scores) for _ in tree.branches] for tree in trees]

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[int]]:
        """Places of rows, longest trunk first, as many at a time as the limits allow."""
        order = [place for place, row in enumerate(rows) if row.paths]
        order.sort(key=lambda place: -rows[place].trunk)
        batch: list[int] = []
        for place in order:
            longest = rows[(batch or [place])[0]].trunk
            nodes = max(len(rows[each].ids) for each in (*batch, place))
            count = len(batch) + 1
            most = max(nodes * (longest + nodes), nodes * self._vocab)
            if batch and (count * longest > _TOKENS or count * most > _NUMBERS):
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def _pass(self, rows: Sequence[_Row]) -> list[list[tuple[float, ...]]]:
        device = next(self._model.parameters()).device
        width = max(row.trunk for row in rows)
        trunk_BL = torch.full((len(rows), width), self._pad)
        for b, row in enumerate(rows):
            ids = row.tree.trunk[: row.trunk]
            trunk_BL[b, : len(ids)] = torch.tensor(ids)
        cache = DynamicCache()  # without a config every layer keeps all it saw
        self._model(
            input_ids=trunk_BL.to(device), past_key_values=cache, use_cache=True, **self._last_only
        )
        nodes = max(len(row.ids) for row in rows)
        ids_BN = torch.full((len(rows), nodes), self._pad)
        spot_BN = torch.zeros((len(rows), nodes), dtype=torch.int64)
        leave_BN = torch.ones((len(rows), nodes), dtype=torch.int64)  # padding sees one id
        line_BNN = torch.zeros((len(rows), nodes, nodes), dtype=torch.bool)
        for b, row in enumerate(rows):
            count = len(row.ids)
            ids_BN[b, :count] = torch.tensor(row.ids)
            spot_BN[b, :count] = torch.tensor(row.spots)
            leave_BN[b, :count] = torch.tensor(row.leaves)
            for node, line in enumerate(row.lines):
                line_BNN[b, node, list(line)] = True
        column_L = torch.arange(width)
        sees_BNS = torch.cat([column_L < leave_BN[:, :, None], line_BNN], dim=2)
        mask: Any = self._mask(sees_BNS)
        if self._window is not None:
            spot_B1S = torch.cat([column_L.expand(len(rows), width), spot_BN], dim=1)[:, None]
            near_BNS = sees_BNS & (spot_B1S > spot_BN[:, :, None] - self._window)
            mask = {"full_attention": mask, "sliding_attention": self._mask(near_BNS)}
        logits_BNV = self._model(
            input_ids=ids_BN.to(device),
            position_ids=spot_BN.to(device),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        ).logits
        return [self._read(row, logits_NV) for row, logits_NV in zip(rows, logits_BNV, strict=True)]

    def _mask(self, sees_BNS: Tensor) -> Tensor:
        weight = next(self._model.parameters())
        mask_BNS = torch.zeros(sees_BNS.shape, dtype=weight.dtype)
        return mask_BNS.masked_fill_(~sees_BNS, float("-inf")).unsqueeze(1).to(weight.device)

    def _read(self, row: _Row, logits_NV: Tensor) -> list[tuple[float, ...]]:
        """The wanted ids of every branch, each from the node before it."""
        froms: list[int] = []
        wanted: list[int] = []
        sizes: list[int] = []
        for branch, path in zip(row.tree.branches, row.paths, strict=True):
            target = branch.ids[branch.first :]
            froms += path[len(path) - len(target) :]
            wanted += target
            sizes.append(len(target))
        exact = torch.float32 if logits_NV.device.type == "mps" else torch.float64
        places = torch.tensor(froms, device=logits_NV.device)
        logprobs_MV = torch.log_softmax(logits_NV[places].to(exact), dim=-1)
        chosen_M1 = torch.tensor(wanted, device=logits_NV.device).unsqueeze(1)
        values = iter(logprobs_MV.gather(1, chosen_M1).squeeze(1).tolist())
        return [tuple(next(values) for _ in range(size)) for size in sizes]

    def _agrees(self) -> bool:
        """A small tree against a row per branch."""
        size = self._vocab
        trunk = tuple(token % size for token in range(3, 12))
        some = [(5, (1, 2, 3), 1), (5, (1, 2, 4, 2), 2), (9, (7, 1), 0), (2, (8,), 0)]
        tree = Tree(trunk, tuple(Branch(at, tuple(i % size for i in s), f) for at, s, f in some))
        row = _Row(tree)
        row.grow()
        weight = next(self._model.parameters())
        try:
            with reading(self._model):
                shared = self._pass([row])[0]
            plain = self._plainly([tree])[0]
        except Exception:  # whatever this model refuses, it does not fit
            return False
        tolerance = 1e-3 if weight.dtype in (torch.float32, torch.float64) else 0.2
        pairs = zip(sum(shared, ()), sum(plain, ()), strict=True)
        return all(abs(one - other) <= tolerance for one, other in pairs)
