"""What every site is made of: routes, plain HTML with forms, and a database per episode."""

from __future__ import annotations

import random
import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from foldgym.containers.gateway import Request, Response

LONGEST = 2_000
"""Characters of a field that a site keeps."""
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:1em auto;padding:0 1em;color:#222}"
    "nav a{margin-right:1em}table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left;vertical-align:top}"
    "form{margin:.6em 0}label{display:inline-block;margin:.2em .8em .2em 0}"
    ".inline{display:inline}.quiet{color:#666}article{border-top:1px solid #ddd;padding:.5em 0}"
)

WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "indigo",
    "juniper",
    "kernel",
    "lantern",
    "meadow",
    "nectar",
    "orchid",
    "pebble",
    "quartz",
    "ripple",
    "saffron",
    "timber",
    "umber",
    "velvet",
    "willow",
    "yarrow",
    "zephyr",
    "anchor",
    "beacon",
    "copper",
    "dune",
    "echo",
    "falcon",
    "garnet",
    "hazel",
    "ivory",
    "jasper",
    "lagoon",
    "maple",
    "nimbus",
    "opal",
    "prairie",
]
PEOPLE = [
    "Ada",
    "Bela",
    "Cato",
    "Dora",
    "Emil",
    "Fenja",
    "Goran",
    "Hedda",
    "Ivo",
    "Jorun",
    "Kira",
    "Ludo",
]


def titles(rng: random.Random, count: int) -> list[str]:
    """Different titles of two words, none of which is part of another."""
    pairs = [f"{a} {b}" for a in WORDS for b in WORDS if a != b]
    return [each.capitalize() for each in rng.sample(pairs, count)]


class Refused(Exception):
    """A request that a site does not grant; the message is shown on its page."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class LocalSite:
    """A site on a host of its own; a `Site` for the browser's gateway, safe for threads.

    Subclasses say `host`, `name`, `schema` (SQL) and `routes`: (method, pattern of the path,
    method name). A route gets the groups of the pattern and the fields, and returns a page's body
    with its title, or an address to go to.
    """

    host: ClassVar[str]
    name: ClassVar[str]
    schema: ClassVar[str]
    routes: ClassVar[Sequence[tuple[str, str, str]]]
    links: ClassVar[Sequence[tuple[str, str]]] = ()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.executescript(self.schema)

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://{self.host}"

    # ------------------------------------------------------------ the database

    def seed(self, rng: random.Random) -> None:
        """Forget everything, and fill the tables from `rng` alone."""
        with self._lock:
            fresh = sqlite3.connect(":memory:")
            fresh.executescript(self.schema)
            self._db.deserialize(fresh.serialize())
            fresh.close()
            self.fill(rng)
            self._db.commit()

    def fill(self, rng: random.Random) -> None:
        """Insert the rows of a new episode."""
        raise NotImplementedError(f"{type(self).__name__} needs fill(self, rng)")

    def save(self) -> bytes:
        """The whole database."""
        with self._lock:
            return self._db.serialize()

    def load(self, saved: bytes) -> None:
        """Go back to what `save` gave."""
        with self._lock:
            self._db.deserialize(saved)

    def rows(self, sql: str, *given: Any) -> list[tuple[Any, ...]]:
        """What a query finds. The lock is held by whoever answers a request."""
        return self._db.execute(sql, given).fetchall()

    def row(self, sql: str, *given: Any) -> tuple[Any, ...]:
        """The first row. Raises `Refused` (404) if there is none."""
        found = self._db.execute(sql, given).fetchone()
        if found is None:
            raise Refused("There is no such page.", 404)
        return found

    def write(self, sql: str, *given: Any) -> int:
        """Change something; the id of a new row."""
        return int(self._db.execute(sql, given).lastrowid or 0)

    def ask(self, sql: str, *given: Any) -> list[tuple[Any, ...]]:
        """`rows`, for whoever is not answering a request."""
        with self._lock:
            return self.rows(sql, *given)

    # ------------------------------------------------------------ requests

    def __call__(self, request: Request) -> Response:
        """Answer, as a `Site`."""
        known = False
        for method, pattern, name in self.routes:
            found = re.fullmatch(pattern, request.path)
            known = known or found is not None
            if found is None or method != request.method.replace("HEAD", "GET"):
                continue
            with self._lock:
                try:
                    made = getattr(self, name)(Fields(request), *found.groups())
                    self._db.commit()
                except Refused as refusal:
                    self._db.rollback()
                    return self._problem(str(refusal), refusal.status)
                except BaseException:
                    self._db.rollback()
                    raise
            if isinstance(made, str):
                return Response(303, headers=(("location", made),))
            title, body = made
            return Response(200, self.page(title, body))
        why = f"{request.method} means nothing here." if known else "There is no such page."
        return self._problem(why, 405 if known else 404)

    def page(self, title: str, body: str) -> str:
        """A whole page."""
        links = "".join(link(to, text) for to, text in (("/", self.name), *self.links))
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
            f"<style>{_STYLE}</style></head><body><nav>{links}</nav>"
            f"<main><h1>{escape(title)}</h1>{body}</main></body></html>\n"
        )

    def _problem(self, why: str, status: int) -> Response:
        return Response(status, self.page("Sorry", f'<p class="problem">{escape(why)}</p>'))


class Fields:
    """The fields of a form and of the address; a form's win."""

    def __init__(self, request: Request) -> None:
        given = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
        if request.method == "POST":
            body = request.body.decode("utf-8", "replace")
            given.update(parse_qs(body, keep_blank_values=True))
        self._given = {key: values[-1] for key, values in given.items()}

    def get(self, name: str, default: str = "") -> str:
        """A field without outer blanks, cut at `LONGEST` characters."""
        return self._given.get(name, default).strip()[:LONGEST]

    def need(self, name: str) -> str:
        """A field that must not be empty. Raises `Refused`."""
        value = self.get(name)
        if not value:
            raise Refused(f"The field {name} is empty.")
        return value

    def one_of(self, name: str, known: Sequence[str], empty: bool = False) -> str:
        """A field with one of these values. Raises `Refused`."""
        value = self.get(name)
        if value in known or (empty and not value):
            return value
        raise Refused(f"The field {name} cannot be {value!r}.")


