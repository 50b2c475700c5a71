from __future__ import annotations

from dataclasses import replace

import pytest

from foldgym.agents.recorder import Recorder, encode_view
from foldgym.agents.renderers import CompactRenderer
from foldgym.errors import MemoryFault
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import Completion, Log, Ref, Synth, View

TOKENS = ByteTokenizer()
ASSISTANT, END = TOKENS.control("<|assistant|>"), TOKENS.control("<|end|>")


def said(*ids: int, version: int = 0) -> Completion:
    return Completion(ids, tuple(-i / 10 for i in ids), version)


def test_a_context_that_grew_extends_the_segment() -> None:
    recorder = Recorder()
    recorder.call((1, 2), said(3, 4, version=5), 0)
    recorder.call((1, 2, 3, 4, 9), said(6, version=7), 1)
    (segment,) = recorder.freeze()
    assert segment.token_ids == (1, 2, 3, 4, 9, 6)
    assert segment.turn_ids == (-1, -1, 0, 0, -1, 1)
    assert segment.logprobs == (0.0, 0.0, -0.3, -0.4, 0.0, -0.6)
    assert segment.versions == (-1, -1, 5, 5, -1, 7)
    assert segment.trained == 3


def test_weights_may_change_within_a_completion() -> None:
    recorder = Recorder()
    recorder.call((1, 2), replace(said(3, 4, 5), versions=(5, 5, 6)), 0)
    assert recorder.freeze()[0].versions == (-1, -1, 5, 5, 6)
    with pytest.raises(MemoryFault, match="turn 1: 1 sampled ids but 2 versions"):
        recorder.call((1, 2, 3, 4, 5), replace(said(7), versions=(6, 6)), 1)


def test_a_context_that_changed_opens_a_segment_in_which_old_ids_are_context() -> None:
    recorder = Recorder()
    recorder.call((1, 2), said(3), 0)
    recorder.call((1, 3), said(4), 1)
    first, second = recorder.freeze()
    assert (first.turn_ids, second.turn_ids) == ((-1, -1, 0), (-1, -1, 1))


def test_a_rewrite_that_was_not_declared_is_a_fault() -> None:
    recorder = Recorder()
    recorder.call((1, 2), said(3), 0)
    with pytest.raises(MemoryFault, match="turn 1"):
        recorder.call((1, 3), said(4), 1, may_rewrite=False)


def test_lineages_keep_their_own_segments_and_the_untrained_are_marked() -> None:
    recorder = Recorder()
    recorder.call((1,), said(2), 0)
    recorder.call((5,), said(6), 1, lineage="critic", trainable=False)
    recorder.call((1, 2, 3), said(4), 2)
    main, critic = recorder.freeze()
    assert (main.token_ids, main.lineage, main.trained) == ((1, 2, 3, 4), "main", 2)
    assert (critic.lineage, critic.trained) == ("critic", 0)


def test_views_frame_policy_turns_and_end_with_a_header() -> None:
    log = Log()
    log.append("task", (1,), "env")
    log.append("model", (7, END), "policy", turn=0)
    log.append("model", (8,), "policy", turn=1)  # cut off by a length limit: no end token
    view = View((Ref(0), Ref(1), Synth((3,), "glue"), Ref(2)))
    assert encode_view(view, log, CompactRenderer(TOKENS)) == (
        *(1, ASSISTANT, 7, END, 3, ASSISTANT, 8, END, ASSISTANT),
    )


def test_an_open_turn_ends_with_the_unfinished_ids() -> None:
    log = Log()
    log.append("task", (1,), "env")
    log.append("model", (7, 8, 9), "policy", turn=0)
    view = View((Ref(0), Ref(1, 0, 1), Ref(1, 2)), open_turn=True)
    assert encode_view(view, log, CompactRenderer(TOKENS)) == (1, ASSISTANT, 7, 9)
