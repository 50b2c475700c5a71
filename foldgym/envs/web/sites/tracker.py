"""A ticket tracker: tickets with a status, a priority, an assignee and comments."""

from __future__ import annotations

import random
from html import escape

from foldgym.envs.web.sites.kit import (
    PEOPLE,
    WORDS,
    Fields,
    LocalSite,
    area,
    choice,
    form,
    link,
    table,
    text_field,
    titles,
)

STATES = ("open", "in progress", "closed")
PRIORITIES = ("low", "normal", "high", "urgent")
TEAM = tuple(PEOPLE[:6])
Page = tuple[str, str]


class Tracker(LocalSite):
    """Tickets of one project."""

    host, name = "tracker.test", "Tickets"
    links = (("/new", "New ticket"),)
    schema = """
        create table ticket (id integer primary key, title text, body text, status text,
                             priority text, assignee text);
        create table comment (id integer primary key, ticket integer, author text, body text);
    """
    routes = (
        ("GET", "/", "home"),
        ("GET", r"/ticket/(\d+)", "ticket"),
        ("POST", r"/ticket/(\d+)/edit", "edit"),
        ("POST", r"/ticket/(\d+)/comment", "comment"),
        ("GET", "/new", "new"),
        ("POST", "/new", "create"),
    )

    def fill(self, rng: random.Random) -> None:
        """Thirty tickets."""
        for number, title in enumerate(titles(rng, 30), 1):
            self.write(
                "insert into ticket values (?, ?, ?, ?, ?, ?)",
                *(number, title, " ".join(rng.sample(WORDS, 9)), rng.choice(STATES)),
                *(rng.choice(PRIORITIES), rng.choice(("", *TEAM))),
            )
            for _ in range(rng.randint(0, 3)):
                self.write(
                    "insert into comment (ticket, author, body) values (?, ?, ?)",
                    *(number, rng.choice(TEAM), " ".join(rng.sample(WORDS, 6))),
                )

    def home(self, fields: Fields) -> Page:
        """All tickets, or those of a status, an assignee, with words in the title."""
        status, who = fields.get("status"), fields.get("assignee")
        words = fields.get("q")
        found = self.rows(
            "select id, title, status, priority, assignee from ticket where "
            "(? = '' or status = ?) and (? = '' or assignee = ?) and title like ? order by id",
            *(status, status, who, who, f"%{words}%"),
        )
        cells = [
            (str(n), link(f"/ticket/{n}", title), escape(state), escape(priority), escape(holder))
            for n, title, state, priority, holder in found
        ]
        asked = form(
            "/",
            "Filter",
            text_field("Words", "q", words),
            choice("Status", "status", ("", *STATES), status),
            choice("Assignee", "assignee", ("", *TEAM), who),
            method="get",
        )
        head = ("number", "title", "status", "priority", "assignee")
        return "Tickets", f'{asked}<p>Found: <span id="found">{len(cells)}</span></p>' + table(
            head, cells
        )

    def ticket(self, fields: Fields, number: str) -> Page:
        """A ticket, with forms to change it and to comment."""
        title, body, status, priority, who = self.row(
            "select title, body, status, priority, assignee from ticket where id = ?", int(number)
        )
        said = self.rows(
            "select author, body from comment where ticket = ? order by id", int(number)
        )
        shown = "".join(
            f'<article class="comment"><b>{escape(a)}</b> <span>{escape(b)}</span></article>'
            for a, b in said
        )
        facts = table(
            ("status", "priority", "assignee"),
            [
                (
                    f'<span id="status">{escape(status)}</span>',
                    f'<span id="priority">{escape(priority)}</span>',
                    f'<span id="assignee">{escape(who)}</span>',
                )
            ],
        )
        change = form(
            f"/ticket/{number}/edit",
            "Save",
            choice("Status", "status", STATES, status),
            choice("Priority", "priority", PRIORITIES, priority),
            choice("Assignee", "assignee", ("", *TEAM), who),
        )
        talk = form(f"/ticket/{number}/comment", "Comment", area("Your comment", "body"))
        return title, (
            f'<p id="body">{escape(body)}</p>{facts}{change}<h2>Comments</h2>'
            f'<div id="comments">{shown}</div>{talk}'
        )

    def edit(self, fields: Fields, number: str) -> str:
        """Change status, priority and assignee."""
        self.row("select 1 from ticket where id = ?", int(number))
        self.write(
            "update ticket set status = ?, priority = ?, assignee = ? where id = ?",
            fields.one_of("status", STATES),
            fields.one_of("priority", PRIORITIES),
            fields.one_of("assignee", TEAM, empty=True),
            int(number),
        )
        return f"/ticket/{number}"

    def comment(self, fields: Fields, number: str) -> str:
        """Say something about a ticket."""
        self.row("select 1 from ticket where id = ?", int(number))
        self.write(
            "insert into comment (ticket, author, body) values (?, 'you', ?)",
            *(int(number), fields.need("body")),
        )
        return f"/ticket/{number}"

    def new(self, fields: Fields) -> Page:
        """The form for a ticket."""
        return "New ticket", form(
            "/new",
            "Create",
            text_field("Title", "title"),
            area("Text", "body"),
            choice("Priority", "priority", PRIORITIES, "normal"),
            choice("Assignee", "assignee", ("", *TEAM)),
        )

    def create(self, fields: Fields) -> str:
        """Open a ticket."""
        number = self.write(
            "insert into ticket (title, body, status, priority, assignee) "
            "values (?, ?, 'open', ?, ?)",
            fields.need("title"),
            fields.get("body"),
            fields.one_of("priority", PRIORITIES),
            fields.one_of("assignee", TEAM, empty=True),
        )
        return f"/ticket/{number}"
