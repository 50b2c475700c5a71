"""The shop as a web site: addresses, purchases, refusals, and a real browser."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from html import unescape
from http import HTTPStatus
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import quote

import pytest
from shops import Parsed, product

from foldgym.cli.main import main
from foldgym.envs.shop.catalogue import in_memory
from foldgym.envs.shop.invent import invented
from foldgym.envs.shop.session import Session
from foldgym.envs.shop.site import Answer, Site, SiteServer
from foldgym.errors import DataError

OPTIONS = {"Fit / cut": [{"value": "A/B"}, {"value": "50% off?"}], "color": [{"value": "Red"}]}


def mugs() -> Site:
    facts = {"attributes": ["x"], "instruction": "a mug", "instruction_attributes": ["x"]}
    wares = [
        product(f"B{n}", f"Mug n{n}", customization_options=OPTIONS, facts=facts) for n in range(12)
    ]
    shop = in_memory(wares)
    return Site(shop, shop.goals("synthetic", 0))


def follow(site: Site, target: str, method: str = "GET") -> Answer:
    found = site.answer(method, target)
    return follow(site, found.to) if found.to else found


def link(html: str, words: str) -> str:
    """Where a button, a link or an option leads, as a browser would read it."""
    last = ""
    for tag in html.split("<"):
        if tag.startswith(("form", "a ", "input")):
            last = tag
        if tag.split(">")[-1].strip() == words or f'value="{words}"' in tag:
            for name in ("action", "href", "data-url"):
                if f'{name}="' in last:
                    return unescape(last.split(f'{name}="')[1].split('"')[0])
    raise AssertionError(f"no {words}")


def test_clicking_through_gives_the_pages_of_the_protocol() -> None:
    site = mugs()
    wanted = site.goals[3]
    at = Session(site.catalogue, wanted, "fixed_3", price_seed=0)
    page = follow(site, "/fixed_3")

    def same() -> None:
        assert page.status == HTTPStatus.OK
        found = Parsed(page.html)
        seen = " [SEP] ".join(each.strip() for _, each in found.nodes)
        assert seen == at.observation("text")

    same()
    page = follow(site, "/fixed_3?search_query=Mug+n%2F1%3F")
    at.act("search[mug n/1?]")
    same()
    for words in ("Next >", "< Prev", "B3", "a | b", "50% off?", "Features", "< Prev", "red"):
        page = follow(site, link(page.html, words.replace("<", "&lt;").replace(">", "&gt;")))
        assert at.act(f"click[{words}]").valid
        same()
    assert page.html.count(" checked>") == 2
    assert site.visit("fixed_3").score is None
    page = follow(site, link(page.html, "Buy Now"), "POST")
    at.act("click[buy now]")
    same()
    visit = site.visit("fixed_3")
    assert visit.bought == "B3"
    assert visit.score == at.score
    follow(site, "/done/fixed_3/B4/x/1/%7B%7D", "POST")
    assert site.visit("fixed_3").bought == "B3"  # the first purchase counts


def test_sessions() -> None:
    site = mugs()
    first = site.answer("GET", "/")
    assert (first.status, first.to) == (HTTPStatus.SEE_OTHER, "/visitor_1")
    assert site.answer("GET", "/").to == "/visitor_2"
    assert site.visit("fixed_5").goal == site.goals[5]
    assert site.visit("fixed_99999").goal in list(site.goals)
    assert mugs().visit("ann").goal == site.visit("ann").goal
    one = Site(site.catalogue, site.goals, goal=7)
    assert one.visit("ann").goal == one.visit("fixed_5").goal == site.goals[7]
    with pytest.raises(IndexError):
        Site(site.catalogue, site.goals, goal=24)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/a/b", 404),
        ("GET", "/search_results/s/x/0", 404),
        ("GET", "/search_results/s/x/²", 404),
        ("GET", "/search_results/s/x/1/2", 404),
        ("GET", "/item_page/s/NONE/x/1/%7B%7D", 404),
        ("GET", "/item_page/s/B1/x/1/[]", 400),
        ("GET", "/item_page/s/B1/x/1/{", 400),
        ("GET", "/item_page/s/B1/x/1/" + quote('{"color": "blue"}'), 400),
        ("GET", "/item_page/s/B1/x/1/" + quote('{"color": ["red"]}'), 400),
        ("GET", "/item_sub_page/s/B1/x/1/Secrets/%7B%7D", 404),
        ("GET", "/done/s/B1/x/1/%7B%7D", 409),
        ("POST", "/s", 405),
        ("DELETE", "/s", 405),
        ("GET", "/" + "x" * 9000, 414),
        ("POST", "", 405),
        ("GET", "/<script>/x", 404),
    ],
)
def test_what_is_not_there_is_refused_on_a_page(method: str, target: str, status: int) -> None:
    found = mugs().answer(method, target)
    assert found.status == status
    assert found.html.startswith("<!DOCTYPE html>")
    assert "<script" not in found.html


def test_over_http() -> None:
    with SiteServer(mugs()) as server:
        assert server.url.startswith("http://127.0.0.1:")
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        seen: list[tuple[int, str | None, int]] = []
        for method, target, body in (
            ("GET", "/", None),
            ("HEAD", "/fixed_1", None),
            ("POST", "/done/fixed_1/B1/x/1/%7B%7D", "a=b"),
            ("GET", "/done/fixed_1/B1/x/1/%7B%7D", None),
        ):
            connection.request(method, target, body)
            answer = connection.getresponse()
            seen.append((answer.status, answer.headers["Location"], len(answer.read())))
        connection.close()
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(DataError, match=str(port)):
            SiteServer(mugs(), port=port)
    done = "/done/fixed_1/B1/x/1/%7B%7D"
    assert seen[:3] == [(303, "/visitor_1", 0), (200, None, 0), (303, done, 0)]
    assert seen[3][0] == 200
    assert seen[3][2] > 500
    server.close()


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, index = str(tmp_path / "files"), str(tmp_path / "index")
    assert main(["shop", "make", "40", "--seed", "2", "--output", files]) == 0
    assert main(["shop", "index", files, "--output", index]) == 0
    assert "index: 40 products" in capsys.readouterr().out
    assert main(["shop", "index", files, "--output", index]) == 2
    assert main(["shop", "make", "3", "--output", files]) == 2
    assert main(["shop", "make", "3", "--style", "odd", "--output", str(tmp_path / "x")]) == 2
    assert main(["shop", "serve", files, "--goals", "all"]) == 2
    assert main(["shop", "serve", index, "--goal", "9999"]) == 2
    assert main(["shop", "serve", str(tmp_path / "nothing")]) == 2
    problem = capsys.readouterr().err
    assert "Traceback" not in problem
    assert len(problem.strip().splitlines()) == 6


@pytest.fixture
def site() -> Site:
    shop = invented(200)
    return Site(shop, shop.goals("synthetic", 0), show_attrs=True)


@pytest.fixture
def served(site: Site) -> Iterator[SiteServer]:
    with SiteServer(site) as server:
        yield server


@pytest.mark.browser
def test_in_a_real_browser(site: Site, served: SiteServer) -> None:
    """Every page renders, fits its window, and a purchase by mouse and keyboard pays 1."""
    playwright: Any = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))))
    problems: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 700})

        def tell(event: Any) -> None:
            problems.append(getattr(event, "text", "") or str(event))

        def ask(request: Any) -> None:
            asked.append(request.url)

        page.on("console", tell)
        page.on("pageerror", tell)
        page.on("request", ask)
        seen: list[str] = []

        def look() -> None:
            page.wait_for_load_state()  # a click is done when the next page begins
            seen.append(page.url.removeprefix(served.url).split("/")[1])
            assert page.title() == "WebShop"
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, page.url

        page.goto(f"{served.url}/fixed_3")
        look()
        assert page.evaluate("document.getElementById('search_input').required")
        visit = site.visit("fixed_3")
        page.fill("#search_input", visit.goal.name)
        page.press("#search_input", "Enter")
        page.wait_for_url("**/search_results/**")
        look()
        page.click("text='Next >'")
        look()
        page.click("text='< Prev'")
        page.click(f"a.product-link:text-is('{visit.goal.asin}')")
        look()
        assert isinstance(visit.goal.options, dict)
        for value in visit.goal.options.values():
            page.click(f"label:text-is('{value}')")
            page.wait_for_function(
                "value => [...document.querySelectorAll('input:checked')]"
                ".some(each => each.value === value)",
                arg=value,
            )
        for name in ("Description", "Features", "Reviews", "Attributes"):
            page.click(f"text='{name}'")
            look()
            page.click("text='< Prev'")
        page.go_back()
        page.go_forward()
        page.click("text='Buy Now'")
        page.wait_for_url("**/done/**")
        look()
        assert page.locator("#reward").inner_text() == "1.0"
        page.reload()
        page.goto(f"{served.url}/nothing/here")
        assert "no such page" in page.inner_text("body")
        browser.close()
    assert seen == [
        *("fixed_3", "search_results", "search_results", "item_page"),
        *("item_sub_page",) * 4,
        "done",
    ]
    assert [each for each in problems if "404" not in each] == []
    assert {url.startswith((served.url, "data:")) for url in asked} == {True}
    assert visit.score is not None
    assert visit.score.reward == 1.0