# ---------------------------------------------------------------- HTML


def link(to: str, text: str) -> str:
    """A link."""
    return f'<a href="{escape(to)}">{escape(text)}</a>'


def at(path: str, **query: str) -> str:
    """An address: `at("/search", q="a b")`."""
    given = "&".join(f"{key}={quote(value)}" for key, value in query.items())
    return path + (f"?{given}" if given else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def text_field(label: str, name: str, value: str = "", kind: str = "text") -> str:
    """A labelled field of one line."""
    return (
        f'<label>{escape(label)} <input type="{kind}" name="{name}" value="{escape(value)}">'
        "</label>"
    )


def area(label: str, name: str, value: str = "") -> str:
    """A labelled field of several lines."""
    return (
        f'<label>{escape(label)} <textarea name="{name}" rows="4" cols="60">'
        f"{escape(value)}</textarea></label>"
    )


def choice(label: str, name: str, options: Sequence[str], chosen: str = "") -> str:
    """A labelled list to choose from."""
    items = "".join(
        f'<option value="{escape(each)}"{" selected" if each == chosen else ""}>'
        f"{escape(each or '(any)')}</option>"
        for each in options
    )
    return f'<label>{escape(label)} <select name="{name}">{items}</select></label>'


def form(
    to: str,
    button: str,
    *fields: str,
    method: str = "post",
    hidden: Mapping[str, str] | None = None,
) -> str:
    """A form with one button."""
    kept = "".join(
        f'<input type="hidden" name="{key}" value="{escape(value)}">'
        for key, value in (hidden or {}).items()
    )
    return (
        f'<form method="{method}" action="{escape(to)}">{kept}{"".join(fields)}'
        f"<button>{escape(button)}</button></form>"
    )
