"""Environments in TRL's shape: signatures, episodes, and what happens when one fails."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from transformers.utils.chat_template_utils import get_json_schema

import foldgym
from foldgym.envs import registry
from foldgym.errors import Bug, ConfigError, EnvCrashed, UserError
from foldgym.integrations import trl as fold
from foldgym.integrations.signatures import method_of
from foldgym.rewards import Rubric, Term
from foldgym.seeding import generator
from foldgym.types import Stop, Tool, Trajectory

WORLD = "foldgym/GuessNumber-v0"
EASY: dict[str, Any] = {"low": 1, "high": 8}


def silent(env: Any, name: str, arguments: Any) -> str:
    return ""


def turns(trajectory: Trajectory) -> float:
    return float(len(trajectory.turns))


def judged(trajectory: Trajectory, judge: Any) -> float:
    return 0.0


class Ward(foldgym.ToolEnv):
    """Calls of `go` do what `trouble` says; a text ends the episode, "yes" well."""

    def __init__(self, trouble: str = "", when: str = "step") -> None:
        super().__init__()
        self.trouble, self.when = trouble, when

    def _act(self, when: str) -> None:
        if when != self.when:
            return
        if self.trouble == "hang":
            threading.Event().wait()
        if self.trouble == "raise":
            raise RuntimeError("on purpose")
        if self.trouble == "bug":
            raise Bug("a broken promise")

    def setup(self, rng: random.Random) -> str:
        if rng.getstate() != generator(0, "setup").getstate():  # the factory looks at task 0
            self._act("reset")
        return "Say yes."

    @foldgym.tool
    def go(self, where: str = "on") -> str:
        """Go somewhere."""
        self._act("step")
        return f"went {where}"

    def respond(self, message: Any) -> str:
        self.finish(1.0 if message.text == "yes" else 0.0)
        return "noted"

    def measure(self) -> dict[str, Any]:
        self._act("measure")
        return super().measure()


class Rainy(foldgym.ToolEnv):
    """Has days on which it does not open: task 0 is one of them. `never`: all are."""

    def __init__(self, never: bool = False) -> None:
        super().__init__()
        self.never = never

    def setup(self, rng: random.Random) -> str:
        today = rng.randrange(1 << 30)
        if self.never or today % 4 == generator(0, "setup").randrange(1 << 30) % 4:
            raise RuntimeError("rain")
        return f"Day {today}."

    @foldgym.tool
    def go(self) -> str:
        """Go."""
        return "gone"


class Shifty(foldgym.ToolEnv):
    """Has other tools from task to task."""

    def setup(self, rng: random.Random) -> str:
        self.named = f"go_{rng.randrange(1 << 30)}"
        return "Go."

    @property
    def tools(self) -> Any:
        return (Tool(self.named, "Go.", {"type": "object", "properties": {}}, lambda: "gone"),)


class Taken(foldgym.ToolEnv):
    """Has a tool with the name of a method that TRL calls."""

    def setup(self, rng: random.Random) -> str:
        return "Go."

    @foldgym.tool(name="get_reward")
    def take(self) -> str:
        """Take the reward."""
        return "taken"


def called(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": " I try",
        "reasoning_content": "hm",
        "tool_calls": [{"type": "function", "function": function}],
    }


def world(kind: type) -> str:
    return f"{__file__}:{kind.__name__}"


def ward(budget: float = 120.0, **more: Any) -> Any:
    """An instance as TRL makes it, on a budget of so many seconds a call."""
    return fold.environment_factory(world(Ward), budget=budget, **more)()


YES, NO = ({"role": "assistant", "content": answer} for answer in ("yes", "no"))


def test_tools_of_every_world_come_back_from_their_signatures() -> None:
    seen = 0
    for spec in registry.specs(ready=True):
        if spec.browser or spec.sandbox:
            continue
        env = registry.make(spec.name)
        env.reset(seed=0)
        for tool in env.get_wrapper_attr("tools"):
            read = get_json_schema(method_of(tool, silent))["function"]
            ours, theirs = tool.parameters, read["parameters"]
            assert (read["name"], read["description"]) == (
                tool.name,
                " ".join(tool.description.split()),
            )
            assert list(theirs["properties"]) == list(ours["properties"])
            assert sorted(theirs.get("required", ())) == sorted(ours.get("required", ()))
            for name, about in ours["properties"].items():
                if "type" in about:
                    assert theirs["properties"][name]["type"] == about["type"]
                if "enum" in about:
                    assert theirs["properties"][name]["enum"] == about["enum"]
            seen += 1
        env.close()
    assert seen > 40


def test_schemas_that_hints_can_say_come_back_whole() -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["a", "b"], "description": "which one"},
            "many": {"type": "array", "items": {"type": "integer"}, "description": "some"},
            "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "or not"},
            "table": {
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/Cell"},
                "description": "cells",
            },
        },
        "required": ["kind"],
        "$defs": {"Cell": {"type": "boolean"}},
    }
    heard: list[Any] = []

    def run(self: Any, name: str, arguments: dict[str, Any]) -> str:
        heard.append((name, arguments))
        return "ok"

    made = method_of(Tool("pick-one", "Pick  one.\nOr not.", schema), run)
    assert get_json_schema(made)["function"] == {
        "name": "pick-one",
        "description": "Pick one. Or not.",
        "parameters": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["a", "b"], "description": "which one"},
                "many": {"type": "array", "items": {"type": "integer"}, "description": "some"},
                "maybe": {"type": "number", "nullable": True, "description": "or not"},
                "table": {
                    "type": "object",
                    "additionalProperties": {"type": "boolean"},
                    "description": "cells",
                },
            },
            "required": ["kind"],
        },
    }
    assert made(object(), kind=7, self="anything") == "ok"  # the environment judges arguments
    assert heard == [("pick-one", {"kind": 7, "self": "anything"})]


def test_words_that_begin_a_section_of_a_docstring_cut_nothing_off() -> None:
    about = {"type": "string", "description": "Text. Raises: nothing"}
    schema = {"type": "object", "properties": {"one": about, "two": about}}
    made = method_of(Tool("say", "Say it. Returns: an echo.", schema), silent)
    read = get_json_schema(made)["function"]
    assert read["description"] == "Say it. Returns - an echo."
    assert read["parameters"]["properties"]["two"]["description"] == "Text. Raises - nothing"


def test_a_parameter_that_python_cannot_name_is_refused() -> None:
    schema = {"type": "object", "properties": {"from": {"type": "string"}}}
    with pytest.raises(UserError, match="'from'"):
        method_of(Tool("move", "Move.", schema), silent)


def test_rows_say_what_reset_shows_and_which_task_it_is() -> None:
    rows: Any = fold.dataset("foldgym/KeyDoor-v0", 3, seed=5, split="val")
    assert len(set(rows["task_seed"])) == 3
    for row in rows:
        env = registry.make("foldgym/KeyDoor-v0", split="val")
        observation, _ = env.reset(seed=row["task_seed"])
        (message,) = row["prompt"]
        assert (message["role"], message["content"]) == ("user", observation[0].text)
        assert message["task"] == f"foldgym/KeyDoor-v0:{row['task_seed']}"
    again: Any = fold.dataset("foldgym/KeyDoor-v0", 2, seed=5, split="val")
    assert again["task_seed"] == rows["task_seed"][:2]


def test_tasks_that_cannot_be_reset_are_no_rows() -> None:
    with pytest.warns(UserWarning, match=r"1 tasks are left out, the last by .*rain"):
        assert fold.environment_factory(world(Rainy))().go() == "error: the episode is over"
    with pytest.warns(UserWarning, match=r"tasks are left out"):
        rows: Any = fold.dataset(world(Rainy), 60)  # a world's name decides its tasks
    assert len(set(rows["task_seed"])) == 60
    for row in rows:
        env = registry.make(world(Rainy))
        observation, _ = env.reset(seed=row["task_seed"])
        assert observation[0].text == row["prompt"][0]["content"]
    with pytest.raises(EnvCrashed, match="rain"):
        fold.dataset(world(Rainy), 2, never=True)


def test_a_row_is_played_with_the_options_it_was_made_with() -> None:
    (row,) = fold.dataset(WORLD, 1, seed=3, low=5, high=5)
    env: Any = fold.environment_factory(WORLD, **EASY)()
    env.reset(**row)
    assert env.guess(number=5) == "correct"
    ((name, seed, options), n), *_ = fold.tasks_of([row["prompt"]] * 2, 4, 0)
    assert (name, seed, options, n) == (WORLD, row["task_seed"], '{"low": 5, "high": 5}', 2)


def test_a_task_that_comes_twice_in_a_row_is_two_groups() -> None:
    first, second = fold.dataset(WORLD, 2)["prompt"]
    prompts = [first] * 8 + [second] * 4
    assert [n for _, n in fold.tasks_of(prompts, 4, 0)] == [4, 4, 4]
    assert [n for _, n in fold.tasks_of(prompts, 4, 2)] == [2, 4, 2, 2, 2]  # TRL's row 2 is first
    with pytest.raises(UserError, match="which task"):
        fold.tasks_of([[{"role": "user", "content": "hi"}]], 4, 0)


@pytest.mark.parametrize(
    ("memory", "says"),
    [
        ({"use": "summarise", "by": "aux"}, "no auxiliary policy"),
        ({"use": "cheatsheet"}, "no place for it"),
        ({"use": "windw"}, "did you mean 'window'"),
        ({"use": "window", "turn": 1}, "turn"),
    ],
)
def test_a_memory_that_cannot_play_in_a_batch_is_refused_at_once(memory: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fold.rollout_func(WORLD, memory=memory)


def test_an_episode_is_what_the_model_said_and_heard() -> None:
    env = ward()
    reward = fold.reward(Rubric((Term("long", turns),)))
    env.reset(task_seed=4, prompt=[], anything="else")
    assert env.go(where="up") == "went up"
    assert env.go(nowhere=1).startswith("error:")
    completion = [
        called("go", where="up"),
        {"role": "tool", "content": "went up"},
        called("fly"),  # TRL answers this one
        {"role": "tool", "content": "{'error': 'Tool fly not found.'}"},
        called("go", nowhere=1),
        {"role": "tool", "content": "error"},
        YES,
    ]
    logged: dict[str, float] = {}
    found = reward(
        prompts=[[]], completions=[completion], environments=[env], log_metric=logged.__setitem__
    )
    assert found == [3.0]
    assert logged["foldgym/success"] == 1.0
    assert logged["foldgym/failures"] == 0.0
    env.reset(task_seed=4)
    trajectory = env._finished([called("fly"), {"role": "tool", "content": "?"}, NO])
    assert (trajectory.stop, trajectory.facts["score"]) == (Stop.DONE, 0.0)
    env.reset(task_seed=4)
    env.go(where="up")
    trajectory = env._finished(completion[:2])
    assert trajectory.stop is Stop.MAX_TURNS  # TRL went no further
    (turn,) = trajectory.turns
    assert (turn.message.content, turn.message.thinking) == ("I try", "hm")
    assert turn.message.tool_calls[0].arguments == '{"where": "up"}'
    assert turn.observation[0].text == "went up"


def test_after_its_end_an_episode_does_nothing_more() -> None:
    env: Any = fold.environment_factory(WORLD, **EASY)()
    env.reset(task_seed=1)
    said = [env.guess(number=number) for number in range(1, 9)]
    right = said.index("correct")
    assert said[right + 1 :] == ["error: the episode is over"] * (7 - right)
    assert len(env._finished([NO]).turns) == right + 1


@pytest.mark.parametrize(("trouble", "error"), [("hang", "EnvTimeout"), ("raise", "EnvCrashed")])
@pytest.mark.parametrize("when", ["reset", "step", "measure"])
def test_a_failing_environment_costs_one_episode_its_reward(
    trouble: str, error: str, when: str
) -> None:
    at_once = trouble == "hang" and when == "reset"
    bad, good = ward(0.3 if at_once else 120.0, trouble=trouble, when=when), ward()
    logged: dict[str, float] = {}

    def hurry(now: str) -> None:
        """Only what hangs has so little time."""
        if (trouble, when) == ("hang", now):
            bad._handle.budget = 0.3

    with pytest.warns(UserWarning, match=error):  # noqa: PT031 it may come at any of these
        bad.reset(task_seed=1)
        good.reset(task_seed=1)
        hurry("step")
        texts = [bad.go(), good.go()]
        hurry("measure")
        found = fold.reward()(
            prompts=[[], []],
            completions=[[YES], [YES]],
            environments=[bad, good],
            log_metric=logged.__setitem__,
        )
    assert found == [None, 1.0]
    assert bad._handle is good._handle is None  # a worker that hangs is not kept until the end
    assert texts[1] == "went on"
    assert (error in texts[0]) == (when != "measure")
    assert logged["foldgym/failures"] == 1.0
    if when == "step":
        bad.reset(task_seed=2)  # the next task is another try
        hurry("step")
        with pytest.warns(UserWarning, match=error):
            bad.go()


def test_a_batch_of_nothing_but_failures_stops_the_run() -> None:
    env = ward(trouble="raise")
    env.reset(task_seed=1)
    with pytest.warns(UserWarning, match="on purpose"):
        env.go()
    with pytest.raises(EnvCrashed, match=r"all 1 episodes failed.*on purpose"):
        fold.reward()(prompts=[[]], completions=[[YES]], environments=[env])


def test_a_bug_stops_the_run_though_trl_shows_it_to_the_model() -> None:
    env = ward(trouble="bug")
    env.reset(task_seed=1)
    with pytest.raises(Bug, match="broken promise"):
        env.go()
    with pytest.raises(Bug, match="broken promise"):
        fold.reward()(prompts=[[]], completions=[[YES]], environments=[env])


def test_what_trl_cannot_have_is_refused() -> None:
    with pytest.raises(UserError, match="'get_reward'"):
        fold.environment_factory(world(Taken))
    shifty = fold.environment_factory(world(Shifty))()
    with pytest.raises(UserError, match="differ from task to task"):
        shifty.reset(task_seed=3)
    with pytest.raises(UserError, match="task_seed"):
        ward().reset(prompt=[])
    with pytest.raises(UserError, match="neither"):
        fold.reward()(prompts=[[]], completions=[[YES]])
    with pytest.raises(ConfigError, match="judge"):
        fold.reward(Rubric((Term("judged", judged),)))
