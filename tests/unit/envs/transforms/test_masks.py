"""Masks: which spans are salient, what is masked, and what filling in is worth."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import foldgym
from foldgym.envs.base import ToolEnv
from foldgym.envs.index import Document, Index
from foldgym.envs.transforms.masks import Masks, f1, recall
from foldgym.envs.transforms.spans import Span, choose, mask, salient
from foldgym.errors import UserError
from foldgym.testing.contracts import check_env
from foldgym.testing.transforms import Bounded
from foldgym.tools import tool

LIVES = {
    "Ada Lovelace": (
        "Ada Lovelace met Charles Babbage on 5 June 1833. She was 17 years old and earned "
        "1,200 pounds."
    ),
    "Charles Babbage": "Charles Babbage was born in London. The engine had 25,000 parts in 1842.",
    "Empty": "nothing of note stands here.",
}


class Lives(ToolEnv):
    """A library of three passages."""

    max_turns = 4
    experts = ("optimal",)

    def setup(self, rng: random.Random) -> str:
        self.index = Index([Document(title, text) for title, text in LIVES.items()])
        return "Who?"

    def documents(self) -> tuple[Document, ...]:
        return self.index.documents

    @tool
    def search(self, query: str) -> str:
        """Search."""
        return "\n".join(each.text for each in self.index.search(query, 2)) or "nothing"

    @tool
    def answer(self, text: str) -> str:
        """Answer."""
        self.finish(0.0)
        return "wrong"

    def expert(self, style: str, rng: random.Random) -> Any:
        return "answer x"


def test_salient_spans_by_rule() -> None:
    spans = salient(LIVES["Ada Lovelace"], LIVES)
    assert spans == [
        Span("Ada Lovelace", "title"),
        Span("Charles Babbage", "title"),
        Span("5 June 1833", "date"),
        Span("1,200", "number"),
    ]
    assert [each.text for each in salient(LIVES["Charles Babbage"])] == [
        "Charles Babbage",
        "London",
        "25,000",
        "1842",
    ]


def test_words_at_the_start_of_a_sentence_are_names_only_if_seen_elsewhere() -> None:
    assert [each.text for each in salient("Rain fell. Paris slept. He left Paris.")] == ["Paris"]
    assert salient("Rain fell. Rain stopped.\nRain came") == []


def test_spans_inside_longer_words_are_left_out() -> None:
    assert salient("He saw Bob and Bobby and Bobby.") == [Span("Bobby", "name")]
    assert salient("In 1999 came x1999y") == []


def test_masks_are_numbered_in_reading_order_everywhere() -> None:
    text = "Bob met Ann Lee. bob left; ann lee stayed."
    assert mask(text, [Span("Ann Lee", "name"), Span("Bob", "name")]) == (
        "[1] met [2]. [1] left; [2] stayed.",
        ["Bob", "Ann Lee"],
    )
    assert mask(text, []) == (text, [])


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_masked_string_does_not_remain(seed: int, k: int) -> None:
    text = " ".join(LIVES.values())
    chosen = choose(salient(text, LIVES), k, random.Random(seed))
    assert len(chosen) == k
    shown, golds = mask(text, chosen)
    assert len(set(golds)) == k
    for at, gold in enumerate(golds, 1):
        assert gold.casefold() not in shown.casefold()
        assert f"[{at}]" in shown
    restored = shown
    for at, gold in enumerate(golds, 1):
        restored = restored.replace(f"[{at}]", gold)
    assert restored == text


def test_longer_spans_are_drawn_more_often() -> None:
    spans = [Span("a" * 30, "name"), Span("bbb", "name")]
    first = [choose(spans, 1, random.Random(seed))[0].text[0] for seed in range(300)]
    assert 0.85 < first.count("a") / 300 < 0.97  # 10/11, five standard deviations of 0.017


@pytest.mark.parametrize(
    ("given_", "gold", "words", "both"),
    [
        ("5 June 1833", "5 june 1833", 1.0, 1.0),
        ("June 1833", "5 June 1833", 2 / 3, 0.8),
        ("5 June 1833 in London", "5 June 1833", 1.0, 0.75),
        ("", "5 June 1833", 0.0, 0.0),
        ("June June", "June", 1.0, 2 / 3),
    ],
)
def test_recall_and_f1_of_words(given_: str, gold: str, words: float, both: float) -> None:
    assert recall(given_, gold) == pytest.approx(words)
    assert f1(given_, gold) == pytest.approx(both)


def masked(k: int, seed: int = 0, **options: Any) -> Any:
    env = Masks(Lives(), k=k, **options)
    env.reset(seed=seed)
    return env


def test_filling_in_is_scored_mask_by_mask() -> None:
    env = masked(2)
    golds = env.now.golds
    step = env.step(f"fill {golds[0].upper()} ; nobody")
    assert step.observation[0].text == "1 of 2 right"
    assert (step.reward, step.terminated) == (0.5, True)
    facts = env.measure()
    assert facts["masks"] == [1.0, 0.0]
    assert (facts["score"], facts["success"]) == (0.5, False)


def test_the_score_may_be_recall() -> None:
    seeds = range(30)
    seed = next(s for s in seeds if masked(1, s).now.golds == ["5 June 1833"])
    env = masked(1, seed, score="recall")
    assert env.step("fill June 1833").reward == pytest.approx(2 / 3)
    assert not env.measure()["success"]
    assert env.measure()["f1"] == pytest.approx(0.8)


def test_the_worlds_own_answer_is_gone_and_its_search_stays() -> None:
    env = masked(1)
    assert [each.name for each in env.tools] == ["search", "fill"]
    assert "Babbage" in env.step("search Babbage").observation[0].text
    step = env.step(foldgym.Message("assistant", tool_calls=(foldgym.ToolCall("answer", "{}"),)))
    assert step.observation[0].text == "error: there is no tool 'answer'; use fill"
    assert not step.terminated
    text = env.step("hello").observation[0].text
    assert text == "error: there is no tool call in your message. Tools: search, fill"
    assert env.measure()["errors"] == 2


def test_subjects_are_never_masked_and_passages_grow_until_there_are_enough() -> None:
    for seed in range(20):
        env = masked(4, seed)
        text = env.task.prompt[0].text
        assert all(title not in env.now.golds for title in LIVES if title in text)
        assert all(f"[{at}]" in text for at in range(1, 5))
    with pytest.raises(UserError, match="has 16 spans to mask; the best has"):
        masked(16)


def test_passages_with_marks_like_ours_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIVES, "Noted", "Noted in Paris [1] and in Rome on 3 May 1900.")
    for seed in range(30):
        assert "Paris" not in masked(1, seed).task.prompt[0].text


def test_passages_of_question_worlds_will_do() -> None:
    env: Any = foldgym.make("foldgym/FictionalQA-v0", transforms=[{"use": "masks", "k": 3}])
    assert all(Bounded(0, 0, 0)(env, seed) for seed in range(5))
    assert [each.name for each in env.tools] == ["search", "open", "find", "fill"]


def test_worlds_without_documents_are_refused() -> None:
    with pytest.raises(UserError, match=r"method documents\(\)"):
        Masks(foldgym.make("foldgym/KeyDoor-v0"))
    assert Masks(foldgym.make("foldgym/KeyDoor-v0"), k=0).off


def test_it_keeps_every_promise_and_the_expert_solves_it() -> None:
    assert check_env(lambda: Masks(Lives(), k=2)) == []  # type: ignore[arg-type,return-value]
    env: Any = Masks(Lives(), k=3)
    assert all(Bounded(0, 0, 0)(env, seed) for seed in range(10))
    assert env.measure()["turns"] == 4
    for seed in range(5):
        env.reset(seed=seed)
        while not (step := env.step(env.expert("hasty", random.Random(0)))).terminated:
            assert not step.truncated
        assert env.measure()["masks"] == [1.0, 1.0, 0.0]
