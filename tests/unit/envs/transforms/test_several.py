"""Several tasks in one episode: objectives side by side, chains, and what both share."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

import foldgym
from foldgym.envs.base import ToolEnv
from foldgym.envs.transforms.base import stretched
from foldgym.envs.transforms.chain import Chain, Link, chain_summary, expected_accuracy
from foldgym.envs.transforms.objectives import Objectives
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.testing.transforms import Bounded
from foldgym.tools import call, tool
from foldgym.types import Message, Task

FICTIONAL, ARITHMETIC = "foldgym/FictionalSearch-v0", "foldgym/Arithmetic-v0"


class Sums(ToolEnv):
    """What is a + b? The note helps with nothing; three turns."""

    max_turns = 3
    experts = ("optimal",)

    def setup(self, rng: random.Random) -> str:
        self.a, self.b = rng.randint(10, 99), rng.randint(10, 99)
        self.notes: list[str] = []
        return f"What is {self.a} + {self.b} ?"

    @tool
    def note(self, text: str) -> str:
        """Write something down."""
        self.notes.append(text)
        return f"{len(self.notes)} notes"

    @tool
    def peek(self) -> str:
        """See the first number."""
        return str(self.a)

    @tool
    def answer(self, value: int) -> str:
        """Answer."""
        right = value == self.a + self.b
        self.finish(float(right))
        return "right" if right else "wrong"

    def expert(self, style: str, rng: random.Random) -> Message:
        return call("answer", value=self.a + self.b)


class Wordy(Sums):
    def setup(self, rng: random.Random) -> Any:
        super().setup(rng)
        return [Message("system", "Add."), Message("user", f"{self.a} and {self.b}?")]


class Told(Sums):
    def setup(self, rng: random.Random) -> Any:
        return [Message("user", super().setup(rng)), call("peek"), Message("tool", "?")]


class Hopeless(Sums):
    def expert(self, style: str, rng: random.Random) -> Message:
        return call("answer", value=0)


def sums(env: Any) -> list[int]:
    return [each.unwrapped.a + each.unwrapped.b for each in env.copies]


def begun(env: Any, seed: int) -> Any:
    env.reset(seed=seed)
    return env


def texts(step: Any) -> list[str]:
    return [each.text for each in step.observation]


# ---------------------------------------------------------------- joint


def test_joint_answers_are_scored_by_position() -> None:
    env = Objectives(Sums(), k=3)
    env.reset(seed=4)
    first, _, third = sums(env)
    step = env.step(f"answer {first}; 7 ;{third}")
    assert texts(step) == ["1: right\n2: wrong\n3: right"]
    assert step.terminated
    assert step.reward == pytest.approx(2 / 3)
    facts = env.measure()
    assert facts["scores"] == [1.0, 0.0, 1.0]
    assert (facts["score"], facts["success"], facts["solved"]) == (pytest.approx(2 / 3), False, 2)


def test_without_normalising_the_reward_is_the_number_of_right_answers() -> None:
    env = Objectives(Sums(), k=3, normalise=False)
    env.reset(seed=4)
    step = env.step("answer " + ";".join(map(str, sums(env))))
    assert step.reward == env.measure()["score"] == 3.0
    assert env.measure()["success"]


def test_missing_and_further_pieces() -> None:
    env = Objectives(Sums(), k=2)
    env.reset(seed=0)
    first, second = sums(env)
    step = env.step(f"answer {first}")
    assert texts(step) == ["1: right\n2: no answer"]
    env.reset(seed=0)
    step = env.step(f"answer {first}; {second}; 9; 9")
    assert step.reward == 1.0


def test_an_answer_of_the_wrong_type_is_only_wrong() -> None:
    env = Objectives(Sums(), k=2)
    env.reset(seed=0)
    step = env.step(f"answer many; {sums(env)[1]}")
    assert texts(step)[0].splitlines()[0].startswith("1: error: answer: value:")
    assert step.terminated
    assert env.measure()["scores"] == [0.0, 1.0]


def test_equal_replies_are_shown_once_and_others_by_number() -> None:
    env = Objectives(Sums(), k=2)
    env.reset(seed=1)
    a, b = (each.unwrapped.a for each in env.copies)
    step = env.step(Message("assistant", tool_calls=(*call("note", text="x").tool_calls,) * 2))
    assert texts(step) == ["1 notes", "2 notes"]
    assert texts(env.step("peek")) == [f"[1] {a}\n[2] {b}"]


def test_calls_around_the_joint_answer() -> None:
    env = Objectives(Sums(), k=2)
    env.reset(seed=1)
    first, second = sums(env)
    calls = (
        *call("note", text="x").tool_calls,
        *call("nothing").tool_calls,
        *call("answer", answers=f"{first};{second}").tool_calls,
        *call("peek").tool_calls,
    )
    step = env.step(Message("assistant", tool_calls=calls))
    said = texts(step)
    assert said[0] == "1 notes"
    assert said[1].startswith("error: there is no tool")
    assert said[2] == "1: right\n2: right"
    assert said[3] == "error: not run, the episode is over"
    assert step.reward == 1.0
    assert env.measure()["errors"] == 1


def test_a_joint_answer_that_cannot_be_read_ends_nothing() -> None:
    env = Objectives(Sums(), k=2)
    env.reset(seed=1)
    step = env.step('answer {"answers": 3, "more": 1}')
    assert texts(step)[0].startswith("error: answer has no parameter")
    assert not step.terminated


def test_every_copy_may_run_for_all_tasks_turns() -> None:
    env = Objectives(Sums(), k=2)
    env.reset(seed=1)
    ends = [env.step("peek").truncated for _ in range(6)]
    assert ends == [False] * 5 + [True]
    assert env.max_turns == 6
    assert stretched(env, 10) == 20


def test_questions_stand_in_one_prompt_and_the_first_is_the_worlds_own() -> None:
    env = Objectives(Wordy(), k=2)
    prompt, _ = env.reset(seed=9)
    alone, _ = Wordy().reset(seed=9)
    assert [each.role for each in prompt] == ["system", "user"]
    lines = prompt[1].text.splitlines()
    assert lines[0] == (
        "2 tasks. Answer all of them at once, in this order, like: answer first; second"
    )
    assert lines[1] == f"1. {alone[1].text}"
    assert lines[2].startswith("2. ")
    assert lines[2][3:] != lines[1][3:]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Objectives(foldgym.make("foldgym/KeyDoor-v0")), "no tool 'answer'"),
        (lambda: Objectives(foldgym.make("foldgym/KeyDoor-v0"), answer="look"), "one parameter"),
        (lambda: Objectives(Sums(), k=0), "k must be from 1 to 64, not 0"),
        (lambda: Objectives(Sums(), form="both"), "'joint' or 'each'"),  # type: ignore[arg-type]
        (lambda: Objectives(Sums(), separator=" "), "separator must be visible"),
        (lambda: Objectives(Objectives(Sums())), "choose another separator"),
        (lambda: Objectives(Told()).reset(seed=0), "begin with a history"),
        (lambda: Objectives(Sums()).reset(options={"task": Task("x", ())}), "its own tasks"),
        (
            lambda: Objectives(foldgym.make("foldgym/RunningSum-v0")).reset(seed=0),
            "does not end with one call of 'answer'; use form='each'",
        ),
        (lambda: Chain(Hopeless()).reset(seed=0), "scores 0.0 on seed 0"),
        (lambda: Chain(foldgym.make("foldgym/Saturn-v0")).reset(seed=0), "cannot link the answer"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(make: Any, said: str) -> None:
    with pytest.raises(UserError, match="(?s)" + said):
        make()


def test_two_levels_of_joint_answers_need_two_separators() -> None:
    env = Objectives(Objectives(Sums(), k=2), k=2, separator="|")
    assert all(Bounded(0, 0, 0)(env, seed) for seed in range(3))  # type: ignore[arg-type]
    env.reset(seed=1)
    (a, b), (c, _) = (sums(each) for each in env.copies)
    env.step(f"answer {a}; {b} | {c}; 0")
    assert env.measure()["scores"] == [1.0, 0.5]


def test_an_expert_whose_answer_holds_the_separator_says_so() -> None:
    env = Objectives(Sums(), k=2, separator="1")
    env.reset(seed=next(seed for seed in range(50) if "1" in str(sums(begun(env, seed))[0])))
    with pytest.raises(UserError, match="holds the separator '1'; choose another"):
        env.expert("optimal", random.Random(0))


# ---------------------------------------------------------------- one by one


def test_one_after_the_other() -> None:
    env = Objectives(Sums(), k=2, form="each")
    env.reset(seed=2)
    first, second = sums(env)
    step = env.step("note x")
    assert texts(step) == ["1 notes"]
    step = env.step(f"answer {first + 1}")
    assert texts(step) == ["Noted.", "That was task 1. Go on with task 2."]
    assert (step.reward, step.terminated) == (0.0, False)
    assert texts(env.step("note x")) == ["1 notes"]
    step = env.step(f"answer {second}")
    assert texts(step) == ["right"]
    assert (step.reward, step.terminated) == (0.5, True)
    assert env.measure()["scores"] == [0.0, 1.0]
    assert env.measure()["turns"] == 4


def test_a_task_that_runs_out_of_turns_gives_way_to_the_next() -> None:
    env = Objectives(Sums(), k=2, form="each")
    env.reset(seed=2)
    steps = [env.step("peek") for _ in range(6)]
    assert texts(steps[2])[1:] == ["That was task 1. Go on with task 2."]
    assert not steps[2].truncated
    assert steps[5].truncated


def test_snapshots_hold_every_copy() -> None:
    env = Objectives(Sums(), k=2)
    env.reset(seed=3)
    answers = sums(env)
    snapshot = env.snapshot()
    for _ in range(2):
        env.restore(snapshot)
        assert texts(env.step("note x")) == ["1 notes"]
        env.step("answer {}; {}".format(*answers))
        assert env.measure()["solved"] == 2


# ---------------------------------------------------------------- tasks that share a world


def test_fictional_tasks_share_their_documents() -> None:
    env: Any = foldgym.make(FICTIONAL, transforms=[{"use": "objectives", "k": 4}])
    bare = foldgym.make(FICTIONAL)
    env.reset(seed=5)
    bare.reset(seed=5)
    documents = [each.unwrapped.documents() for each in env.copies]
    assert documents[0] == documents[1] == documents[3] == bare.unwrapped.documents()  # type: ignore[attr-defined]
    assert env.copies[0].unwrapped.task == bare.task
    questions = {each.unwrapped.chain.question for each in env.copies}
    assert len(questions) == 4


# ---------------------------------------------------------------- chains


def test_links_are_exact() -> None:
    link = Link("What is 3 + 17 ?", "17", 12, 2, 17 - 40)
    assert link.asked == "What is 3 + (the answer to question 2 minus 23) ?"
    assert link.filled(40) == "What is 3 + 17 ?"
    assert link.filled(41) == "What is 3 + 18 ?"
    assert Link("5 ?", "5", 0, 1, 0).asked == "(the answer to question 1) ?"
    name = Link("who rules pastan ?", "pastan", 10, 1)
    assert name.asked == "who rules (the answer to question 1) ?"
    assert name.filled("dalvor") == "who rules dalvor ?"


@pytest.mark.parametrize("world", [FICTIONAL, ARITHMETIC])
def test_gold_answers_bring_the_original_questions_back(world: str) -> None:
    env: Any = foldgym.make(world, transforms=[{"use": "chain", "n": 4}])
    for seed in range(10):
        prompt, _ = env.reset(seed=seed)
        now = env.now
        originals = [each.get_wrapper_attr("task").prompt[0].text for each in env.copies]
        lines = prompt[0].text.splitlines()[1:]
        assert lines[0] == f"1. {originals[0]}"
        for place, link in enumerate(now.links, 1):
            assert link.filled(now.golds[place - 1]) == originals[place]
            assert lines[place] == f"{place + 1}. {link.asked}"
            assert originals[place] not in prompt[0].text
        assert len(now.links) == 3


@pytest.mark.parametrize(
    ("score", "right", "total", "facts"),
    [
        ("all", [True, True, True], 1.0, (True, True, 0)),
        ("all", [True, False, True], 0.0, (False, True, 2)),
        ("last", [False, True, True], 1.0, (False, True, 1)),
        ("last", [True, True, False], 0.0, (False, False, 3)),
        ("mean", [True, True, False], 2 / 3, (False, False, 3)),
    ],
)
def test_what_a_chain_is_worth(
    score: Any, right: list[bool], total: float, facts: tuple[bool, bool, int]
) -> None:
    for form in ("joint", "each"):
        env = Chain(Sums(), n=3, score=score, form=form)  # type: ignore[arg-type]
        env.reset(seed=6)
        answers = [value if good else 0 for value, good in zip(sums(env), right, strict=True)]
        if form == "joint":
            paid = env.step("answer " + "; ".join(map(str, answers))).reward
        else:
            paid = sum(env.step(f"answer {value}").reward for value in answers)
        found = env.measure()
        assert paid == found["score"] == pytest.approx(total)
        assert (found["all"], found["last"], found["first_wrong"]) == facts


def test_expected_accuracy_and_gap() -> None:
    assert expected_accuracy([0.5, 0.5, 0.5]) == 0.125
    facts = [
        {"all": True, "last": True, "first_wrong": 0},
        {"all": False, "last": True, "first_wrong": 1},
        {"all": False, "last": False, "first_wrong": 2},
        {"all": False, "last": False, "first_wrong": 2},
    ]
    assert chain_summary(facts, [0.9, 0.5]) == {
        "acc_all": 0.25,
        "acc_last": 0.5,
        "expected": 0.45,
        "gap": pytest.approx(0.2),
        "errors_at": [1, 2],
    }
    with pytest.raises(ValueError, match="no episodes"):
        chain_summary([], [0.5])
    with pytest.raises(ValueError, match="from 0 to 1"):
        expected_accuracy([1.5])


def test_siblings_begin_with_the_worlds_own_task_and_follow_each_other() -> None:
    env: Any = foldgym.make(FICTIONAL, hops=2)
    env.reset(seed=8)
    tasks = env.siblings(8, 5, linked=True)
    assert tasks[0] == env.task
    for before, after in pairwise(tasks):
        assert after.metadata["key"] == before.answer[0]
        assert after.prompt[0].text.endswith(f"of {before.answer[0]} ?")
    for task in tasks:
        env.reset(seed=0, options={"task": task})
        assert env.chain.accepted == tuple(task.answer)
        for turn in range(5):
            step = env.step(env.expert("optimal", generator(turn)))
            if step.terminated:
                break
        assert env.measure()["success"]
