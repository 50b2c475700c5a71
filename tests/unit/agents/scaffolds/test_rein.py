"""ReIn: when it triggers, what is planted, and that nothing changes where it does not."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scaffold_play import staged

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer
from foldgym.agents.rollout import Limits
from foldgym.agents.scaffolds.react import ReAct
from foldgym.agents.scaffolds.rein import ReIn
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.tools import call
from foldgym.types import Message, Prompt, Trajectory

COMPACT = CompactRenderer(ByteTokenizer())
CASE = {"shop": {"pattern": "the shop has no", "plan": "They do not sell it."}}


def played(lines: list[str | Message], **options: Any) -> tuple[Trajectory, list[str]]:
    """An episode, and the ids each act was sampled on, as text."""
    said, shown = iter(lines), list[str]()
    more = {key: options.pop(key) for key in ("aux", "renderer") if key in options}
    judged = options.pop("judged", [])
    verdicts = iter(judged)

    def speak(prompt: Prompt, rng: random.Random) -> str | Message:
        if prompt.purpose != "act":
            return next(verdicts, "nothing")
        shown.append(COMPACT.tokenizer.decode(prompt.ids))
        return next(said)

    group = staged(
        FunctionPolicy(speak), lambda: ReIn(**options), limits=Limits(max_turns=len(lines)), **more
    )
    assert not group.failures, group.failures[0].error
    return group.trajectories[0], shown


def test_a_plan_begins_the_next_turn() -> None:
    trajectory, shown = played(["buy gold", "buy milk", "look"], cases=CASE)
    planted = "<|assistant|><think>\nThey do not sell it.\n</think>\n"
    assert shown[0].endswith("<|assistant|>")
    assert shown[1].endswith(planted)
    assert f"{planted}buy milk<|end|>" in shown[2]
    assert shown[2].endswith("you have milk<|end|><|assistant|>")
    assert trajectory.facts["inceptions"] == [{"turn": 1, "error": "shop"}]
    acts = [turn for turn in trajectory.turns if turn.purpose == "act"]
    assert [call.name for call in acts[1].message.tool_calls] == ["buy"]
    assert acts[1].message.thinking == "<think>\nThey do not sell it.\n</think>\n"
    (segment,) = trajectory.segments
    trained = [i for i, turn in zip(segment.token_ids, segment.turn_ids, strict=True) if turn >= 0]
    assert COMPACT.tokenizer.decode(trained) == "buy gold<|end|>buy milk<|end|>look<|end|>"


@pytest.mark.parametrize("renderer", [CompactRenderer, ChatMLRenderer])
def test_without_a_trigger_the_context_is_the_same_to_the_byte(renderer: Any) -> None:
    never = {"never": {"pattern": "no such text ever", "plan": "?"}}
    calls = []
    for make in (ReAct, lambda: ReIn(cases=never)):
        policy = HashPolicy(renderer(ByteTokenizer()))
        staged(policy, make, n=2, renderer=policy.renderer)
        calls.append(policy.calls)
    assert calls[0] == calls[1]
    assert len(calls[0]) > 4


def test_the_task_itself_may_trigger_and_a_limit_ends_it() -> None:
    case = {"always": {"pattern": "", "plan": "Think."}}
    trajectory, shown = played(["look", "look", "look"], cases=case, limit=2)
    ends = [text.rpartition("<|assistant|>")[2] for text in shown]
    assert ["Think." in end for end in ends] == [True, True, False]
    assert trajectory.counters["inceptions"] == 2


def test_the_worlds_own_errors_are_known_without_cases() -> None:
    trajectory, _ = played([call("fly"), "look", "buy gold", "look"])
    assert [each["error"] for each in trajectory.facts["inceptions"]] == ["misread", "misread"]


def test_reasoning_that_is_left_open_is_gone_on_with() -> None:
    chatml = ChatMLRenderer(ByteTokenizer())
    trajectory, _ = played(
        [
            call("buy", thing="gold"),
            "so I take milk\n</think>\n<tool_call>\n"
            '{"name": "buy", "arguments": {"thing": "milk"}}\n</tool_call>',
            call("look"),
        ],
        cases=CASE,
        closing="",
        renderer=chatml,
    )
    acts = [turn for turn in trajectory.turns if turn.purpose == "act"]
    assert acts[1].message.thinking == "They do not sell it.so I take milk"
    assert acts[1].observation[0].text == "you have milk"


def test_a_model_names_the_error_and_may_write_the_plan() -> None:
    judged = ['{"error": "none"}', '{"error": "shop", "plan": "Take salt."}', '{"error": "shop"}']
    trajectory, shown = played(["look", "buy gold", "look"], by="policy", cases=CASE, judged=judged)
    ends = [text.rpartition("<|assistant|>")[2] for text in shown]
    assert ends[0] == ""
    assert "Take salt." in ends[1]
    assert "They do not sell it." in ends[2]
    assert {segment.lineage for segment in trajectory.segments} == {"main", "inception"}
    asked = next(turn for turn in trajectory.turns if turn.lineage == "inception")
    assert asked.purpose == "inception"


@pytest.mark.parametrize("verdict", ["", "shop", '{"error": "other"}', '{"error": 3}', "[1]"])
def test_what_a_model_says_besides_is_no_trigger(verdict: str) -> None:
    aux = FunctionPolicy(lambda prompt, rng: verdict)
    trajectory, shown = played(["look", "look"], by="aux", cases=CASE, aux=aux)
    assert all(text.endswith("<|assistant|>") for text in shown)
    assert trajectory.facts["inceptions"] == []
    assert {segment.lineage for segment in trajectory.segments} == {"main"}


def test_recovery_tools_answer_for_the_world() -> None:
    trajectory, _ = played(
        ["ask_back which shop?", "ask_back again\nlook", "buy milk"],
        recovery={"ask_back": "Nobody is there."},
        cases=CASE,
    )
    heard = [[message.text for message in turn.observation] for turn in trajectory.turns]
    assert heard[0] == ["Nobody is there."]
    assert heard[1][0] == "Nobody is there."
    assert heard[1][1].startswith("rain")
    assert heard[2] == ["you have milk"]


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="case 'x' needs a pattern and a plan, not plan"):
        ReIn(cases={"x": {"plan": "p"}})
    with pytest.raises(ValueError, match=r"case 'x': '\(' is no pattern"):
        ReIn(cases={"x": {"pattern": "(", "plan": "p"}})
    with pytest.raises(ValueError, match="at least 1"):
        ReIn(limit=0)
