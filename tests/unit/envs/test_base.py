"""ToolEnv: dispatch, rewards, endings, facts, forks."""

from __future__ import annotations

import copy
import pickle
import random
import threading

import pytest
from gymnasium.error import ResetNeeded

from foldgym import Task, ToolEnv, tool
from foldgym.envs.base import Env
from foldgym.envs.spaces import AnyText, MessageSpace, ObservationSpace
from foldgym.errors import UnknownName, UserError
from foldgym.tools import MAX_CALLS, call
from foldgym.types import Message, ToolCall
from tests.unit.envs.worlds import Counter, Odd


def counter(goal: int = 2, **options: object) -> Counter:
    env = Counter()
    task = Task("given", (Message("user", f"Count to {goal}."),), goal)
    env.reset(seed=0, options={"task": task, **options})
    return env


class TestEpisode:
    def test_rewards_and_facts(self) -> None:
        env = counter(2)
        first = env.step(call("add"))
        assert (first.reward, first.terminated, first.truncated) == (0.25, False, False)
        assert first.info == {"turn": 1, "errors": 0}
        assert env.measure() == {"score": 0.25, "success": False, "turns": 1, "errors": 0}
        last = env.step(call("add"))
        assert (last.reward, last.terminated, last.truncated) == (1.25, True, False)
        facts = env.measure()
        assert facts["trail"] == env.trail
        assert (facts["score"], facts["success"], facts["turns"]) == (1.0, True, 2)
        facts["trail"].clear()
        assert env.measure()["trail"] == env.trail  # facts are the caller's own

    def test_truncated_by_its_turns(self) -> None:
        env = counter(9)
        steps = [env.step("add") for _ in range(4)]
        assert [(s.terminated, s.truncated) for s in steps] == [(False, False)] * 3 + [
            (False, True)
        ]
        assert env.measure()["score"] == pytest.approx(4 / 9 / 2)
        with pytest.raises(ResetNeeded, match="is over"):
            env.step("add")

    def test_the_last_turn_may_finish(self) -> None:
        env = counter(4)
        steps = [env.step("add") for _ in range(4)]
        assert (steps[-1].terminated, steps[-1].truncated) == (True, False)

    def test_before_the_first_reset(self) -> None:
        env = Counter()
        assert env.measure() == {"score": 0.0, "success": False, "turns": 0, "errors": 0}
        with pytest.raises(ResetNeeded, match="no episode"):
            env.step("add")

    def test_reset_at_any_time(self) -> None:
        env = counter(3)
        env.step("add")
        observation, info = env.reset(seed=5)
        assert (env.turn, env.measure()["turns"]) == (0, 0)
        assert observation == env.task.prompt
        assert info == {"task": env.task.id}

    def test_seeds(self) -> None:
        def play(seed: int, episode: int) -> tuple[str, str]:
            env = Counter()
            env.reset(seed=seed, options={"episode": episode})
            return env.task.id, env.step("add").observation[0].text

        assert play(1, 0) == play(1, 0)
        assert play(1, 0)[0] == play(1, 1)[0]  # members of a group share the task ...
        assert play(1, 0)[1] != play(1, 1)[1]  # ... and not the randomness of play
        assert len({play(seed, 0)[0] for seed in range(20)}) == 3

    def test_no_seed_goes_on_from_the_last(self) -> None:
        env, other = Counter(), Counter()
        for each in (env, other):
            each.reset(seed=3)
        assert [env.reset()[1] for _ in range(5)] == [other.reset()[1] for _ in range(5)]

    def test_options(self) -> None:
        env = counter(1, bonus=0.5)
        assert env.step("add").reward == 1.75
        with pytest.raises(UnknownName, match=r"'bonnus'; did you mean 'bonus'\?"):
            env.reset(seed=0, options={"bonnus": 1})

    def test_given_tasks_need_setup_task(self) -> None:
        with pytest.raises(UserError, match="has no setup_task"):
            Odd().reset(seed=0, options={"task": Task("t", (Message("user", "?"),))})


