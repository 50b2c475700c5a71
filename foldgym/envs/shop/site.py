"""The shop as a web site, for people with a browser and for agents that drive one.

Pages have the official addresses, and all of a page's state is in its address, so the browser's own
buttons work. A session is a goal and what was bought; it begins with its first page:

    /                     a new session with the next goal
    /fixed_3              a session with the goal at place 3; any other name draws one
    /search_results/SESSION/WORDS/PAGE
    /item_page/SESSION/ASIN/WORDS/PAGE/OPTIONS          OPTIONS are JSON
    /item_sub_page/SESSION/ASIN/WORDS/PAGE/Features/OPTIONS
    /done/SESSION/ASIN/WORDS/PAGE/OPTIONS               POST buys

`Site` answers requests, `SiteServer` hears them on a port of this machine.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote

from foldgym.console import note
from foldgym.envs.shop.catalogue import Catalogue
from foldgym.envs.shop.goals import Goal, Goals
from foldgym.envs.shop.pages import SUB_PAGES
from foldgym.envs.shop.scoring import Score, Tagger, nouns
from foldgym.envs.shop.session import Session
from foldgym.listening import Handler, Listening
from foldgym.seeding import generator

FIXED = "fixed_"
MOST_SESSIONS = 10_000
LONGEST = 8_192
"""Characters of an address; a longer one is refused."""


class Answer(NamedTuple):
    """A page, or with `to` the address of another one."""

    status: HTTPStatus
    html: str = ""
    to: str = ""


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(slots=True)
class Visit:
    """One session of the site: what is wanted, and the first purchase, which counts."""

    goal: Goal
    bought: str = ""
    score: Score | None = None


class Site:
    """Answers requests over one catalogue; safe for threads.

    Args:
        goals: what customers want; `goal`, a place, gives every session the same one
        seed: decides which goals sessions draw
    """

    def __init__(
        self,
        catalogue: Catalogue,
        goals: Goals,
        goal: int | None = None,
        seed: int = 0,
        show_attrs: bool = False,
        tagger: Tagger = nouns,
    ) -> None:
        if goal is not None:
            goals[goal]  # raises for a place that is not there
        self.catalogue, self.goals = catalogue, goals
        self._goal, self._seed, self._show_attrs, self._tagger = goal, seed, show_attrs, tagger
        self._visits: dict[str, Visit] = {}
        self._begun = 0
        self._lock = threading.Lock()

    def visit(self, name: str) -> Visit:
        """The session of this name, begun if it is new; the oldest are forgotten at 10,000."""
        with self._lock:
            found = self._visits.get(name)
            if found is None:
                while len(self._visits) >= MOST_SESSIONS:
                    del self._visits[next(iter(self._visits))]
                found = self._visits[name] = Visit(self.goals[self._place(name)])
            return found

    def _place(self, name: str) -> int:
        if self._goal is not None:
            return self._goal
        number = name.removeprefix(FIXED)
        if name.startswith(FIXED) and number.isdecimal() and int(number) < len(self.goals):
            return int(number)
        return generator(self._seed, "site", name).randrange(len(self.goals))

    def answer(self, method: str, target: str) -> Answer:
        """The answer to a request for an address, percent-encoded and without the host."""
        try:
            return self._answer(method, target)
        except _Refused as refusal:
            return Answer(refusal.status, _problem(str(refusal)))

    def _answer(self, method: str, target: str) -> Answer:
        if len(target) > LONGEST:
            raise _Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long")
        path, _, query = target.partition("?")
        # split before unquoting: words may hold a slash
        parts = [unquote(part) for part in path.split("/")[1:]]
        if method not in ("GET", "HEAD") and not (method == "POST" and parts[:1] == ["done"]):
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} means nothing here")
        if parts == [""]:
            with self._lock:
                self._begun += 1
                return _to(f"visitor_{self._begun}")
        if len(parts) != 1:
            return self._deeper(method, parts)
        words = parse_qs(query).get("search_query", [""])[0].lower()
        if words:
            return _to("search_results", parts[0], words, "1")
        return Answer(HTTPStatus.OK, self._session(parts[0]).observation("html"))

    def _deeper(self, method: str, parts: list[str]) -> Answer:
        match parts:
            case ["search_results", name, words, number]:
                session = self._session(name)
                session.keywords = tuple(words.lower().split(" "))
                session.results(_number(number))
            case ["item_page", name, asin, words, number, options]:
                session = self._opened(name, asin, words, number, options)
                session.item()
            case ["item_sub_page", name, asin, words, number, page, options] if page in SUB_PAGES:
                session = self._opened(name, asin, words, number, options)
                session.sub_page(page)
            case ["done", name, asin, words, number, options]:
                session = self._opened(name, asin, words, number, options)
                session.buy()
                if method == "POST":
                    self._sell(name, session)
                    return _to(*parts)  # so that reloading buys nothing
                if self.visit(name).bought != asin:
                    raise _Refused(HTTPStatus.CONFLICT, f"{asin} was not bought in this session")
            case _:
                raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        return Answer(HTTPStatus.OK, session.observation("html"))

    def _session(self, name: str) -> Session:
        return Session(
            self.catalogue,
            self.visit(name).goal,
            name,
            generator(self._seed, "site", name, "play"),
            self.goals.seed,
            self._show_attrs,
            self._tagger,
        )

    def _opened(self, name: str, asin: str, words: str, number: str, options: str) -> Session:
        """A session that looks at a product."""
        session = self._session(name)
        product = self.catalogue.find(asin)
        if product is None:
            raise _Refused(HTTPStatus.NOT_FOUND, f"there is no product {asin}")
        try:
            chosen: Any = json.loads(options)
        except (ValueError, RecursionError):
            chosen = None
        offered = dict(product.options)
        if not isinstance(chosen, dict) or any(
            value not in offered.get(option, ()) for option, value in chosen.items()
        ):
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{asin} has no such options")
        session.keywords, session.number = tuple(words.split(" ")), _number(number)
        session.asin, session.options = asin, chosen
        return session

    def _sell(self, name: str, session: Session) -> None:
        visit = self.visit(name)
        with self._lock:
            if visit.score is None:
                visit.bought, visit.score = session.bought, session.score


def _to(*parts: str) -> Answer:
    address = "".join("/" + quote(part, safe="") for part in parts)
    return Answer(HTTPStatus.SEE_OTHER, to=address)


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= len(text) <= 6 or int(text) < 1:
        raise _Refused(HTTPStatus.NOT_FOUND, "pages are numbered from 1")
    return int(text)


def _problem(why: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><link rel="icon" '
        f'href="data:,"><title>WebShop</title></head><body><p>{escape(why)}</p>'
        '<p><a href="/">Begin again</a></p></body></html>\n'
    )


class SiteServer(Listening):
    """Answers on a thread for each connection, until closed.

        with SiteServer(site) as server:
            page.goto(f"{server.url}/fixed_3")
            ...
            site.visit("fixed_3").score

    Args:
        host: 127.0.0.1 is heard on this machine only
        port: 0 for any free one; `url` says which
    """

    def __init__(self, site: Site, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(type("Handler", (_Handler,), {"site": site}), host, port)

    @property
    def url(self) -> str:
        """Where the site is, without a slash at the end."""
        return self.address


class _Handler(Handler):
    site: Site

    def get(self) -> None:
        """A page."""
        self._answer()

    def post(self) -> None:
        """A purchase."""
        size = self.headers.get("Content-Length", "0")
        if not size.isdecimal() or int(size) > LONGEST:
            self.close_connection = True  # what follows cannot be told from a request
        else:
            self.rfile.read(int(size))  # forms have no fields, but the next request comes after it
        self._answer()

    def _answer(self) -> None:
        try:
            answer = self.site.answer(self.command, self.path)
        except Exception as problem:
            note(f"{self.path}: {type(problem).__name__}: {problem}")
            why = "something went wrong; the server's log says what"
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, _problem(why))
        headers = {"Cache-Control": "no-store", **({"Location": answer.to} if answer.to else {})}
        data = answer.html.encode("utf-8", "surrogatepass")
        self.reply(answer.status, data, "text/html; charset=utf-8", headers)
