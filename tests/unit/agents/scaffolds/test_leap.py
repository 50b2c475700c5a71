"""LeaP: pauses, routes, comments as context, votes, and what outvoted paths hear."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaffold_play import Errands, staged

from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits
from foldgym.agents.scaffolds.leap import LeaP, Router, paragraphs, route
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import (
    Completion,
    EnvHandle,
    Finish,
    Guide,
    Prompt,
    Request,
    Sampling,
    Session,
    Stop,
    Trajectory,
)

RENDERER = CompactRenderer(ByteTokenizer())
Speak = Callable[[int, Prompt], str]


class Pathwise:
    """A token policy: `speak(path, prompt)` is the text that a path goes on with.

    A text that ends with "|" ends the turn.
    """

    version = 0

    def __init__(self, speak: Speak) -> None:
        self.speak, self.calls = speak, list[tuple[int, str, str]]()
        self.opened = 0

    def open(self, seed: int, env: EnvHandle) -> Session:
        place, policy = self.opened, self
        self.opened += 1

        class One:
            async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
                text = policy.speak(place, prompt)
                ids = RENDERER.tokenizer.encode(text.rstrip("|"))
                if text.endswith("|"):
                    ids = (*ids, *RENDERER.stop_ids)
                ids = ids[: sampling.max_tokens]
                ended = ids[-1] in RENDERER.stop_ids
                shown = RENDERER.tokenizer.decode(prompt.ids)
                policy.calls.append((place, prompt.purpose, shown))
                finish = Finish.STOP if ended else Finish.LENGTH
                return Completion(ids, (-1.0,) * len(ids), 0, finish)

            def close(self) -> None:
                pass

        return One()


def played(speak: Speak, turns: int = 1, **options: Any) -> tuple[Trajectory, Pathwise]:
    policy = Pathwise(speak)
    settings = {"paths": 3, "every": 10, "pauses": 2, "summary_tokens": 6, "peers": 1} | options
    group = staged(policy, lambda: LeaP(**settings), limits=Limits(max_turns=turns))
    assert not group.failures, group.failures[0].error
    return group.trajectories[0], policy


def thinking(path: int, prompt: Prompt) -> str:
    """Paths think at length, sum up by their number, and look at last."""
    if prompt.purpose == "summarise":
        return f"sum {path}"
    if "answer now" in RENDERER.tokenizer.decode(prompt.ids).rpartition("<|assistant|>")[2]:
        return "look|"
    return f"thought {path} goes on and on"


def test_paths_pause_together_and_read_a_peer() -> None:
    trajectory, policy = played(thinking)
    purposes = [(path, purpose) for path, purpose, _ in policy.calls]
    round_ = [(path, "path") for path in range(3)] + [(path, "summarise") for path in range(3)]
    assert purposes == [*round_, *round_, *((path, "path") for path in range(3))]
    # the second piece goes on where the first was, with the own summary and the peer's
    (second,) = [shown for path, _, shown in policy.calls[6:7] if path == 0]
    begun = second.rpartition("<|assistant|>")[2]
    assert begun.startswith("thought 0 \n")
    assert begun.endswith("<summarize>sum 0</summarize>\n<comment>sum 1</comment>\n")
    assert trajectory.stop is Stop.MAX_TURNS
    assert [turn.purpose for turn in trajectory.turns if turn.lineage == "path/0"] == [
        *("act", "summarise", "summarise"),
    ]


def test_what_is_inserted_is_never_trained() -> None:
    trajectory, _ = played(thinking)
    for segment in trajectory.segments:
        pairs = zip(segment.token_ids, segment.turn_ids, strict=True)
        said = RENDERER.tokenizer.decode([token for token, turn in pairs if turn >= 0])
        assert "<" not in said.replace("<|end|>", "")
        whole = RENDERER.tokenizer.decode(segment.token_ids)
        assert "I must answer now" in whole or "comment" not in whole


def test_thinking_comes_before_the_action_of_a_turn() -> None:
    trajectory, _ = played(thinking)
    act = next(turn for turn in trajectory.turns if turn.purpose == "act")
    assert [call.name for call in act.message.tool_calls] == ["look"]
    assert act.message.thinking.startswith("thought 0 ")
    assert act.message.thinking.endswith("I must answer now.\n")
    assert trajectory.counters["votes_agreed"] == 3


def test_a_turn_that_ends_early_waits_for_nobody() -> None:
    def speak(path: int, prompt: Prompt) -> str:
        return "look|" if path == 0 else thinking(path, prompt)

    _, policy = played(speak)
    assert [purpose for path, purpose, _ in policy.calls if path == 0] == ["path"]
    comments = [shown for path, _, shown in policy.calls if path == 1]
    assert "<comment>sum 2</comment>" in comments[-1]
    assert not any("sum 0" in shown for shown in comments)

    def alone(path: int, prompt: Prompt) -> str:
        return thinking(path, prompt) if path == 2 else "look|"

    _, policy = played(alone)
    assert "summarise" not in [purpose for _, purpose, _ in policy.calls]


def test_most_paths_decide_and_the_others_hear_of_it() -> None:
    def speak(path: int, prompt: Prompt) -> str:
        return ("buy milk|", "buy salt|", "buy salt|")[path]

    trajectory, _ = played(speak)
    acts = [turn for turn in trajectory.turns if turn.purpose == "act"]
    assert [turn.lineage for turn in acts] == ["path/1"]
    by = {turn.lineage: turn.observation[-1] for turn in trajectory.turns}
    assert (by["path/1"].role, by["path/1"].text) == ("tool", "you have salt")
    assert by["path/2"].text == "you have salt"
    assert by["path/0"].role == "user"
    assert by["path/0"].text == (
        'The group decided for another action: buy {"thing": "salt"}\nyou have salt'
    )
    assert trajectory.counters["votes_agreed"] == 2


def test_the_first_of_equals_decides_and_rewards_count_once() -> None:
    def speak(path: int, prompt: Prompt) -> str:
        shown = RENDERER.tokenizer.decode(prompt.ids)
        wanted = shown.partition("bring ")[2].partition("<")[0]
        if "you have" in shown:
            return "answer here|"
        return f"buy {wanted}|" if path == 0 else f"buy other{path}|"

    trajectory, _ = played(speak, turns=4)
    assert trajectory.stop is Stop.DONE
    assert trajectory.facts["score"] == 1.0
    assert sum(turn.reward for turn in trajectory.turns) == 1.0
    assert sum(turn.purpose == "act" for turn in trajectory.turns) == 2


def test_unreadable_turns_of_all_paths_end_the_episode() -> None:
    trajectory, _ = played(lambda path, prompt: '{"name": "buy", |', turns=9)
    assert trajectory.stop is Stop.PARSE_ERRORS
    assert sum(bool(turn.problem) for turn in trajectory.turns) == 9  # three paths, three turns


def test_the_last_unfinished_paragraph_is_taken_back() -> None:
    def speak(path: int, prompt: Prompt) -> str:
        if prompt.purpose == "path" and "<summarize>" not in RENDERER.tokenizer.decode(prompt.ids):
            return "one\n\ntwo t"
        return thinking(path, prompt)

    _, policy = played(speak, pauses=1)
    trigger = next(shown for _, purpose, shown in policy.calls if purpose == "summarise")
    assert trigger.rpartition("<|assistant|>")[2].startswith("one\n\n\n")
    assert "two" not in trigger
    _, policy = played(speak, pauses=1, trim=False)
    assert "one\n\ntwo t\n" in policy.calls[3][2]


def test_paragraphs() -> None:
    class Talk:
        renderer = RENDERER

    def of(text: str) -> int:
        return paragraphs(RENDERER.tokenizer.encode(text), Talk())  # type: ignore[arg-type]

    assert of("one\n\ntwo") == 5
    assert of("no break") == 8
    assert of("ends\n\n") == 6


def test_a_guide_plays_for_every_path() -> None:
    class Taught(Errands):
        experts = ("optimal",)

        def expert(self, style: str, rng: random.Random) -> str:
            return f"buy {self.wanted}"

    policy = Pathwise(lambda path, prompt: "look|")
    request = Request("errands", 3, 1, guides=(Guide(lead=1),))
    group = staged(
        policy, lambda: LeaP(paths=2, peers=1), world=Taught, request=request, limits=Limits(3)
    )
    (trajectory,) = group.trajectories
    led = [turn for turn in trajectory.turns if turn.purpose == "replay"]
    assert [turn.lineage for turn in led] == ["path/0", "path/1"]
    assert all("you have" in shown for _, _, shown in policy.calls)
    assert sum(turn.purpose == "act" for turn in trajectory.turns) == 2


@given(
    texts=st.lists(st.text("ab ", max_size=6), min_size=2, max_size=6),
    k=st.integers(1, 5),
    router=st.sampled_from(["dispersed", "clustered", "hybrid"]),
)
def test_routes_have_no_loops(texts: list[str], k: int, router: Router) -> None:
    for place, chosen in enumerate(route(texts, k, router)):
        assert place not in chosen
        assert len(chosen) == len(set(chosen)) == min(k, len(texts) - 1)


def test_routes_by_hand() -> None:
    texts = ["a b", "a b c", "x y", "a x"]
    # of the first: 2/3, 0, 1/3; so the nearest is the second, the farthest the third
    assert route(texts, 2, "clustered")[0] == [1, 3]
    assert route(texts, 2, "dispersed")[0] == [2, 3]
    assert route(texts, 2, "hybrid")[0] == [1, 2]


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="1 <= peers < paths"):
        LeaP(paths=2, peers=2)
    with pytest.raises(ValueError, match="every"):
        LeaP(every=0)