class TestReplies:
    def test_each_call_has_its_own(self) -> None:
        calls = (ToolCall("add", "{}", "x"), ToolCall("ad", "{}", "y"), ToolCall("peek", "{}", "z"))
        env = counter(5)
        step = env.step(Message("assistant", tool_calls=calls))
        assert [(m.role, m.tool_call_id, m.name) for m in step.observation] == [
            ("tool", "x", "add"),
            ("tool", "y", "ad"),
            ("tool", "z", "peek"),
        ]
        assert "did you mean 'add'?" in step.observation[1].text
        assert step.observation[2].text == "0.0:1"
        assert (step.info["errors"], env.measure()["errors"]) == (1, 1)

    def test_calls_after_the_end_are_not_run(self) -> None:
        env = counter(1)
        step = env.step("add\nadd")
        assert step.observation[1].text == "error: not run, the episode is over"
        assert env.count == 1

    def test_no_call(self) -> None:
        step = counter().step(Message("assistant", "I think."))
        (message,) = step.observation
        assert message.role == "user"
        assert message.text.startswith("error: there is no tool call")
        assert "add [<amount: integer>]" in message.text

    def test_unreadable(self) -> None:
        (message,) = counter().step('{"name": "add"').observation
        assert message.text.startswith("error: broken JSON at character 14")

    def test_what_is_no_message_is_a_bug_of_the_caller(self) -> None:
        with pytest.raises(TypeError, match="an action is a Message or text, not 5"):
            counter().step(5)  # type: ignore[arg-type]

    def test_too_many_calls(self) -> None:
        env = counter(9)
        calls = (ToolCall("add"),) * (MAX_CALLS + 1)
        (message,) = env.step(Message("assistant", tool_calls=calls)).observation
        assert message.text == "error: 33 tool calls in one message, at most 32"
        assert env.count == 0

    def test_concurrent_calls_keep_their_order_and_overlap(self) -> None:
        meeting = threading.Barrier(3, timeout=120)

        class Meeting(ToolEnv):
            def setup(self, rng: random.Random) -> str:
                return "Meet."

            @tool(concurrent=True)
            def meet(self, who: str) -> str:
                """Wait for the others."""
                meeting.wait()  # breaks unless all three run at once
                return who

        env = Meeting()
        env.reset(seed=0)
        step = env.step("meet a\nmeet b\nmeet c")
        assert [each.text for each in step.observation] == ["a", "b", "c"]

    def test_a_concurrent_failure_is_raised(self) -> None:
        class Failing(ToolEnv):
            def setup(self, rng: random.Random) -> str:
                return "Fail."

            @tool(concurrent=True)
            def fail(self, who: str) -> str:
                """Fail."""
                raise RuntimeError(who)

        env = Failing()
        env.reset(seed=0)
        with pytest.raises(RuntimeError, match=r"^a$"):
            env.step("fail a\nfail b")

    def test_render(self) -> None:
        env = counter()
        assert env.render() is None
        env.render_mode = "ansi"
        assert env.render() == "[user] Count to 2."


