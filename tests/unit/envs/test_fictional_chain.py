from __future__ import annotations

from itertools import pairwise

import pytest

from foldgym.envs.fictional_chain import MOST, FictionalChain, walk
from foldgym.envs.fictional_world import RELATIONS, Size, build
from foldgym.errors import UnknownName, UserError
from foldgym.seeding import generator
from foldgym.tools import call
from foldgym.types import Message, ToolCall


def begun(seed: int = 0, **options: object) -> FictionalChain:
    env = FictionalChain(**options)  # pyright: ignore[reportArgumentType]
    env.reset(seed=seed)
    return env


def said(env: FictionalChain, text: str | Message) -> str:
    return env.step(text).observation[0].text


def to_report(env: FictionalChain) -> None:
    """Plays the optimal player up to the report."""
    while env.found < len(env.facts):
        env.step(env.expert("optimal", generator()))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_optimal_player_needs_every_turn_there_is(split: str) -> None:
    env = FictionalChain(split)
    asked = set()
    for seed in range(60):
        env.reset(seed=seed)
        turns, paid = 0, 0.0
        while True:
            step, turns = env.step(env.expert("optimal", generator())), turns + 1
            paid += step.reward
            if step.terminated or step.truncated:
                break
        facts = env.measure()
        asked.add(facts["questions"])
        assert (facts["score"], facts["success"]) == (1.0, True)
        assert paid == pytest.approx(1.0)
        assert facts["found"] == facts["reported"] == facts["questions"]
        assert turns == env.max_turns == facts["questions"] + 1
    assert asked == {4, 5, 6}


def test_every_question_is_about_the_answer_before_it_and_does_not_name_it() -> None:
    env = begun(seed=5, questions=5)
    first = env.facts[0]
    opening = env.task.prompt[0].text
    assert opening == f"5 questions . what is the {first.relation} of {first.subject} ?"
    for fact, following in pairwise(env.facts):
        assert following.subject == fact.value
        shown = said(env, f"search {fact.subject} {fact.relation}")
        assert shown == f"{fact.document.text}\nwhat is its {following.relation} ?"
    last = env.facts[-1]
    shown = said(env, f"search {last.subject} {last.relation}")
    assert shown == f"{last.document.text}\nreport all answers"


def test_a_wrong_search_asks_again() -> None:
    env = begun(seed=5, questions=3, spare=2)
    asked = env.task.prompt[0].text
    other = next(name for name in env._world.members["person"] if name != env.facts[0].subject)
    shown = said(env, f"search {other} home")
    assert shown.endswith(f"\n{asked}")
    assert said(env, "search nobody of") == "error: a query is one name and one relation"
    assert env.measure()["found"] == 0


def test_a_walk_meets_nobody_twice() -> None:
    world = build("train", Size(), 0, generator("world"))
    for seed in range(50):
        facts = walk(world, 6, generator("walk", seed))
        names = [facts[0].subject, *(fact.value for fact in facts)]
        assert len(set(names)) == 7
        for here, there in pairwise(facts):
            assert there.subject == here.value
            assert RELATIONS[here.relation][1] == RELATIONS[there.relation][0]


def test_half_of_the_score_is_finding_half_is_the_report() -> None:
    env = begun(questions=4)
    to_report(env)
    assert env.measure()["score"] == 0.5  # 4 answers of 4, nothing reported yet
    a, b, c, _ = (fact.value for fact in env.facts)
    assert said(env, f"report {a} {c} {c} {b}") == "2 of 4 right"
    facts = env.measure()
    assert (facts["score"], facts["success"], facts["reported"]) == (0.75, False, 2)


def test_a_report_that_comes_early_is_no_success() -> None:
    env = begun(questions=2)
    said(env, env.expert("optimal", generator()))
    known, guessed = (fact.value for fact in env.facts)
    assert said(env, f"report {known} {guessed}") == "2 of 2 right"
    facts = env.measure()
    assert (facts["score"], facts["success"], facts["found"]) == (0.75, False, 1)


def test_more_names_than_questions_report_nothing() -> None:
    env = begun(questions=2)
    to_report(env)
    a, b = (fact.value for fact in env.facts)
    assert said(env, f"report {a} {b} {b}") == "0 of 2 right"
    assert env.measure()["score"] == 0.5


@pytest.mark.parametrize(
    "smuggled",
    [
        "search {first} home\nremember pastan",
        "search {first} pastan home",
        "search {first} pastan",
        "search {first} home !!",
        "search {first} home\nsearch {first} home",
        Message("assistant", thinking="pastan", tool_calls=(ToolCall("report", '{"names": "x"}'),)),
        "pastan",
    ],
)
def test_nothing_can_be_written_beside_the_call(smuggled: str | Message) -> None:
    env = begun()
    if isinstance(smuggled, str):
        smuggled = smuggled.format(first=env.facts[0].subject)
    assert said(env, smuggled).startswith("error:")
    assert env.measure()["found"] == 0


def test_a_turn_lost_is_an_episode_lost_unless_turns_are_spare() -> None:
    for spare, done in ((0, False), (1, True)):
        env = begun(spare=spare)
        said(env, "search nobody home")
        step = env.step(env.expert("optimal", generator()))
        while not (step.terminated or step.truncated):
            step = env.step(env.expert("optimal", generator()))
        assert env.measure()["success"] is done
        assert step.truncated is not done


def test_notes_hold_all_that_the_rest_of_the_episode_needs() -> None:
    env = begun(questions=2)
    one, two = env.facts

    def note() -> str:
        written = env.expert("fold", generator())
        assert isinstance(written, Message)
        return written.text

    assert note() == env.task.prompt[0].text
    said(env, f"search {one.subject} {one.relation}")
    assert note() == f"{one.value} . what is its {two.relation} ?"
    said(env, f"search {two.subject} {two.relation}")
    assert note() == f"{one.value} {two.value} . report all answers"


def test_the_hasty_player_forgets_now_and_then() -> None:
    env = FictionalChain(questions=4, stop=0.5)
    whole = 0
    for seed in range(200):
        env.reset(seed=seed)
        rng = generator("player", seed)
        while True:
            step = env.step(env.expert("hasty", rng))
            if step.terminated or step.truncated:
                break
        assert env.measure()["found"] == 4
        whole += bool(env.measure()["success"])
    # four chances to forget: 0.5 ** 4 = 0.0625, so 12.5 of 200, standard deviation 3.4
    assert 2 <= whole <= 26


def test_the_task_makes_its_episode_again() -> None:
    env, other = begun(seed=11), begun(seed=12)
    other.reset(seed=12, options={"task": env.task})
    assert other.facts == env.facts
    with pytest.raises(UserError, match="was not made by"):
        begun(split="val").reset(options={"task": env.task})


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        FictionalChain("trian")
    wrong: list[dict[str, object]] = [
        {"questions": 0}, {"questions": MOST + 1}, {"questions": ()}, {"questions": (0, 0)},
        {"questions": (-1, 2)}, {"spare": -1}, {"top_k": 0}, {"people": 0}, {"stop": 1.5},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(UserError):
            FictionalChain(**options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownName, match="optimal"):
        begun().expert("clever", generator())


def test_a_call_with_the_right_tool_is_read_from_a_message_too() -> None:
    env = begun()
    first = env.facts[0]
    assert said(env, call("search", query=first.query)).startswith(first.document.text)
