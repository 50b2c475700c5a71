"""A forum: boards, threads, replies and votes."""

from __future__ import annotations

import random
from html import escape

from foldgym.envs.web.sites.kit import (
    PEOPLE,
    WORDS,
    Fields,
    LocalSite,
    area,
    at,
    choice,
    form,
    link,
    table,
    text_field,
    titles,
)

ME = "you"
BOARDS = ("Gardening", "Cooking", "Travel", "Music")
PER_PAGE = 8
Page = tuple[str, str]


class Forum(LocalSite):
    """Boards of threads; the visitor is signed in as `you`."""

    host, name = "forum.test", "Forum"
    links = (("/new", "New thread"), ("/search", "Search"))
    schema = """
        create table thread (id integer primary key, board text, title text, author text,
                             body text, votes integer);
        create table reply (id integer primary key, thread integer, author text, body text);
        create table vote (thread integer primary key, value integer);
    """
    routes = (
        ("GET", "/", "home"),
        ("GET", "/board/([A-Za-z]+)", "board"),
        ("GET", r"/thread/(\d+)", "thread"),
        ("POST", r"/thread/(\d+)/reply", "reply"),
        ("POST", r"/thread/(\d+)/vote", "vote"),
        ("GET", "/new", "new"),
        ("POST", "/new", "create"),
        ("GET", "/search", "search"),
        ("GET", "/user/([A-Za-z]+)", "user"),
    )

    def fill(self, rng: random.Random) -> None:
        """Ten threads a board, with up to nine replies each."""
        for number, title in enumerate(titles(rng, 10 * len(BOARDS))):
            board, words = BOARDS[number % len(BOARDS)], " ".join(rng.sample(WORDS, 8))
            self.write(
                "insert into thread values (?, ?, ?, ?, ?, ?)",
                *(number + 1, board, title, rng.choice(PEOPLE), words, rng.randint(0, 60)),
            )
            for _ in range(rng.randint(0, 9)):
                said = " ".join(rng.sample(WORDS, 6))
                self.write(
                    "insert into reply (thread, author, body) values (?, ?, ?)",
                    *(number + 1, rng.choice(PEOPLE), said),
                )

    def home(self, fields: Fields) -> Page:
        """All boards."""
        counts = dict(self.rows("select board, count(*) from thread group by board"))
        cells = [(link(f"/board/{name}", name), str(counts.get(name, 0))) for name in BOARDS]
        return "Boards", table(("board", "threads"), cells)

    def _list(self, where: str, given: tuple[str, ...], page: int, to: str, query: str = "") -> str:
        found = self.rows(
            "select id, title, author, votes, (select count(*) from reply where thread = t.id) "
            f"from thread t where {where} order by id desc limit ? offset ?",
            *(*given, PER_PAGE + 1, PER_PAGE * (page - 1)),
        )
        cells = [
            (link(f"/thread/{n}", title), link(f"/user/{who}", who), str(votes), str(replies))
            for n, title, who, votes, replies in found[:PER_PAGE]
        ]
        keep = {"q": query} if query else {}
        turns = [link(at(to, **keep, page=str(page - 1)), "Newer")] if page > 1 else []
        turns += [link(at(to, **keep, page=str(page + 1)), "Older")] * (len(found) > PER_PAGE)
        listing = table(("title", "author", "votes", "replies"), cells)
        return listing + f"<p>{' '.join(turns)}</p>" if cells else "<p>Nothing was found.</p>"

    def board(self, fields: Fields, name: str) -> Page:
        """The threads of a board, eight a page, the newest first."""
        self.row("select 1 from thread where board = ?", name)
        return name, self._list("board = ?", (name,), _page(fields), f"/board/{name}")

    def search(self, fields: Fields) -> Page:
        """Threads whose title or text holds the words."""
        words = fields.get("q")
        asked = form("/search", "Search", text_field("Words", "q", words), method="get")
        if not words:
            return "Search", asked
        pattern = f"%{words}%"
        where = "title like ? or body like ?"
        return "Search", asked + self._list(
            where, (pattern, pattern), _page(fields), "/search", words
        )

    def user(self, fields: Fields, name: str) -> Page:
        """What somebody wrote."""
        threads = self.rows("select id, title from thread where author = ? order by id", name)
        said = self.rows(
            "select thread, body from reply where author = ? order by id desc limit 20", name
        )
        if not threads and not said and name != ME:
            self.row("select 1 from thread where author = ?", name)
        items = "".join(f"<li>{link(f'/thread/{n}', title)}</li>" for n, title in threads)
        texts = "".join(f"<li>{link(f'/thread/{n}', body)}</li>" for n, body in said)
        return name, f"<h2>Threads</h2><ul>{items}</ul><h2>Replies</h2><ul>{texts}</ul>"

    def thread(self, fields: Fields, number: str) -> Page:
        """A thread with its replies, and forms to vote and reply."""
        board, title, who, body, votes = self.row(
            "select board, title, author, body, votes from thread where id = ?", int(number)
        )
        mine = self.rows("select value from vote where thread = ?", int(number))
        replies = self.rows(
            "select author, body from reply where thread = ? order by id", int(number)
        )
        shown = "".join(
            f'<article class="reply"><b>{escape(a)}</b> <span>{escape(b)}</span></article>'
            for a, b in replies
        )
        voted = {1: "You voted up.", -1: "You voted down."}.get(mine[0][0] if mine else 0, "")
        votings = "".join(
            form(f"/thread/{number}/vote", f"Vote {way}", hidden={"way": way})
            for way in ("up", "down")
        )
        return title, (
            f"<p>{link(f'/board/{board}', board)} by {link(f'/user/{who}', who)}</p>"
            f'<p id="body">{escape(body)}</p><p>Votes: <span id="votes">{votes}</span> '
            f'<span id="voted">{voted}</span></p>{votings}'
            f'<h2>Replies: <span id="count">{len(replies)}</span></h2>'
            f'<div id="replies">{shown}</div>'
            + form(f"/thread/{number}/reply", "Reply", area("Your reply", "body"))
        )

    def reply(self, fields: Fields, number: str) -> str:
        """Add a reply."""
        self.row("select 1 from thread where id = ?", int(number))
        self.write(
            "insert into reply (thread, author, body) values (?, ?, ?)",
            *(int(number), ME, fields.need("body")),
        )
        return f"/thread/{number}"

    def vote(self, fields: Fields, number: str) -> str:
        """Vote up or down; a second vote takes the place of the first."""
        self.row("select 1 from thread where id = ?", int(number))
        value = 1 if fields.one_of("way", ("up", "down")) == "up" else -1
        before = self.rows("select value from vote where thread = ?", int(number))
        change = value - (before[0][0] if before else 0)
        self.write("update thread set votes = votes + ? where id = ?", change, int(number))
        self.write("insert or replace into vote values (?, ?)", int(number), value)
        return f"/thread/{number}"

    def new(self, fields: Fields) -> Page:
        """The form for a thread."""
        return "New thread", form(
            "/new",
            "Post",
            choice("Board", "board", BOARDS),
            text_field("Title", "title"),
            area("Text", "body"),
        )

    def create(self, fields: Fields) -> str:
        """Post a thread."""
        number = self.write(
            "insert into thread (board, title, author, body, votes) values (?, ?, ?, ?, 0)",
            fields.one_of("board", BOARDS),
            fields.need("title"),
            ME,
            fields.need("body"),
        )
        return f"/thread/{number}"


def _page(fields: Fields) -> int:
    number = fields.get("page", "1")
    return min(max(int(number), 1), 1_000) if number.isdecimal() and len(number) < 6 else 1
