"""A file manager: folders and text files to open, edit, rename, move and delete."""

from __future__ import annotations

import random
from html import escape

from foldgym.envs.web.sites.kit import (
    WORDS,
    Fields,
    LocalSite,
    Refused,
    area,
    choice,
    form,
    link,
    table,
    text_field,
)

ENDINGS = (".txt", ".md", ".csv")
Page = tuple[str, str]


class Folders(LocalSite):
    """A tree of folders. An entry without text is a folder; the root is entry 1."""

    host, name = "files.test", "Files"
    schema = """
        create table entry (id integer primary key, parent integer, name text, text text);
    """
    routes = (
        ("GET", "/", "root"),
        ("GET", r"/open/(\d+)", "open"),
        ("POST", r"/open/(\d+)/new", "new"),
        ("POST", r"/open/(\d+)/edit", "edit"),
        ("POST", r"/open/(\d+)/rename", "rename"),
        ("POST", r"/open/(\d+)/move", "move"),
        ("POST", r"/open/(\d+)/delete", "delete"),
    )

    def fill(self, rng: random.Random) -> None:
        """Six folders, two of them inside others, and twenty-four files."""
        self.write("insert into entry values (1, 0, 'Home', null)")
        names = rng.sample(WORDS, 30)
        folders = [1]
        for number, name in enumerate(names[:6]):
            inside = 1 if number < 4 else folders[rng.randint(1, 4)]
            folders.append(self._add(inside, name.capitalize(), None))
        for name in names[6:]:
            lines = [" ".join(rng.sample(WORDS, 4)) for _ in range(rng.randint(2, 5))]
            self._add(rng.choice(folders), name + rng.choice(ENDINGS), "\n".join(lines))

    def _add(self, parent: int, name: str, text: str | None) -> int:
        if not name or "/" in name or name in (".", ".."):
            raise Refused(f"{name!r} cannot be a name.")
        if self.rows("select 1 from entry where parent = ? and name = ?", parent, name):
            raise Refused(f"There is a {name} already.")
        return self.write(
            "insert into entry (parent, name, text) values (?, ?, ?)", parent, name, text
        )

    def path(self, number: int) -> str:
        """`/Amber/birch.txt`; the root is `/`."""
        parts: list[str] = []
        while number > 1:
            number, name = self.row("select parent, name from entry where id = ?", number)
            parts.insert(0, name)
        return "/" + "/".join(parts)

    def folders(self, without: int = 0) -> dict[str, int]:
        """Paths of all folders, but those that are `without` or below it."""
        found = {self.path(n): n for (n,) in self.rows("select id from entry where text is null")}
        top = self.path(without) if without else "\0"
        return {
            path: n for path, n in sorted(found.items()) if path != top and f"{top}/" not in path
        }

    def root(self, fields: Fields) -> str:
        """Home."""
        return "/open/1"

    def open(self, fields: Fields, number: str) -> Page:
        """A folder with what is in it, or a file with its text."""
        parent, name, text = self.row(
            "select parent, name, text from entry where id = ?", int(number)
        )
        own = "" if int(number) == 1 else self._changes(int(number), parent, name)
        up = f"<p>{link(f'/open/{parent}', 'Up')}</p>" if parent else ""
        where = f'<p>Path: <span id="path">{escape(self.path(int(number)))}</span></p>'
        if text is not None:
            edit = form(f"/open/{number}/edit", "Save", area("Text", "text", text))
            return name, f'{up}{where}<pre id="text">{escape(text)}</pre>{edit}{own}'
        inside = self.rows(
            "select id, name, text is null from entry where parent = ? order by name", int(number)
        )
        listing = table(
            ("name", "kind"),
            [
                (link(f"/open/{n}", each), "folder" if is_folder else "file")
                for n, each, is_folder in inside
            ],
        )
        new = form(
            f"/open/{number}/new",
            "Create",
            text_field("New name", "name"),
            choice("Kind", "kind", ("file", "folder")),
        )
        return name, f"{up}{where}{listing}{new}{own}"

    def _changes(self, number: int, parent: int, name: str) -> str:
        here = f"/open/{number}"
        where = choice("To folder", "to", list(self.folders(number)), self.path(parent))
        return (
            form(f"{here}/rename", "Rename", text_field("Name", "name", name))
            + form(f"{here}/move", "Move", where)
            + form(f"{here}/delete", "Delete")
        )

    def new(self, fields: Fields, number: str) -> str:
        """Make a file or a folder."""
        self.row("select 1 from entry where id = ? and text is null", int(number))
        kind = fields.one_of("kind", ("file", "folder"))
        self._add(int(number), fields.need("name"), "" if kind == "file" else None)
        return f"/open/{number}"

    def edit(self, fields: Fields, number: str) -> str:
        """Replace a file's text."""
        self.row("select 1 from entry where id = ? and text is not null", int(number))
        text = fields.get("text").replace("\r\n", "\n")
        self.write("update entry set text = ? where id = ?", text, int(number))
        return f"/open/{number}"

    def _own(self, number: str) -> tuple[int, str]:
        """Parent and name of an entry that may be changed."""
        if number == "1":
            raise Refused("Home stays as it is.")
        parent, name = self.row("select parent, name from entry where id = ?", int(number))
        return parent, name

    def rename(self, fields: Fields, number: str) -> str:
        """Give another name."""
        parent, _ = self._own(number)
        self._put(int(number), parent, fields.need("name"))
        return f"/open/{number}"

    def _put(self, number: int, parent: int, name: str) -> None:
        """Check the place as for a new entry, then take it."""
        self.write("update entry set parent = -1 where id = ?", number)
        probe = self._add(parent, name, "")
        self.write("delete from entry where id = ?", probe)
        self.write("update entry set parent = ?, name = ? where id = ?", parent, name, number)

    def move(self, fields: Fields, number: str) -> str:
        """Put into another folder."""
        _, name = self._own(number)
        known = self.folders(int(number))
        self._put(int(number), known[fields.one_of("to", list(known))], name)
        return f"/open/{number}"

    def delete(self, fields: Fields, number: str) -> str:
        """Delete, with all that is inside."""
        parent, _ = self._own(number)
        self.write(
            "with recursive below(id) as (select ? union all select e.id from entry e, below b "
            "where e.parent = b.id) delete from entry where id in below",
            int(number),
        )
        return f"/open/{parent}"