class TestAuthoring:
    def test_tools_in_order_and_inherited(self) -> None:
        class More(Counter):
            @tool
            def more(self) -> str:
                """More."""
                return "more"

        assert [each.name for each in More().tools] == ["add", "peek", "more"]

    def test_a_reserved_name_is_refused(self) -> None:
        with pytest.raises(UserError, match="may not be called 'close'"):

            class Closing(ToolEnv):
                @tool
                def close(self) -> str:  # type: ignore[override]
                    """Close."""
                    return ""

    def test_two_tools_of_one_name_are_refused(self) -> None:
        with pytest.raises(UserError, match="two tools called 'add'"):

            class Twice(Counter):
                @tool(name="add")
                def plus(self) -> str:
                    """Add."""
                    return ""

    def test_an_init_need_not_call_ours(self) -> None:
        class Own(ToolEnv):
            def __init__(self) -> None:
                self.mine = 1

            def setup(self, rng: random.Random) -> str:
                return "Q"

        env = Own()
        assert env.reset(seed=0)[0] == (Message("user", "Q"),)
        assert env.action_space.sample() in env.action_space

    @pytest.mark.parametrize("made", [None, 5, (), ("a",), ""])
    def test_setup_must_return_a_question(self, made: object) -> None:
        class Bad(ToolEnv):
            def setup(self, rng: random.Random) -> object:  # type: ignore[override]
                return made

        env = Bad()
        if made == "":
            assert env.reset(seed=0)[0] == (Message("user", ""),)
        else:
            with pytest.raises(TypeError, match="must return a question"):
                env.reset(seed=0)

    def test_setup_is_needed(self) -> None:
        with pytest.raises(NotImplementedError, match="needs setup"):
            ToolEnv().reset(seed=0)

    def test_finish_twice_and_without_a_number(self) -> None:
        env = counter()
        with pytest.raises(ValueError, match="score must be a finite number"):
            env.finish(float("nan"))
        env.finish(0.5, reward=0.0, success=True)
        assert (env.measure()["score"], env.measure()["success"]) == (0.5, True)
        with pytest.raises(RuntimeError, match="twice"):
            env.finish(1.0)

    def test_no_expert(self) -> None:
        with pytest.raises(UnknownName, match="unknown expert 'best'"):
            Env().expert("best", random.Random(0))


class TestForks:
    def test_goes_on_the_same(self) -> None:
        env = counter(4)
        env.step("add")
        snapshot = env.snapshot()
        there = [env.step("add"), env.measure()]
        env.extra = 1
        for _ in range(2):
            env.restore(snapshot)
            assert not hasattr(env, "extra")
            assert [env.step("add"), env.measure()] == there

    def test_shared_attributes_are_not_copied(self) -> None:
        class Library(Counter):
            shared = ("books",)

            def __init__(self) -> None:
                self.books = ["a"]

        env = Library()
        env.reset(seed=0)
        books = env.books
        snapshot = env.snapshot()
        assert "books" not in snapshot
        env.restore(snapshot)
        assert env.books is books

    def test_copies_and_pickles(self) -> None:
        env = counter(3)
        env.step("add")
        for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
            assert twin.step("add") == env.step("add")
            env.reset(seed=0, options={"task": env.task})
            env.step("add")
            assert twin.count == 2


class TestSpaces:
    def test_contains(self) -> None:
        space = MessageSpace()
        assert "any text\x00\ud800" in space
        assert Message("assistant", "x") in space
        assert Message("user", "x") not in space
        assert 5 not in space
        assert (Message("tool", "x"),) in ObservationSpace()
        assert [Message("tool", "x")] not in ObservationSpace()
        assert ("x",) not in ObservationSpace()
        assert "漢字\n" in AnyText()
        assert 5 not in AnyText()

    def test_samples_are_seeded_and_inside(self) -> None:
        for space in (MessageSpace(Counter().tools), ObservationSpace(), AnyText()):
            space.seed(3)
            first = [space.sample() for _ in range(30)]
            space.seed(3)
            assert first == [space.sample() for _ in range(30)]
            assert all(each in space for each in first)
            assert len({repr(each) for each in first}) > 10

    def test_most_samples_play(self) -> None:
        env = Counter()
        env.action_space.seed(0)
        good = 0
        for seed in range(50):
            env.reset(seed=seed)
            good += not env.step(env.action_space.sample()).info["errors"]
        assert good >= 35  # 40 are expected: four in five samples are calls

    def test_equality_and_pickling(self) -> None:
        space = MessageSpace(Counter().tools)
        assert pickle.loads(pickle.dumps(space)) == space
        assert space != MessageSpace()
        assert ObservationSpace() == pickle.loads(pickle.dumps(ObservationSpace()))
        assert Counter().action_space == space
