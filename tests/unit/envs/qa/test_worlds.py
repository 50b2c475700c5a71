"""The search worlds: what their tools say, how they score, who can solve them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from foldgym.envs.qa import tags
from foldgym.envs.qa.fictional_qa import FictionalQA
from foldgym.envs.qa.invented import KINDS, Entity, Invented
from foldgym.envs.qa.pydocs_qa import PyDocsQA
from foldgym.envs.qa.search_qa import SearchQA
from foldgym.envs.qa.world import SearchWorld
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call
from foldgym.types import Message

HARD = {
    "aliases": 0.5,
    "unanswerable": 0.3,
    "disputed": 0.4,
    "filler": 12,
    "distractors": 50,
    "hops": (1, 1, 1, 1, 1, 1),
}


def play(env: SearchWorld, seed: int, style: str = "optimal") -> dict[str, Any]:
    env.reset(seed=seed)
    rng = random.Random(seed)
    while True:
        _, _, terminated, truncated, _ = env.step(env.expert(style, rng))
        if terminated or truncated:
            return env.measure()


def say(env: SearchWorld, name: str, **arguments: Any) -> str:
    return env.step(call(name, **arguments))[0][0].text


@pytest.mark.parametrize("settings", [{}, HARD, {"actions": "search-r1"}, {"world": 5}])
def test_the_optimal_player_solves_every_invented_world(settings: dict[str, Any]) -> None:
    env = FictionalQA(**settings)
    facts = [play(env, seed) for seed in range(60)]
    assert all(each["success"] for each in facts)


def test_the_hasty_player_gives_up_at_a_chosen_rate() -> None:
    env = FictionalQA(hops=2)
    solved = sum(play(env, seed, "hasty:0.5")["success"] for seed in range(300))
    assert 110 < solved < 190  # 150 expected, standard deviation 8.7


def test_unanswerable_questions_want_unknown_and_no_page_tells() -> None:
    env = FictionalQA(unanswerable=1.0, hops=2)
    for seed in range(30):
        env.reset(seed=seed)
        assert env.task.answer == ["unknown"]
        assert env.task.metadata["kind"] == "unanswerable"
        assert env.task.prompt[0].text.endswith("If no page tells, answer unknown.")
        assert play(env, seed)["success"]
    env = FictionalQA(unanswerable=0.3)
    kinds = Counter(env.reset(seed=seed) and env.task.metadata["kind"] for seed in range(400))
    assert 85 < kinds["unanswerable"] < 155  # 120 expected, standard deviation 9.2


def test_a_later_year_beats_an_older_register() -> None:
    world = Invented(3, disputed=1.0)
    page = {each.id: each for each in world.pages()}
    person = Entity("person", 0)
    right, wrong = page[person.id].text, page["register-home-person-0"].text
    home = world.name(world.value("home", person))
    assert f"lives in the town of {home} in the year" in right
    assert home not in wrong
    said = int(right.split("in the year ")[1][:3])
    assert int(wrong.split("in the year ")[1][:3]) < said


def test_names_are_never_shared() -> None:
    used: dict[str, str] = {}
    for split in ("train", "val", "test"):
        world = Invented(1, split, people=400, aliases=1.0)
        for kind in KINDS:
            for index in range(world.count(kind)):
                for name in (world.name(Entity(kind, index)), world.alias(Entity(kind, index))):
                    assert name not in used, (name, used[name], split)
                    used[name] = f"{split} {kind} {index}"
    other = Invented(2, "train", people=400)
    assert {other.name(Entity("person", n)) for n in range(400)} != {
        name for name, where in used.items() if where.startswith("train person")
    }


def test_a_world_of_a_million_people_needs_no_memory() -> None:
    world = Invented(9, people=1_000_000, aliases=0.2)
    last = Entity("person", 999_999)
    assert world.sentence("home", last).startswith(world.name(last))
    assert world.count("town") == 440_000
    with pytest.raises(UserError, match="foldgym index build"):
        FictionalQA(people=1_000_000, world=9)


def test_search_shows_heads_open_shows_windows_find_shows_sentences() -> None:
    env = FictionalQA(hops=1, filler=30, top_k=2, snippet=5, window=20)
    env.reset(seed=1)
    lead = env._case.leads[0]
    assert say(env, "find", text="x") == "error: no document is open; open one first"
    shown = say(env, "search", query=lead.query).splitlines()
    assert len(shown) == 2
    assert shown[0].startswith(f"[{lead.passage}] ")
    assert shown[0].endswith(" ...")
    assert len(shown[0].split()) == 2 + 5 + 1  # id, title, five words, the ellipsis
    first = say(env, "open", document=f"[{lead.passage}]").splitlines()
    total = int(first[0].split()[-1].rstrip(")"))
    assert first[0].endswith(f"(words 0 to 20 of {total})")
    assert len(first[1].split()) == 20
    assert say(env, "find", text=lead.finding[:-1].upper()) == lead.finding
    assert say(env, "find", text="no such words") == "nothing found"
    assert say(env, "open", document="nowhere").startswith("error: there is no document 'nowhere'")
    assert (
        say(env, "open", document=lead.passage, start=10**9)
        .splitlines()[0]
        .endswith(f"(words {total} to {total} of {total})")
    )
    assert say(env, "answer", text=lead.value.lower()) == "right"
    facts = env.measure()
    assert facts["queries"] == [lead.query]
    assert facts["opened"] == [lead.passage, lead.passage]
    assert facts["supporting"] == [lead.passage]
    assert lead.passage in facts["retrieved"][0]
    assert facts["read"] == 1


def test_search_r1_speaks_its_protocol_to_the_byte() -> None:
    env = FictionalQA(hops=1, actions="search-r1", top_k=1)
    (question,), _ = env.reset(seed=4)
    assert env.tools == ()
    assert question.text.startswith("Answer the given question. You must conduct reasoning inside")
    assert question.text.endswith("?\n")
    lead = env._case.leads[0]
    page = env._case.library.get(lead.passage)
    assert page is not None
    observation = env.step(f"<think>hm</think>\n<search>\n {lead.query} </search> and more")[0]
    wanted = f'\n\n<information>Doc 1(Title: "{page.title}") {page.text}</information>\n\n'
    assert observation == (Message("user", wanted),)
    observation, reward, terminated, _, _ = env.step("I do not know")
    assert (observation[0].text, reward, terminated) == (tags.INVALID, 0.0, False)
    _, reward, terminated, _, _ = env.step(f"<answer> {lead.value} </answer>")
    assert (reward, terminated) == (1.0, True)
    assert env.measure()["queries"] == [lead.query]


def test_two_results_stand_on_lines_of_their_own() -> None:
    from foldgym.search import Document

    both = tags.information([Document("0", "A", "one"), Document("1", "B", "two\n")])
    assert both == '\n\n<information>Doc 1(Title: "A") one\nDoc 2(Title: "B") two</information>\n\n'


@pytest.mark.parametrize("env", [FictionalQA(), FictionalQA(**HARD), PyDocsQA()])
def test_a_task_makes_its_episode_again(env: SearchWorld) -> None:
    env.reset(seed=3)
    task, case = env.task, env._case
    env.reset(seed=4)
    env.reset(seed=5, options={"task": task})
    assert env._case.question == case.question
    env.reset(seed=3)
    assert env.task == task
    with pytest.raises(UserError, match="key"):
        env.reset(options={"task": Message and type(task)("x", task.prompt, [], {"key": "zz"})})


def test_python_pages_are_solved_and_split() -> None:
    env = PyDocsQA("test", hops=(1, 1, 1, 1))
    assert all(play(env, seed)["success"] for seed in range(60))
    with pytest.raises(UnknownName, match="split"):
        PyDocsQA("dev")


_EPISODE = """
import json, random, sys
from foldgym.envs.qa.fictional_qa import FictionalQA
env = FictionalQA(aliases=.5, disputed=.5, filler=3, unanswerable=.2)
out = []
for seed in range(4):
    env.reset(seed=seed)
    rng, done = random.Random(seed), False
    out.append(env.task.prompt[0].text)
    while not done:
        observation, reward, terminated, truncated, _ = env.step(env.expert("hasty", rng))
        out.append([observation[0].text, reward])
        done = terminated or truncated
