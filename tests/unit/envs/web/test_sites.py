"""The local sites: every page in a real browser, every chore done, WebArena's checks."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import foldgym
from foldgym.containers.gateway import Request
from foldgym.envs.web.sites import SITES, Answered, LocalSite, Sites, read_tasks, score
from foldgym.envs.web.sites.chores import CHORES
from foldgym.envs.web.sites.score import at_right, holds, said_right
from foldgym.envs.web.sites.tasks import Target
from foldgym.errors import DataError, UnknownName, UserError
from foldgym.tools import call

NAME = "foldgym/Sites-v0"


def opened(name: str, seed: int = 0) -> LocalSite:
    site = SITES[name]()
    site.seed(random.Random(seed))
    return site


def get(site: LocalSite, target: str) -> tuple[int, str]:
    answer = site(Request("GET", target))
    return answer.status, str(answer.body)


def post(site: LocalSite, target: str, body: str) -> tuple[int, str]:
    answer = site(Request("POST", target, body=body.encode()))
    return answer.status, dict(answer.headers).get("location", "") or str(answer.body)


# ---------------------------------------------------------------- without a browser


@pytest.mark.parametrize("name", SITES)
def test_the_same_seed_fills_the_same_tables(name: str):
    one, other, third = opened(name, 3), opened(name, 3), opened(name, 4)
    assert (
        list(map(str, _dump(one))) == list(map(str, _dump(other))) != list(map(str, _dump(third)))
    )


def _dump(site: LocalSite) -> list[str]:
    copy = sqlite3.connect(":memory:")
    copy.deserialize(site.save())
    return list(copy.iterdump())


@pytest.mark.parametrize(
    ("name", "target", "body", "said"),
    [
        ("forum", "/thread/1/reply", "body=", "The field body is empty."),
        ("forum", "/thread/1/vote", "way=sideways", "cannot be &#x27;sideways&#x27;"),
        ("forum", "/new", "board=None&title=a&body=b", "board cannot be"),
        ("tracker", "/ticket/1/edit", "status=lost&priority=low", "status cannot be"),
        ("files", "/open/1/new", "name=a/b&kind=file", "cannot be a name"),
        ("files", "/open/1/delete", "", "Home stays as it is."),
        ("calendar", "/new", "title=a&day=2031-02-30&time=09:00", "is no day"),
        ("calendar", "/new", "title=a&day=2031-02-20&time=9:00", "is no time"),
    ],
)
def test_a_bad_form_changes_nothing(name: str, target: str, body: str, said: str):
    site = opened(name)
    before = _dump(site)
    status, page = post(site, target, body)
    assert status == 400
    assert said in page
    assert _dump(site) == before


@pytest.mark.parametrize("name", SITES)
def test_what_is_not_there(name: str):
    site = opened(name)
    assert get(site, "/nothing")[0] == 404
    assert post(site, "/", "")[0] == 405
    numbered = {"forum": "/thread/999", "tracker": "/ticket/999", "files": "/open/999"}
    assert get(site, numbered.get(name, "/event/999"))[0] == 404


def test_what_people_write_is_text():
    site = opened("forum")
    post(site, "/thread/1/reply", "body=%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    page = get(site, "/thread/1")[1]
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_second_vote_takes_the_place_of_the_first():
    site = opened("forum")
    ((before,),) = site.ask("select votes from thread where id = 1")
    for way in ("up", "up", "down"):
        assert post(site, "/thread/1/vote", f"way={way}") == (303, "/thread/1")
    assert site.ask("select votes from thread where id = 1") == [(before - 1,)]


def test_a_folder_moves_with_what_is_in_it_but_not_into_itself():
    site = opened("files")
    ((number, name),) = site.ask(
        "select id, name from entry where text is null and parent = 1 order by id limit 1"
    )
    post(site, f"/open/{number}/new", "name=inner&kind=folder")
    status, _ = post(site, f"/open/{number}/move", f"to=/{name}/inner")
    assert status == 400
    ((inside,),) = site.ask("select count(*) from entry where parent = ?", number)
    assert inside >= 1
    post(site, f"/open/{number}/delete", "")
    assert site.ask("select count(*) from entry where parent = ?", number) == [(0,)]


def test_names_in_a_folder_are_different():
    site = opened("files")
    assert post(site, "/open/1/new", "name=twice&kind=file")[0] == 303
    status, page = post(site, "/open/1/new", "name=twice&kind=folder")
    assert (status, "There is a twice already." in page) == (400, True)


# ---------------------------------------------------------------- WebArena's format

ROW: dict[str, Any] = {
    "task_id": 7,
    "intent": "How many?",
    "start_url": "__FORUM__/board/Music",
    "eval": {
        "eval_types": ["string_match", "url_match", "program_html"],
        "reference_answers": {"must_include": ["12"]},
        "reference_url": "__FORUM__/thread/3",
        "url_note": "GOLD in PRED",
        "program_html": [
            {"url": "last", "locator": "", "required_contents": {"must_include": ["a |OR| b"]}}
        ],
    },
}
PLACES = {"FORUM": "http://forum.test"}


def test_a_task_of_every_kind(tmp_path: Path):
    (tmp_path / "t.json").write_text(json.dumps([ROW]))
    (task,) = read_tasks(tmp_path / "t.json", PLACES).items
    assert (task.id, task.start) == ("7", "http://forum.test/board/Music")
    assert task.url == "http://forum.test/thread/3"
    assert task.targets == (Target("last", "", ("a |OR| b",)),)

    def end(text: str, url: str, page: str) -> float:
        return score(task, Answered(text, url, lambda target: page))

    right = ("It is 12.", "http://forum.test/thread/3?x=1", "<p>B</p>")
    assert end(*right) == 1.0
    assert end("It is 120.", *right[1:]) == 0.0
    assert end(right[0], "http://forum.test/thread/4", right[2]) == 0.0
    assert end(*right[:2], "<p>C</p>") == 0.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"eval_types": ["llm"]}, "'llm'"),
        ({"eval_types": []}, "must list some of"),
        ({"reference_answers": {"fuzzy_match": ["a", "b"]}}, "needs a model to judge"),
        ({"reference_answers": {"must_include": "12"}}, "list of texts"),
        ({"reference_url": ""}, "url_match needs it"),
        ({"program_html": [{"url": "func:f()", "required_contents": {}}]}, "runs Python"),
        ({"program_html": [{"url": "last", "required_contents": {}}]}, "one of them"),
    ],
)
def test_what_cannot_be_checked_is_refused(tmp_path: Path, changed: dict[str, Any], said: str):
    bad = {**ROW, "eval": {**ROW["eval"], **changed}}
    (tmp_path / "t.json").write_text(json.dumps([ROW, bad]))
    found = read_tasks(tmp_path / "t.json", PLACES)
    assert len(found.items) == 1
    assert said in found.problems[0]
    with pytest.raises(DataError, match=r"t\.json:2"):
        read_tasks(tmp_path / "t.json", PLACES, strict=True)


def test_a_place_that_stands_for_nothing(tmp_path: Path):
    (tmp_path / "t.json").write_text(json.dumps([{**ROW, "start_url": "__SHOPPING__"}]))
    with pytest.raises(DataError, match="__SHOPPING__ stands for no site here; known: FORUM"):
        read_tasks(tmp_path / "t.json", PLACES)


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ({"exact_match": "Ada"}, ' "ada" ', True),
        ({"exact_match": "Ada"}, "Ada.", False),
        ({"must_include": ["2"]}, "about 25", False),
        ({"must_include": ["2"]}, "it is 2!", True),
        ({"must_include": ["New York", "2"]}, "25 in new york", True),
        ({"fuzzy_match": "N/A"}, "N/A", True),
        ({"fuzzy_match": "N/A"}, "no idea", False),
    ],
)
def test_answers(reference: dict[str, Any], answer: str, right: bool):
    assert said_right(reference, answer) is right


@pytest.mark.parametrize(
    ("wanted", "url", "right"),
    [
        ("http://a.test/x", "http://a.test/x/y?z=1", True),
        ("http://a.test/x/", "http://a.test/x", True),
        ("http://a.test/x?q=1", "http://a.test/x?q=1&r=2", True),
        ("http://a.test/x?q=1", "http://a.test/x?q=2", False),
        ("http://a.test/y |OR| http://a.test/x", "http://a.test/x", True),
        ("http://b.test/x", "http://a.test/x", False),
    ],
)
def test_addresses(wanted: str, url: str, right: bool):
    assert at_right(wanted, url) is right


def test_contents():
    assert holds(Target("last", "", exact="a  B"), " A b\n")
    assert not holds(Target("last", "", exact="a"), "a b")
    assert holds(Target("last", "", ("x |OR| b", "A")), "a b")
    assert not holds(Target("last", "", ("x |OR| b", "c")), "a b")


# ---------------------------------------------------------------- in a browser


@pytest.mark.browser
@pytest.mark.parametrize("chore", CHORES)
def test_the_expert_does_every_chore_and_nobody_none(chore: str):
    env = foldgym.make(NAME, chores=(chore,))
    try:
        for seed in (0, 1):
            env.reset(seed=seed)
            step = env.step(env.expert("optimal", random.Random(0)))
            while not (step.terminated or step.truncated):
                step = env.step(env.expert("optimal", random.Random(0)))
            assert env.measure()["score"] == 1.0, (env.task.metadata, step.observation)
        env.reset(seed=0)
        env.step(call("answer", text=""))
        assert env.measure()["score"] == 0.0
    finally:
        env.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", SITES)
def test_every_page_renders_without_a_complaint(name: str):
    """Follow every link of a site, in the browser, and listen to its console."""
    from foldgym.containers.browser import Setting, open_seat

    site = opened(name)
    seat = open_seat(Setting(sites={site.host: site}))
    heard: list[str] = []
    seen: dict[str, str] = {}

    def told(said: Any) -> None:
        heard.append(said.text)

    def broke(problem: Any) -> None:
        heard.append(str(problem))

    async def walk(seat: Any) -> None:
        page = seat.page
        page.on("console", told)
        page.on("pageerror", broke)
        left = [site.url + "/"]
        while left and len(seen) < 25:
            url = left.pop(0)
            if url in seen:
                continue
            answer = await page.goto(url)
            assert answer.status == 200, url
            seen[url] = await page.title()
            assert await page.locator("h1").inner_text() == seen[url]
            links = await page.evaluate("[...document.links].map((each) => each.href)")
            left += [each for each in links if each not in seen]

    try:
        seat.run(walk, 120.0)
    finally:
        seat.close()
    assert heard == []
    assert len(set(seen.values())) > 5


@pytest.mark.browser
def test_a_fork_begins_from_its_own_data():
    env = Sites(chores=("write_reply",))
    try:
        env.reset(seed=5)
        moves = len(env.chore.moves)
        for _ in range(moves - 1):
            env.step(env.expert("optimal", random.Random(0)))
        taken = env.snapshot()
        assert env.step(call("answer", text="done")).reward == 1.0
        env.restore(taken)
        assert env.step(call("answer", text="done")).reward == 1.0
        ((said,),) = env.sites["forum"].ask("select count(*) from reply where author = 'you'")
        assert said == 1  # played again from the first data, and not on top of them
    finally:
        env.close()


@pytest.mark.browser
def test_a_file_of_tasks(tmp_path: Path):
    row = {
        "task_id": "board",
        "intent": "Open the board Music.",
        "start_url": "__FORUM__",
        "eval": {"eval_types": ["url_match"], "reference_url": "__FORUM__/board/Music"},
    }
    impossible = {
        "task_id": "no",
        "intent": "Open the board Chess.",
        "start_url": "__FORUM__",
        "eval": {"eval_types": ["string_match"], "reference_answers": {"fuzzy_match": "N/A"}},
    }
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    env = foldgym.make(NAME, tasks=str(tmp_path / "t.jsonl"))
    try:
        env.reset(seed=0)
        env.step(call("goto", url="http://forum.test/board/Music"))
        assert env.step(call("answer", text="done")).reward == 1.0
        (tmp_path / "n.jsonl").write_text(json.dumps(impossible))
        env = foldgym.make(NAME, tasks=str(tmp_path / "n.jsonl"))
        env.reset(seed=0)
        assert env.step(call("report_infeasible", reason="there is none")).reward == 1.0
    finally:
        env.close()


def test_options_without_effect_are_refused(tmp_path: Path):
    with pytest.raises(UnknownName, match="rename"):
        foldgym.make(NAME, chores=("renam",))
    with pytest.raises(UserError, match="no effect with a file"):
        foldgym.make(NAME, tasks="t.json", chores=("rename",))
