"""What memories cost on a long episode: by hand where a formula says it, and bounded where it must.

A turn of the watcher adds `look 3<end>` (7 ids), an answer (24) and a header (1) to the question
with its header (20).
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.suites.memory import TURNS, Watcher, cost, played, seconds
from foldgym.memory import MEMORIES
from foldgym.memory.notes import STATE

GROWS = {  # by the whole of every turn
    *("full", "delethink", "reminder", "cheatsheet", "cheatsheet_rs", "keys", "vectors"),
    *("recursive", "reseek", "drop_thinking"),
}
GROWS_SLOWLY = {"omit", "errors", "edit", "hiagent"}


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_contexts_stay_unless_a_memory_keeps_something_of_every_turn(name: str) -> None:
    found = cost(played(name, Watcher()))
    assert len(found["contexts"]) == TURNS
    assert found["constant"] == (name not in GROWS | GROWS_SLOWLY)
    if name in GROWS:
        assert found["contexts"][-1] >= 20 + 30 * (TURNS - 1)
        assert found["segments"] == 1
    assert found["prompt_tokens"] >= sum(found["contexts"])
    assert found["computed_tokens"] < found["prompt_tokens"]
    assert found["rewrite_ratio"] > 1


def test_the_full_history_by_hand() -> None:
    found = cost(played("full", Watcher(), 60))
    assert found["contexts"] == [20 + 32 * turn for turn in range(60)]
    assert found["prompt_tokens"] == 20 * 60 + 32 * 60 * 59 // 2
    assert found["context_peak"] == 20 + 32 * 59 + 7
    assert found["segment_tokens"] == found["context_peak"]
    assert found["rewrite_ratio"] == round((20 + 32 * 59 + 7) / (60 * 7), 2)
    # anew each turn: the last id said, the answer and the header; at first the question
    assert found["computed_tokens"] == 20 + 59 * (1 + 24 + 1)


def test_memories_of_one_size_by_hand() -> None:
    window = cost(played("window", Watcher(), 60))  # four turns
    assert window["contexts"] == [20 + 32 * min(turn, 4) for turn in range(60)]
    assert window["segments"] == 1 + 60 - 5  # the first view that drops a turn is the sixth
    state = cost(played("mem1", Watcher(), 60))
    told = len(STATE) + 2
    assert state["contexts"] == [20 + told + 32 * min(turn, 1) for turn in range(60)]


def test_kept_keys_and_values_compute_every_id_once() -> None:
    torch.set_num_threads(1)
    for batching in ("rounds", "dynamic"):
        found = seconds(batching, turns=6, window=2, repeats=1)
        kept, anew = found["kept"], found["anew"]
        assert anew["kept_tokens"] == 0
        # a question of 20 ids, then at most 1 + 24 + 2 new ones a turn, and no id a second time
        assert kept["computed_tokens"] <= 20 + 6 * 27
        assert kept["kept_tokens"] > kept["computed_tokens"]
        assert anew["computed_tokens"] > 2 * kept["computed_tokens"]
