"""Pages, clicks and observations, held to the protocol's own samples."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import Parsed, goal, mugs, product

from foldgym.envs.shop import pages
from foldgym.envs.shop.catalogue import in_memory
from foldgym.envs.shop.invent import invented
from foldgym.envs.shop.pages import Node, Page, clickables, text, text_rich
from foldgym.envs.shop.session import Outcome, Session, parse
from foldgym.envs.shop.webshop import WebShop
from foldgym.errors import UnknownName
from foldgym.seeding import generator

GOAL = "a red mug, and price lower than 30.00 dollars"
HEAD = f"Instruction: [SEP] {GOAL} [SEP] Back to Search"


def session(count: int = 3, **more: Any) -> Session:
    return Session(mugs(count), goal(), "fixed", **more)


def walk(at: Session, *actions: str) -> str:
    for action in actions:
        assert at.act(action).valid, action
    return at.observation("text")


# ---------------------------------------------------------------- the samples


def test_the_first_page() -> None:
    at = session()
    assert at.observation("text") == f"WebShop [SEP] Instruction: [SEP] {GOAL} [SEP] Search"
    assert at.observation("text_rich") == (
        f"WebShop\nInstruction: \n{GOAL}\n[button] Search [button_]\n"
    )
    assert at.observation("url") == "http://127.0.0.1:3000/fixed"
    assert list(at.clickables) == ["search"]
    assert at.page.has_search_bar


def test_results() -> None:
    at = session(1)
    assert walk(at, "search[Red MUG]") == (
        f"{HEAD} [SEP] Page 1 (Total results: 1) [SEP] Next > [SEP] B000000000 [SEP] "
        "Red Mug number0 [SEP] $12.9"
    )
    assert at.observation("url") == "http://127.0.0.1:3000/search_results/fixed/red+mug/1"
    assert at.observation("text_rich") == (
        f"Instruction:\n{GOAL}\n[button] Back to Search [button_]\nPage 1 (Total results: 1)\n"
        "[button] Next > [button_]\n\n[button] B000000000 [button_]\nRed Mug number0\n$12.9\n"
    )
    assert list(at.clickables) == ["back to search", "next >", "b000000000"]
    assert not at.page.has_search_bar


def test_an_item() -> None:
    at = session(1)
    assert walk(at, "search[mug]", "click[B000000000]") == (
        f"{HEAD} [SEP] < Prev [SEP] color [SEP] red [SEP] blue [SEP] Red Mug number0 [SEP] "
        "Price: $12.9 [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews [SEP] "
        "Buy Now"
    )
    assert at.page.url == "http://127.0.0.1:3000/item_page/fixed/B000000000/mug/1/{}"
    labels = "color\n  [button] red [button_]\n  [button] blue [button_]\n"
    assert labels in at.observation("text_rich")
    assert list(at.clickables) == [
        *("back to search", "< prev", "description", "features", "reviews", "buy now"),
        *("red", "blue"),
    ]
    walk(at, "click[red]")
    assert at.page.url == (
        'http://127.0.0.1:3000/item_page/fixed/B000000000/mug/1/{"color": "red"}'
    )
    rich = at.observation("text_rich")
    assert rich.startswith("You have clicked red.\nInstruction:\n")
    assert "color\n  [clicked button] red [clicked button_]\n  [button] blue [button_]\n" in rich
    walk(at, "click[blue]")
    assert at.options == {"color": "blue"}  # one value for each option
    assert at.observation("text_rich").endswith(
        "[button] Description [button_]\n[button] Features [button_]\n[button] Reviews [button_]\n"
        "[button] Buy Now [button_]\n"
    )


def test_the_pages_below_an_item() -> None:
    at = session(1, show_attrs=True)
    walk(at, "search[mug]", "click[b000000000]", "click[red]")
    assert "attributes" in at.clickables
    assert walk(at, "click[features]") == (
        f"{HEAD} [SEP] < Prev [SEP] Holds 12 ounces [SEP] Dishwasher safe"
    )
    assert at.page.url == (
        "http://127.0.0.1:3000/item_sub_page/fixed/B000000000/mug/1/Features/{'color': 'red'}"
    )
    # the official page has a space before each point, which only the rich mode keeps
    assert at.observation("text_rich").endswith("\n Holds 12 ounces\n Dishwasher safe\n")
    assert list(at.clickables) == ["back to search", "< prev"]
    walk(at, "click[< prev]")
    assert at.page.name == "item_page"
    assert at.options == {"color": "red"}
    assert walk(at, "click[description]").endswith("< Prev [SEP] A mug for tea.")
    assert walk(at, "click[< prev]", "click[reviews]").endswith("Back to Search [SEP] < Prev")
    assert walk(at, "click[< prev]", "click[attributes]").endswith(
        "< Prev [SEP] dishwasher safe [SEP] garden [SEP] mugs [SEP] Home › Kitchen › Mugs"
    )


def test_the_last_page() -> None:
    at = session(1)
    walk(at, "search[mug]", "click[b000000000]", "click[red]")
    assert at.act("click[Buy Now]") == Outcome(1.0, True, True)
    assert at.observation("text") == (
        "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in your MTurk "
        "interface.) [SEP] Purchased [SEP] asin [SEP] B000000000 [SEP] options [SEP] "
        '{"color": "red"} [SEP] attrs [SEP] None [SEP] category [SEP] None [SEP] query [SEP] None '
        "[SEP] product category [SEP] None [SEP] Target [SEP] asin [SEP] options [SEP] attrs [SEP] "
        "price upper [SEP] instuction text [SEP] category [SEP] product category [SEP] query [SEP] "
        "Goal [SEP] None [SEP] Reward [SEP] Your score (min 0.0, max 1.0) [SEP] 1.0 [SEP] Reward "
        "Details [SEP] None"
    )
    assert at.page.url == "http://127.0.0.1:3000/done/fixed/B000000000/{'color': 'red'}"
    assert not at.clickables
    assert at.act("click[buy now]") == Outcome(0.0, False, False)
    assert walk(at, "search[mug]").startswith(HEAD)  # the shop goes on
    assert at.score is not None


# ---------------------------------------------------------------- rules of the protocol


def test_actions_are_read_as_webshop_reads_them() -> None:
    assert parse("search[Red Mug]") == ("search", "red mug")
    assert parse("think: click[X]") == ("think: click", "x")
    assert parse("search[a][b]") == ("search[a]", "b")  # greedy, so no search
    assert parse("search[]") == ("search[]", "")
    assert parse("search[a\nb]") == ("search[a\nb]", "")
    assert parse("click[[x]]") == ("click[", "x]")
    assert parse("search[[r]") == ("search[", "r")
    assert parse("click[a] now") == ("click", "a")


@pytest.mark.parametrize(
    "action",
    [
        "",
        "search",
        "Search[x]",
        "click[search]",
        "click[Mug]",
        "click[]",
        "buy now",
        " click[next >]",
    ],
)
def test_anything_else_changes_nothing(action: str) -> None:
    at = session()
    before = at.observation("html")
    assert at.act(action) == Outcome(0.0, False, False)
    assert at.observation("html") == before


def test_pages_of_results_and_the_ways_back() -> None:
    at = session(23)
    assert walk(at, "search[mug]").count("$12.9") == 10
    assert walk(at, "click[next >]").startswith(
        f"{HEAD} [SEP] Page 2 (Total results: 23) [SEP] < Prev [SEP] Next > [SEP] B0000000"
    )
    assert walk(at, "click[next >]").count("$12.9") == 3
    assert walk(at, "click[next >]") == (
        f"{HEAD} [SEP] Page 4 (Total results: 23) [SEP] < Prev [SEP] Next >"
    )
    walk(at, "click[< prev]")
    asin = at.page.nodes[-3].text
    walk(at, f"click[{asin}]", "click[red]", "click[< prev]")
    assert at.page.url.endswith("/search_results/fixed/mug/3")
    assert at.options == {}
    assert f"[clicked button] {asin} [clicked button_]" in at.observation("text_rich")
    walk(at, "search[red]", "click[back to search]")
    assert at.page.has_search_bar
    assert at.visited == set()


def test_the_words_of_a_click_decide_before_what_they_stand_on() -> None:
    values = ["Buy Now", "Description", "Search", "< Prev", ""]
    given_ = {"Color": [{"value": value} for value in values]}
    shop = in_memory([product(customization_options=given_)])

    def opened() -> Session:
        at = Session(shop, goal(), "s")
        walk(at, "search[mug]", "click[b000000001]")
        return at

    assert opened().act("click[buy now]").done
    at = opened()
    walk(at, "click[description]")
    assert at.page.name == "item_sub_page"
    at = opened()
    assert not at.act("click[search]").valid
    walk(at, "click[< prev]")
    assert at.page.name == "search_results"
    assert list(opened().clickables)[-2:] == ["search", ""]


def test_a_page_goes_by_the_first_known_word_in_its_address() -> None:
    at = session(12)
    walk(at, "search[mug search_results]", "click[next >]")
    walk(at, f"click[{at.page.nodes[-3].text}]")
    assert "/item_page/" in at.page.url
    assert at.page.name == "search_results"
    walk(at, "click[< prev]")  # so this is one page back, as in WebShop
    assert at.number == 1


def test_special_searches() -> None:
    some = [product(f"B{n}", category="ab"[n % 2], query=f"q {n % 3}") for n in range(60)]
    at = Session(in_memory(some), goal(), "s", generator(5))
    assert "Total results: 50)" in walk(at, "search[<r>]")
    random_ones = [node.text for node in at.page.nodes if node.kind == "link"]
    assert len(set(random_ones)) == 10
    assert "(Total results: 30) [SEP] Next > [SEP] B1 [SEP]" in walk(at, "search[<c> b]")
    assert "(Total results: 20) [SEP] Next > [SEP] B2 [SEP]" in walk(at, "search[<q> Q 2]")
    assert "(Total results: 60)" in walk(at, "search[<a> dishwasher safe]")
    assert "(Total results: 0)" in walk(at, "search[<c>]")
    assert "(Total results: 0)" in walk(at, "search[ ]")
    again = Session(in_memory(some), goal(), "s", generator(5))
    walk(again, "search[<r>]")
    assert [node.text for node in again.page.nodes if node.kind == "link"] == random_ones


def test_an_unknown_observation() -> None:
    with pytest.raises(UnknownName, match="text_rich"):
        session().observation("pdf")  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- texts as a parser sees them


def test_white_space() -> None:
    nodes = [Node("text", each) for each in ("a ", " ", "", "\n", " \n ", "\t", "\xa0", "b\nc")]
    page = Page("u", tuple(nodes))
    assert text(page) == "a [SEP]  [SEP]  [SEP]  [SEP] b\nc"
    assert text_rich(page, ()) == "a \n \n \n\xa0\nb\nc\n"


def test_all_chosen_options_are_said_the_last_one_first() -> None:
    nodes = tuple(
        Node("label", value, name) for name, value in (("x", "a"), ("y", "b"), ("z", 'c"'))
    )
    found = text_rich(Page('p/{"x": "a", "y": "b", "z": "c\\""}', nodes), ())
    assert found.startswith("You have clicked b.\nYou have clicked a.\n  [clicked button] a")
    assert '  [button] c" [button_]\n' in found  # its quote is escaped in the address


def test_options_in_the_last_page_are_as_flask_writes_them() -> None:
    page = pages.done_page("u", "B1", {"z": "<a&'b>", "a": "é"}, 0.5)
    assert page.nodes[8].text == r'{"a": "\u00e9", "z": "\u003ca\u0026\u0027b\u003e"}'


WORDS = st.text(st.sampled_from("ab<>&\"' \n\xa0é"), max_size=8)


@settings(max_examples=60)
@given(
    title=WORDS,
    bullets=st.lists(WORDS, min_size=1, max_size=3),
    values=st.lists(WORDS, max_size=3),
    name=WORDS,
    said=WORDS,
)
def test_a_parser_finds_in_the_html_exactly_the_nodes_of_the_page(
    title: str, bullets: list[str], values: list[str], name: str, said: str
) -> None:
    ware = product(
        name=title,
        full_description=said,
        small_description=bullets,
        customization_options={name: [{"value": value} for value in values]},
    )
    shop = in_memory([ware])
    at = Session(shop, goal(instruction=f"buy {said}"), "s/1", show_attrs=True)
    check(at)
    at.search("<c> garden")
    check(at)
    for words in ("b000000001", *values, "description", "< prev", "features", "< prev"):
        at.act(f"click[{words}]")
        check(at)
    at.act("click[attributes]")
    check(at)
    if at.page.name == "item_sub_page":
        at.act("click[< prev]")
    at.act("click[buy now]")
    check(at)


def check(at: Session) -> None:
    found = Parsed(at.observation("html"))
    assert " [SEP] ".join(each.strip() for _, each in found.nodes) == at.observation("text")
    kinds = {"button": "button", "label": "label", "a": "link"}
    seen = [(kinds.get(tag, "text"), each) for tag, each in found.nodes]
    blank = " \n\t\f\r"
    expected = [(n.kind, n.text) for n in at.page.nodes if n.text.strip(blank)]
    assert [(kind, each) for kind, each in seen if each.strip(blank)] == expected
    assert [words for words in found.clickables() if words.strip(blank)] == [
        words for words in clickables(at.page) if words.strip(blank)
    ]


# ---------------------------------------------------------------- WebShop's interface


def test_sessions_keep_their_goal() -> None:
    shop = invented(40)
    web = WebShop(shop, shop.goals("synthetic", 0), "text")
    first, nothing = web.reset(session=3)
    assert nothing is None
    wanted = shop.goals("synthetic", 0)[3]
    assert first == f"WebShop [SEP] Instruction: [SEP] {wanted.instruction} [SEP] Search"
    assert web.instruction_text == f"Instruction: {wanted.instruction}"
    assert web.get_available_actions() == {"has_search_bar": True, "clickables": ["search"]}
    web.step("search[lamp]")
    web.reset()
    assert len(web.session.name) == 10
    drawn = web.session.goal
    assert web.reset(session=web.session.name)[0].endswith(f"{drawn.instruction} [SEP] Search")
    assert web.reset(session="3")[0] == first  # the same id as 3
    assert web.reset(session=3, instruction_text="x")[0] == first
    assert web.instruction_text == "x"
    prefixed = WebShop(shop, shop.goals("synthetic", 0), "url", session_prefix="p_")
    assert prefixed.reset(session=3)[0] == "http://127.0.0.1:3000/p_3"
    assert prefixed.session.goal == wanted


def test_histories_stand_before_the_observation() -> None:
    shop = invented(40)
    web = WebShop(shop, shop.goals("synthetic", 0), "url", num_prev_obs=2, num_prev_actions=1)
    start = web.reset(session=1)[0]
    one, two = (f"http://127.0.0.1:3000/search_results/1/{word}/1" for word in ("a", "b"))
    assert web.step("search[a]") == (f"{start} [SEP] search[a] [SEP] {one}", 0.0, False, None)
    assert web.step("search[b]")[0] == f"{start} [SEP] {one} [SEP] search[b] [SEP] {two}"
    assert web.step("nothing")[0] == f"{one} [SEP] {two} [SEP] nothing [SEP] {two}"
    web.reset(session=1)
    assert web.step("search[a]")[0] == f"{start} [SEP] search[a] [SEP] {one}"
    actions = WebShop(shop, shop.goals("synthetic", 0), "url", num_prev_actions=2)
    actions.reset(session=1)
    actions.step("search[a]")
    assert actions.step("search[b]")[0] == f"search[a] [SEP] search[b] [SEP] {two}"


SCRIPT = """
import hashlib
from foldgym.envs.shop.invent import invented
from foldgym.envs.shop.webshop import WebShop
from foldgym.seeding import generator
shop, found = invented(300), hashlib.sha256()
for kind, mode in (("synthetic", "text"), ("human", "text_rich"), ("synthetic", "html")):
    web = WebShop(shop, shop.goals(kind, 4), mode, show_attrs=True, seed=8)
    rng = generator(mode)
    for number in range(12):
        found.update(web.reset(None if number % 2 else number)[0].encode())
        for _ in range(25):
            can = web.get_available_actions()
            words = " ".join(rng.choices(["lamp", "red", "tea", "<r>", "gluten", "set"], k=2))
            click = f"click[{rng.choice(can['clickables'] or ['x'])}]"
            said = f"search[{words}]" if rng.random() < 0.3 else click
            found.update(repr((said, can, web.step(said), web.session.score)).encode())
print(found.hexdigest())
"""


def test_random_walks_are_the_same_in_new_processes() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "77")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
