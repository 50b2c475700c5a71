"""A calendar: a month to look at, days, and events to add, change and delete."""

from __future__ import annotations

import random
from calendar import Calendar as Weeks
from collections.abc import Sequence
from datetime import date
from html import escape
from typing import Any

from foldgym.envs.web.sites.kit import (
    WORDS,
    Fields,
    LocalSite,
    Refused,
    form,
    link,
    table,
    text_field,
    titles,
)

YEAR, MONTH = 2031, 5
"""The month that is shown first."""
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
Page = tuple[str, str]


class Calendar(LocalSite):
    """Events with a day, a time, a title and a place."""

    host, name = "calendar.test", "Calendar"
    links = (("/new", "New event"), ("/find", "Find"))
    schema = """
        create table event (id integer primary key, day text, time text, title text, place text);
    """
    routes = (
        ("GET", "/", "home"),
        ("GET", r"/month/(\d{4})-(\d{2})", "month"),
        ("GET", r"/day/(\d{4}-\d{2}-\d{2})", "day"),
        ("GET", r"/event/(\d+)", "event"),
        ("POST", r"/event/(\d+)/save", "save_event"),
        ("POST", r"/event/(\d+)/delete", "delete"),
        ("GET", "/new", "new"),
        ("POST", "/new", "create"),
        ("GET", "/find", "find"),
    )

    def fill(self, rng: random.Random) -> None:
        """Twenty events in two months."""
        for title in titles(rng, 20):
            day = date(YEAR, rng.choice((MONTH, MONTH + 1)), rng.randint(1, 28)).isoformat()
            self.write(
                "insert into event (day, time, title, place) values (?, ?, ?, ?)",
                *(day, f"{rng.randint(8, 19):02}:{rng.choice(('00', '15', '30', '45'))}"),
                *(title, rng.choice(WORDS).capitalize() + " room"),
            )

    def home(self, fields: Fields) -> str:
        """The first month."""
        return f"/month/{YEAR}-{MONTH:02}"

    def month(self, fields: Fields, year: str, month: str) -> Page:
        """A month as a table of weeks."""
        y, m = int(year), int(month)
        if not (1 <= m <= 12 and 1 <= y <= 9998):
            raise Refused("There is no such month.", 404)
        events: dict[str, list[str]] = {}
        for number, day, time, title in self.rows(
            "select id, day, time, title from event where day like ? order by day, time, id",
            f"{year}-{month}-%",
        ):
            events.setdefault(day, []).append(f"{time} {link(f'/event/{number}', title)}")
        cells = [
            [self._cell(day, m, events) for day in week]
            for week in Weeks().monthdatescalendar(y, m)
        ]
        before, after = date(y, m, 1).toordinal() - 1, date(y, m, 28).toordinal() + 4
        turns = [
            link(f"/month/{date.fromordinal(n).isoformat()[:7]}", name)
            for n, name in ((before, "Month before"), (after, "Month after"))
            if n > 0
        ]
        return f"{year}-{month}", f"<p>{' '.join(turns)}</p>" + table(_DAYS, cells)

    def _cell(self, day: date, month: int, events: dict[str, list[str]]) -> str:
        if day.month != month:
            return ""
        name = day.isoformat()
        return "<br>".join([link(f"/day/{name}", str(day.day)), *events.get(name, [])])

    def day(self, fields: Fields, day: str) -> Page:
        """The events of a day."""
        _day(day)
        found = self.rows(
            "select id, time, title, place from event where day = ? order by time", day
        )
        return day, self._events([(n, day, time, title, place) for n, time, title, place in found])

    def _events(self, found: Sequence[tuple[Any, ...]]) -> str:
        cells = [
            (link(f"/day/{day}", day), escape(time), link(f"/event/{n}", title), escape(place))
            for n, day, time, title, place in found
        ]
        return table(("day", "time", "title", "place"), cells) if cells else "<p>No events.</p>"

    def find(self, fields: Fields) -> Page:
        """Events whose title holds the words."""
        words = fields.get("q")
        asked = form("/find", "Find", text_field("Words", "q", words), method="get")
        if not words:
            return "Find", asked
        found = self.rows(
            "select id, day, time, title, place from event where title like ? order by day, time",
            f"%{words}%",
        )
        return "Find", asked + self._events(found)

    def event(self, fields: Fields, number: str) -> Page:
        """An event, with forms to change or delete it."""
        day, time, title, place = self.row(
            "select day, time, title, place from event where id = ?", int(number)
        )
        facts = "".join(
            f'<p>{name}: <span id="{name}">{escape(value)}</span></p>'
            for name, value in (("day", day), ("time", time), ("place", place))
        )
        change = form(f"/event/{number}/save", "Save", *_fields(title, day, time, place))
        return title, facts + change + form(f"/event/{number}/delete", "Delete")

    def save_event(self, fields: Fields, number: str) -> str:
        """Change an event."""
        self.row("select 1 from event where id = ?", int(number))
        given = self._given(fields)
        self.write(
            "update event set day = ?, time = ?, title = ?, place = ? where id = ?",
            *(*given, int(number)),
        )
        return f"/event/{number}"

    def delete(self, fields: Fields, number: str) -> str:
        """Delete an event."""
        (day,) = self.row("select day from event where id = ?", int(number))
        self.write("delete from event where id = ?", int(number))
        return f"/day/{day}"

    def new(self, fields: Fields) -> Page:
        """The form for an event."""
        return "New event", form("/new", "Add", *_fields("", fields.get("day"), "", ""))

    def create(self, fields: Fields) -> str:
        """Add an event."""
        number = self.write(
            "insert into event (day, time, title, place) values (?, ?, ?, ?)", *self._given(fields)
        )
        return f"/event/{number}"

    def _given(self, fields: Fields) -> tuple[str, str, str, str]:
        day, time = _day(fields.need("day")), fields.need("time")
        hours, _, minutes = time.partition(":")
        numbers = hours.isdecimal() and minutes.isdecimal() and len(time) == 5
        if not numbers or int(hours) > 23 or int(minutes) > 59:
            raise Refused(f"{time!r} is no time such as 09:30.")
        return day, time, fields.need("title"), fields.get("place")


def _fields(title: str, day: str, time: str, place: str) -> tuple[str, ...]:
    return (
        text_field("Title", "title", title),
        text_field("Day", "day", day, "date"),
        text_field("Time", "time", time, "time"),
        text_field("Place", "place", place),
    )


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Refused(f"{text!r} is no day such as {YEAR}-{MONTH:02}-09.") from None
