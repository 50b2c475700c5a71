"""Tasks on our own sites, made from their databases: in WebArena's format, with a way to do them.

A way is a list of moves; a move names elements as a person would, by label or text, and a scripted
player looks them up on the page.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from foldgym.envs.web.sites import calendar, forum, tracker
from foldgym.envs.web.sites.kit import WORDS, LocalSite
from foldgym.envs.web.sites.tasks import WebTask, web_task

Move = tuple[str, ...]
"""("goto", url), ("click", role, text), ("fill", label, text), ("select", label, option),
("answer", text)."""
Sites = Mapping[str, LocalSite]


@dataclass(frozen=True, slots=True)
class Chore:
    """A task, and the moves that do it."""

    task: WebTask
    moves: tuple[Move, ...]


def _made(
    kind: str, intent: str, site: LocalSite, checks: Mapping[str, Any], *moves: Move
) -> Chore:
    row = {"task_id": kind, "intent": intent, "start_url": site.url + "/", "eval": dict(checks)}
    return Chore(web_task(row, {}), (("goto", site.url + "/"), *moves))


def _says(answer: str) -> dict[str, Any]:
    return {"eval_types": ["string_match"], "reference_answers": {"exact_match": answer}}


def _shows(*targets: tuple[str, str, str]) -> dict[str, Any]:
    """Pages, what reads them, and the exact text."""
    return {
        "eval_types": ["program_html"],
        "program_html": [
            {"url": url, "locator": locator, "required_contents": {"exact_match": text}}
            for url, locator, text in targets
        ],
    }


def _text(selector: str) -> str:
    return f"document.querySelector({selector!r}).textContent"


# ---------------------------------------------------------------- forum


def _thread(site: LocalSite, rng: random.Random) -> tuple[int, str, str, tuple[Move, ...]]:
    """A thread on the first page of its board, and the way to it."""
    board = rng.choice(forum.BOARDS)
    found = site.ask(
        "select id, title from thread where board = ? order by id desc limit ?",
        *(board, forum.PER_PAGE),
    )
    number, title = rng.choice(found)
    return number, title, board, (("click", "link", board), ("click", "link", title))


def count_replies(sites: Sites, rng: random.Random) -> Chore:
    """How many replies a thread has."""
    site = sites["forum"]
    number, title, board, way = _thread(site, rng)
    ((count,),) = site.ask("select count(*) from reply where thread = ?", number)
    asked = f'How many replies does the thread "{title}" on the board {board} have? A number.'
    return _made("count_replies", asked, site, _says(str(count)), *way, ("answer", str(count)))


def write_reply(sites: Sites, rng: random.Random) -> Chore:
    """Reply to a thread."""
    site = sites["forum"]
    number, title, board, way = _thread(site, rng)
    text = " ".join(rng.sample(WORDS, 4))
    last = _text("#replies article:last-child span")
    who = _text("#replies article:last-child b")
    page = f"{site.url}/thread/{number}"
    return _made(
        "write_reply",
        f'Reply "{text}" to the thread "{title}" on the board {board}.',
        site,
        _shows((page, last, text), (page, who, forum.ME)),
        *(*way, ("fill", "Your reply", text), ("click", "button", "Reply"), ("answer", "done")),
    )


def vote(sites: Sites, rng: random.Random) -> Chore:
    """Vote for a thread, or against it."""
    site, way_to_vote = sites["forum"], rng.choice(("up", "down"))
    number, title, board, way = _thread(site, rng)
    page = f"{site.url}/thread/{number}"
    return _made(
        "vote",
        f'Vote {way_to_vote} the thread "{title}" on the board {board}, once.',
        site,
        _shows((page, _text("#voted"), f"You voted {way_to_vote}.")),
        *(*way, ("click", "button", f"Vote {way_to_vote}"), ("answer", "done")),
    )


# ---------------------------------------------------------------- tracker


def _ticket(site: LocalSite, rng: random.Random) -> tuple[int, str, str, str]:
    found = site.ask("select id, title, status, assignee from ticket order by id")
    return rng.choice(found)  # type: ignore[return-value]


def who_has(sites: Sites, rng: random.Random) -> Chore:
    """Who a ticket is assigned to."""
    site = sites["tracker"]
    found = site.ask("select title, assignee from ticket where assignee != '' order by id")
    title, who = rng.choice(found)
    asked = f'Who is the ticket "{title}" assigned to? Only the name.'
    way = ("click", "link", title)
    return _made("who_has", asked, site, _says(who), way, ("answer", who))


def set_field(sites: Sites, rng: random.Random) -> Chore:
    """Change the status, or the assignee, of a ticket; the rest must stay."""
    site = sites["tracker"]
    number, title, status, who = _ticket(site, rng)
    label, new = rng.choice(
        [("Status", each) for each in tracker.STATES if each != status]
        + [("Assignee", each) for each in tracker.TEAM if each != who]
    )
    wanted = {"status": status, "assignee": who, label.lower(): new}
    page = f"{site.url}/ticket/{number}"
    return _made(
        "set_field",
        f'Set the {label.lower()} of the ticket "{title}" to {new}.',
        site,
        _shows(*((page, _text(f"#{key}"), value) for key, value in wanted.items())),
        ("click", "link", title),
        ("select", label, new),
        ("click", "button", "Save"),
        ("answer", "done"),
    )


def count_tickets(sites: Sites, rng: random.Random) -> Chore:
    """How many tickets somebody has in a state."""
    site = sites["tracker"]
    who, status = rng.choice(tracker.TEAM), rng.choice(tracker.STATES)
    ((count,),) = site.ask(
        "select count(*) from ticket where assignee = ? and status = ?", who, status
    )
    asked = f'How many tickets assigned to {who} have the status "{status}"? A number.'
    return _made(
        "count_tickets",
        asked,
        site,
        _says(str(count)),
        ("select", "Status", status),
        ("select", "Assignee", who),
        ("click", "button", "Filter"),
        ("answer", str(count)),
    )


# ---------------------------------------------------------------- files


def _file(site: LocalSite, rng: random.Random) -> tuple[int, str, str, tuple[Move, ...]]:
    """A file, its text, its path, and the clicks that lead to it."""
    rows = site.ask("select id, parent, name, text from entry order by id")
    known = {number: (parent, name) for number, parent, name, _ in rows}
    number, parent, name, text = rng.choice([row for row in rows if row[3] is not None])
    names = [name]
    while parent > 1:
        parent, folder = known[parent]
        names.insert(0, folder)
    return number, text, "/" + "/".join(names), tuple(("click", "link", each) for each in names)


def read_line(sites: Sites, rng: random.Random) -> Chore:
    """What a line of a file says."""
    site = sites["files"]
    _, text, path, way = _file(site, rng)
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    asked = f"What does line {place + 1} of the file {path} say? Only that line."
    return _made("read_line", asked, site, _says(lines[place]), *way, ("answer", lines[place]))


def rename(sites: Sites, rng: random.Random) -> Chore:
    """Give a file another name."""
    site = sites["files"]
    number, text, path, way = _file(site, rng)
    folder = path.rpartition("/")[0]
    new = f"{rng.choice(WORDS)}{rng.randint(10, 99)}.txt"
    page = f"{site.url}/open/{number}"
    return _made(
        "rename",
        f"Rename the file {path} to {new}, in the same folder.",
        site,
        _shows((page, _text("#path"), f"{folder}/{new}"), (page, _text("#text"), text)),
        *(*way, ("fill", "Name", new), ("click", "button", "Rename"), ("answer", "done")),
    )


def move(sites: Sites, rng: random.Random) -> Chore:
    """Put a file into another folder."""
    site = sites["files"]
    number, _, path, way = _file(site, rng)
    rows = site.ask("select name from entry where text is null and parent = 1 order by id")
    here, _, name = path.rpartition("/")
    folder = rng.choice([f"/{each}" for (each,) in rows if f"/{each}" != here])
    page = f"{site.url}/open/{number}"
    return _made(
        "move",
        f"Move the file {path} into the folder {folder}.",
        site,
        _shows((page, _text("#path"), f"{folder}/{name}")),
        *(*way, ("select", "To folder", folder), ("click", "button", "Move"), ("answer", "done")),
    )


# ---------------------------------------------------------------- calendar


def when(sites: Sites, rng: random.Random) -> Chore:
    """At which time an event begins."""
    site = sites["calendar"]
    day, time, title = rng.choice(site.ask("select day, time, title from event order by id"))
    way = _to_event(day, title)
    asked = f'At what time does "{title}" begin on {day}? As HH:MM.'
    return _made("when", asked, site, _says(time), *way, ("answer", time))


def _to_event(day: str, title: str) -> tuple[Move, ...]:
    turn = () if int(day[5:7]) == calendar.MONTH else (("click", "link", "Month after"),)
    return (*turn, ("click", "link", title))


def add_event(sites: Sites, rng: random.Random) -> Chore:
    """Add an event."""
    site = sites["calendar"]
    title = " ".join(rng.sample(WORDS, 3))
    day = f"{calendar.YEAR}-{calendar.MONTH:02}-{rng.randint(1, 28):02}"
    time = f"{rng.randint(8, 19):02}:{rng.choice(('00', '30'))}"
    page = f"{site.url}/find?q={title.replace(' ', '+')}"
    row = "main table tr:nth-child(2) td:nth-child({})"
    return _made(
        "add_event",
        f'Add an event "{title}" on {day} at {time}; leave the place empty.',
        site,
        _shows((page, _text(row.format(1)), day), (page, _text(row.format(2)), time)),
        ("click", "link", "New event"),
        ("fill", "Title", title),
        ("fill", "Day", day),
        ("fill", "Time", time),
        ("click", "button", "Add"),
        ("answer", "done"),
    )


def delete_event(sites: Sites, rng: random.Random) -> Chore:
    """Delete an event, and no other."""
    site = sites["calendar"]
    number, day, title = rng.choice(site.ask("select id, day, title from event order by id"))
    rest = site.ask("select title from event where day = ? and id != ? order by time", day, number)
    day_page = f"{site.url}/day/{day}"
    left = "[...document.querySelectorAll('tr td:nth-child(3)')].map((e) => e.textContent).join()"
    return _made(
        "delete_event",
        f'Delete the event "{title}" on {day}.',
        site,
        _shows(
            (f"{site.url}/event/{number}", _text("h1"), "Sorry"),
            (day_page, left, ",".join(name for (name,) in rest)),
        ),
        *(*_to_event(day, title), ("click", "button", "Delete"), ("answer", "done")),
    )


CHORES: Mapping[str, Callable[[Sites, random.Random], Chore]] = {
    "count_replies": count_replies,
    "write_reply": write_reply,
    "vote": vote,
    "who_has": who_has,
    "set_field": set_field,
    "count_tickets": count_tickets,
    "read_line": read_line,
    "rename": rename,
    "move": move,
    "when": when,
    "add_event": add_event,
    "delete_event": delete_event,
}
