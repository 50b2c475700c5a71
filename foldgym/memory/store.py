"""What is kept from episode to episode: snapshots that never change, and one writer between them.

    snapshot -> episodes that all read it -> proposals -> merge -> the next snapshot

A snapshot is found by its address, a hash of its items. Episodes only propose; what is carried
out is decided when their groups are complete, so that members of a group never differ in what
they were shown (a baseline would be biased) and the order of finishing changes nothing.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from foldgym.errors import DataError, MemoryFault
from foldgym.types import Group, Item, Json, Snapshot, Trajectory

FORMAT = 1
Writers = Literal["all", "best", "majority"]
_KEPT = 64  # snapshots that `Store.at` still finds


class Store:
    """The snapshot that is read now (`head`), and how proposals become the next one.

    Who writes of a group: `"all"`; `"best"`, the first member with the highest reward, and nobody
    if the world says that it failed; `"majority"`, those whose answer more members gave than any
    other. Only `"best"` looks at rewards. An episode that had a guide's help never writes.

    At most `max_items` of at most `max_chars` characters together are kept: the `"oldest"` are
    retired first, or the `"unused"` ones, oldest first, before those just written. A `frozen`
    store never changes.
    """

    def __init__(
        self,
        writers: Writers = "all",
        retire: Literal["oldest", "unused"] = "oldest",
        max_items: int = 256,
        max_chars: int = 16000,
        *,
        frozen: bool = False,
    ) -> None:
        if max_items < 1 or max_chars < 1:
            raise ValueError(
                f"a store needs max_items >= 1 and max_chars >= 1, not max_items={max_items}, "
                f"max_chars={max_chars}"
            )
        self.writers: Writers = writers
        self.retire: Literal["oldest", "unused"] = retire
        self.frozen = frozen
        self.max_items, self.max_chars = max_items, max_chars
        self.head = Snapshot()
        self._merges = 0
        self._kept = {self.head.address: self.head}

    @property
    def label_free(self) -> bool:
        """Whether no reward decides what is written from now on."""
        return self.frozen or self.writers != "best"

    def empty(self) -> Store:
        """An empty store with the same rules."""
        return Store(self.writers, self.retire, self.max_items, self.max_chars, frozen=self.frozen)

    def at(self, address: str) -> Snapshot:
        """A snapshot by its address. Raises `DataError` for one that is none, or long past."""
        if address not in self._kept:
            raise DataError(
                f"no snapshot {address!r} among the last {len(self._kept)} of the store"
            )
        return self._kept[address]

    def merge(self, groups: Sequence[Group]) -> dict[str, float]:
        """Carries out what the finished groups propose; returns the store's numbers.

        In the order of task ids, then of members, whatever the order of `groups`. Of two that
        write one key the later wins. A text that is empty, or alone larger than the store, is
        left out. Raises `MemoryFault` if an episode read another snapshot than `head`.
        """
        head = self.head.address
        groups = sorted(groups, key=_order)
        for trajectory in [t for group in groups for t in group.trajectories]:
            if trajectory.proposal and trajectory.proposal.read != head:
                raise MemoryFault(
                    f"{trajectory.id} read the snapshot {trajectory.proposal.read}, but the store "
                    f"is at {head}: a group, and all groups of a step, must read one snapshot"
                )
        if self.frozen:
            return self._numbers(Counter())
        self._merges += 1
        counts: Counter[str] = Counter()
        items = {item.key: item for item in self.head.items}
        for group in groups:
            for trajectory in group.trajectories:
                self._use(items, trajectory)
        for trajectory in [t for group in groups for t in _chosen(group, self.writers)]:
            self._write(items, trajectory, counts)
        self._retire(items, counts)
        self._turn_to(Snapshot(tuple(items[key] for key in sorted(items))))
        return self._numbers(counts)

    def _use(self, items: dict[str, Item], trajectory: Trajectory) -> None:
        for key in dict.fromkeys(trajectory.proposal.used) if trajectory.proposal else ():
            if key in items:
                items[key] = replace(items[key], uses=items[key].uses + 1)

    def _write(self, items: dict[str, Item], trajectory: Trajectory, counts: Counter[str]) -> None:
        assert trajectory.proposal is not None
        counts["writers"] += 1
        for key in trajectory.proposal.drop:
            counts["dropped"] += items.pop(key, None) is not None
        for key, text in trajectory.proposal.put:
            known = items.get(key)
            if not text.strip() or len(text) > self.max_chars:
                counts["refused"] += 1
            elif known is None or known.text != text:
                counts["put"] += 1
                uses = known.uses if known else 0
                items[key] = Item(key, text, trajectory.id, self._merges, uses, self.label_free)

    def _retire(self, items: dict[str, Item], counts: Counter[str]) -> None:
        size = sum(len(item.text) for item in items.values())
        while len(items) > self.max_items or size > self.max_chars:
            gone = min(items.values(), key=self._worth)
            size -= len(items.pop(gone.key).text)
            counts["retired"] += 1

    def _worth(self, item: Item) -> tuple[bool, int, int, str]:
        new = item.born == self._merges
        return (new, item.uses if self.retire == "unused" else 0, item.born, item.key)

    def _turn_to(self, snapshot: Snapshot) -> None:
        self.head = snapshot
        self._kept.pop(snapshot.address, None)
        self._kept[snapshot.address] = snapshot
        while len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]

    def _numbers(self, counts: Mapping[str, int]) -> dict[str, float]:
        names = ("writers", "put", "dropped", "retired", "refused")
        items = self.head.items
        return {
            "store/items": float(len(items)),
            "store/chars": float(sum(len(item.text) for item in items)),
            **{f"store/{name}": float(counts.get(name, 0)) for name in names},
        }

    # ------------------------------------------------------------ kept on disk

    def state(self) -> dict[str, Json]:
        """All of it as JSON; `load` takes it back exactly. Equal items are written once."""
        shelf: dict[str, Json] = {}
        snapshots: list[Json] = []
        for address, snapshot in self._kept.items():
            keys = [_digest(item) for item in snapshot.items]
            shelf |= {key: asdict(item) for key, item in zip(keys, snapshot.items, strict=True)}
            snapshots.append({"address": address, "items": keys})
        return {"format": FORMAT, "merges": self._merges, "items": shelf, "snapshots": snapshots}

    def load(self, state: Mapping[str, Json]) -> None:
        """Takes back what `state` gave; the last snapshot becomes the head. Raises `DataError`."""
        if state.get("format") != FORMAT:
            raise DataError(
                f"a store of format {state.get('format')!r}; this foldgym reads format {FORMAT}"
            )
        try:
            shelf = {key: Item(**table) for key, table in state["items"].items()}
            kept = {
                each["address"]: Snapshot(tuple(shelf[key] for key in each["items"]))
                for each in state["snapshots"]
            }
            merges = int(state["merges"])
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise DataError(f"not a store: {type(problem).__name__}: {problem}") from None
        wrong = [address for address, snapshot in kept.items() if snapshot.address != address]
        if wrong or not kept:
            what = f"snapshot {wrong[0]} does not hold what its address says" if wrong else "empty"
            raise DataError(f"the store is damaged: {what}")
        self._merges, self._kept, self.head = merges, kept, list(kept.values())[-1]

    def save(self, path: str | Path) -> None:
        """Writes one JSON file, there completely or not at all. Raises `DataError`."""
        path = Path(path)
        half = path.with_name(f".{path.name}.{os.getpid()}")
        text = json.dumps(self.state(), indent=1, sort_keys=True) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            half.write_text(text, encoding="utf-8")
            half.replace(path)
        except OSError as problem:
            with suppress(OSError):
                half.unlink(missing_ok=True)
            raise DataError(f"cannot write the store {path}: {problem.strerror}") from None

    def read(self, path: str | Path) -> None:
        """Takes back what `save` wrote. Raises `DataError` that names the file."""
        try:
            state = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as problem:
            raise DataError(f"cannot read the store {path}: {problem.strerror}") from None
        except ValueError as problem:
            raise DataError(f"{path}: not a store: {problem}") from None
        if not isinstance(state, dict):
            raise DataError(f"{path}: not a store: {type(state).__name__} instead of an object")
        try:
            self.load(state)
        except DataError as problem:
            raise DataError(f"{path}: {problem}") from None


# ---------------------------------------------------------------- who writes


def _order(group: Group) -> tuple[str, str, int, str]:
    request = group.request
    task = group.trajectories[0].task.id if group.trajectories else ""
    return task, request.env, request.seed, request.reason


def _chosen(group: Group, writers: Writers) -> list[Trajectory]:
    """The members whose proposals are carried out, in their order."""
    able = [
        (trajectory, reward.total)
        for trajectory, reward in zip(group.trajectories, group.rewards, strict=True)
        if trajectory.proposal and not trajectory.counters.get("guided")
    ]
    if writers == "all" or not able:
        return [trajectory for trajectory, _ in able]
    if writers == "best":
        first = max(able, key=lambda pair: pair[1])[0]
        return [first] if first.facts.get("success", True) else []
    answers = [_answer(trajectory) for trajectory, _ in able]
    (common, votes), *others = Counter(answers).most_common(2)
    if others and others[0][1] == votes:
        return []
    pairs = zip(able, answers, strict=True)
    return [trajectory for (trajectory, _), answer in pairs if answer == common]


def _answer(trajectory: Trajectory) -> str:
    """What an episode answered: its fact `answer`, or what it said last."""
    if "answer" in trajectory.facts:
        return json.dumps(trajectory.facts["answer"], sort_keys=True, default=str)
    acts = [turn.message for turn in trajectory.turns if turn.purpose == "act"]
    calls = [[call.name, call.arguments] for call in acts[-1].tool_calls] if acts else []
    return json.dumps([acts[-1].text if acts else "", calls])


def _digest(item: Item) -> str:
    return blake2b(json.dumps(asdict(item)).encode(), digest_size=8).hexdigest()