print(json.dumps(out))
"""


def test_an_episode_is_the_same_in_a_new_process() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", _EPISODE],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(json.loads(said[0])) > 8


# ------------------------------------------------------------ files

ROWS = [
    {
        "id": f"2hop__{n}",
        "question": f"Where does the clerk {n} live?",
        "answer": f"Town{n}",
        "answer_aliases": [f"Village{n}"],
        "answerable": n != 3,
        "paragraphs": [
            {"idx": 0, "title": f"Clerk {n}", "paragraph_text": f"Clerk {n} works for firm {n}.",
             "is_supporting": True},
            {"idx": 1, "title": f"Firm {n}", "paragraph_text": f"Firm {n} sits in Town{n} now.",
             "is_supporting": True},
            {"idx": 2, "title": "Noise", "paragraph_text": "Noise is here.",
             "is_supporting": False},
        ],
        "question_decomposition": [],
    }
    for n in range(5)
]  # fmt: skip


@pytest.fixture
def musique(tmp_path: Path) -> str:
    path = tmp_path / "musique.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "junk\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("own", [True, False])
def test_a_file_of_questions_is_a_world(musique: str, own: bool) -> None:
    env = SearchQA(musique, own=own)
    assert [problem.rpartition("/")[2] for problem in env.problems] == [
        "musique.jsonl:6: not JSON: Expecting value at column 1"
    ]
    for seed in range(12):
        facts = play(env, seed)
        assert facts["success"]
        assert len(facts["supporting"]) == 2
        assert set(facts["supporting"]) <= {id for ids in facts["retrieved"] for id in ids}


def test_aliases_are_right_and_unanswerable_means_unknown(musique: str) -> None:
    env = SearchQA(musique)
    seen = set()
    for seed in range(40):
        env.reset(seed=seed)
        place = int(env.task.metadata["key"])
        seen.add(place)
        right = "unknown" if place == 3 else f"village{place}"
        assert say(env, "answer", text=right) == "right"
        assert env.task.prompt[0].text.endswith("If it cannot be answered, answer unknown.")
    assert seen == set(range(5))


def test_the_same_passage_of_two_questions_is_one_document(musique: str) -> None:
    env = SearchQA(musique, top_k=20)
    env.reset(seed=0)
    assert say(env, "search", query="noise").count("Noise is here.") == 1


def test_blanks_score_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "ramp.jsonl"
    row = {"query": "[mask] met [mask].", "answer": "Ada, Bob", "ext": {"masks": ["Ada", "Bob"]}}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="brings no passages"):
        SearchQA(str(path))


def test_wrong_settings_are_refused(musique: str) -> None:
    for wrong, what in (
        ({"hops": 7}, "hops must be 1 to 6"),
        ({"aliases": 1.5}, "aliases is a share"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"window": 3}, "window must be at least 20"),
        ({"index": "x"}, "has no effect without"),
        ({"stop": 2}, "a probability"),
    ):
        with pytest.raises(UserError, match=what):
            FictionalQA(**wrong)
    with pytest.raises(UnknownName, match="did you mean"):
        FictionalQA(match="f2")
    with pytest.raises(UserError, match="has no effect"):
        SearchQA(musique, "corpus", own=True)
    with pytest.raises(UnknownName, match="split"):
        SearchQA(musique, split="dev")
