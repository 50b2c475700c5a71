"""Git's patches, read, applied and written outside any box, so that no box's git is believed."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import PurePosixPath

from foldgym.envs.swe.trees import Change, Entry, Tree, put

FUZZ = 2
"""Lines of context at either end of a hunk that need not be there."""
_MOST_BINARY = 50_000_000
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b'"': b'"', b"\\": b"\\"}
_NO_NEWLINE = "\\ No newline at end of file"


class PatchError(ValueError):
    """A patch that cannot be read, that does not apply, or that leaves the project's folder."""


@dataclass(slots=True)
class Hunk:
    """Old and new lines, each with its end of line, and the number of the first old one."""

    start: int
    old: list[str] = field(default_factory=list[str])
    new: list[str] = field(default_factory=list[str])
    lead: int = 0
    trail: int = 0


@dataclass(slots=True)
class FilePatch:
    """What a patch does to one file; `old` or `new` is empty where there is none."""

    old: str
    new: str
    hunks: list[Hunk] = field(default_factory=list[Hunk])
    mode: str = ""
    binary: bytes | None = None
    copy: bool = False


# ---------------------------------------------------------------- reading


def read_patch(text: str) -> list[FilePatch]:
    """The files of a unified diff, git's or plain. Raises `PatchError`."""
    lines = text.split("\n")
    found: list[FilePatch] = []
    at = 0
    while at < len(lines):
        if lines[at].startswith("diff --git "):
            each, at = _git_header(lines, at)
            found.append(each)
        elif lines[at].startswith("--- ") and lines[at + 1 : at + 2] != []:
            if not lines[at + 1].startswith("+++ "):
                raise PatchError(f"line {at + 1}: '---' without '+++'")
            each = FilePatch(_side(lines[at][4:]), _side(lines[at + 1][4:]))
            at = _hunks(lines, at + 2, each)
            found.append(each)
        elif lines[at].startswith("@@ "):
            raise PatchError(f"line {at + 1}: a hunk of no file")
        else:
            at += 1
    if not found:
        raise PatchError("there is no diff in it")
    for each in found:
        for path in (each.old, each.new):
            _check(path)
    return found


def _check(path: str) -> None:
    parts = PurePosixPath(path).parts
    if path and (path.startswith("/") or ".." in parts or not parts or "\0" in path):
        raise PatchError(f"{path!r} is no path below the project's folder")


def _side(text: str) -> str:
    """The path of a `---` or `+++` line, less `a/` or `b/`; empty for /dev/null."""
    path = _name(text.split("\t")[0] if not text.startswith('"') else text)
    if path == "/dev/null":
        return ""
    return path[2:] if path[:2] in ("a/", "b/") else path


def _name(text: str) -> str:
    """A path as git writes it, with quotes and escapes where it is unusual."""
    text = text.rstrip("\r")
    if not text.startswith('"'):
        return text
    end = text.rfind('"')
    if end == 0:
        raise PatchError(f"{text!r} is no quoted path")

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 255]) if len(code) == 3 else _LETTERS.get(code, code)

    raw = text[1:end].encode(errors="surrogateescape")
    return _ESCAPE.sub(plain, raw).decode(errors="surrogateescape")


def _git_header(lines: Sequence[str], at: int) -> tuple[FilePatch, int]:
    each = FilePatch(*_both(lines[at][len("diff --git ") :]))
    at += 1
    while at < len(lines):
        word, line = lines[at].split(" ")[0], lines[at].rstrip("\r")
        if line.startswith("new file mode "):
            each.old, each.mode = "", line[-6:]
        elif line.startswith("deleted file mode "):
            each.new = ""
        elif line.startswith("new mode "):
            each.mode = line[-6:]
        elif line.startswith(("rename from ", "copy from ")):
            each.old, each.copy = _name(line.split(" ", 2)[2]), word == "copy"
        elif line.startswith(("rename to ", "copy to ")):
            each.new = _name(line.split(" ", 2)[2])
        elif line.startswith("--- ") and lines[at + 1 : at + 2] != []:
            each.old, each.new = _side(line[4:]), _side(lines[at + 1][4:])
            return each, _hunks(lines, at + 2, each)
        elif line == "GIT binary patch":
            return each, _binary(lines, at + 1, each)
        elif line.startswith("Binary files "):
            raise PatchError(f"line {at + 1}: a binary file without its content")
        elif not line.startswith(("index ", "old mode ", "similarity ", "dissimilarity ")):
            break
        at += 1
    return each, at


def _both(text: str) -> tuple[str, str]:
    """`a/x b/x`: both halves are one path, so that spaces in it do no harm."""
    text = text.rstrip("\r")
    if text.startswith('"'):
        end = text.index('" ', 1) if '" ' in text[1:] else 0
        return _side(text[: end + 1]), _side(text[end + 2 :])
    middle = len(text) // 2
    if len(text) % 2 and text[2:middle] == text[middle + 3 :]:
        return text[2:middle], text[middle + 3 :]
    old, _, new = text.partition(" b/")
    return _side(old), new


def _hunks(lines: Sequence[str], at: int, each: FilePatch) -> int:
    while at < len(lines) and (match := _HUNK.match(lines[at])):
        hunk = Hunk(int(match[1]))
        olds, news = int(match[2] or 1), int(match[4] or 1)
        at += 1
        context, changed = 0, False
        while olds > 0 or news > 0:
            if at >= len(lines) or (at + 1 == len(lines) and not lines[at]):
                raise PatchError(f"the hunk of {each.new or each.old} ends before its end")
            kind, line = lines[at][:1], lines[at][1:] + "\n"
            if kind == "\\":
                _cut(hunk, lines[at - 1][:1])
                at += 1
                continue
            if kind in ("", "\r"):  # a blank line of context whose space was lost
                kind, line = " ", lines[at] + "\n"
            if kind == " ":
                context += 1
            elif kind in "+-":
                hunk.lead, changed, context = hunk.lead if changed else context, True, 0
            else:
                raise PatchError(f"line {at + 1}: {lines[at][:60]!r} is no line of a hunk")
            if kind in " -":
                hunk.old.append(line)
                olds -= 1
            if kind in " +":
                hunk.new.append(line)
                news -= 1
            if olds < 0 or news < 0:
                raise PatchError(f"line {at + 1}: the hunk is longer than it says")
            at += 1
        if at < len(lines) and lines[at].startswith("\\"):
            _cut(hunk, lines[at - 1][:1])
            at += 1
        hunk.trail = context if changed else 0
        each.hunks.append(hunk)
    return at


def _cut(hunk: Hunk, kind: str) -> None:
    """The last line has no newline."""
    sides = {"-": [hunk.old], "+": [hunk.new]}.get(kind, [hunk.old, hunk.new])
    for side in sides:
        if side:
            side[-1] = side[-1].removesuffix("\n")


def _binary(lines: Sequence[str], at: int, each: FilePatch) -> int:
    """The content of a `literal` block. Deltas against another blob are refused."""
    if at >= len(lines) or not lines[at].startswith("literal "):
        raise PatchError(f"line {at + 1}: a binary patch that is no literal: use git diff --binary")
    size = lines[at][len("literal ") :].strip()
    packed = bytearray()
    at += 1
    try:
        while at < len(lines) and lines[at].strip():
            count, text = lines[at][0], lines[at][1:].rstrip("\r")
            length = ord(count) - (64 if count.isupper() else 70)
            packed += base64.b85decode(text)[:length]
            at += 1
        room = zlib.decompressobj()
        each.binary = room.decompress(bytes(packed), _MOST_BINARY)
    except (ValueError, zlib.error, binascii.Error) as problem:
        raise PatchError(f"the binary content of {each.new} cannot be read: {problem}") from None
    if str(len(each.binary)) != size:
        raise PatchError(f"{each.new} has {len(each.binary)} bytes, and the patch says {size}")
    at += 1
    if at < len(lines) and lines[at].startswith(("literal ", "delta ")):  # the way back
        while at < len(lines) and lines[at].strip():
            at += 1
    return at


# ---------------------------------------------------------------- applying


def apply_patch(tree: Tree, text: str) -> Tree:
    """The tree after a patch; the given one stays. Raises `PatchError`.

    A hunk is looked for around the line that it names, the nearest place first; if it is nowhere,
    without up to `FUZZ` lines of context at its ends. All hunks apply or none does.
    """
    done = dict(tree)
    for each in read_patch(text):
        name = each.new or each.old
        before = done.get(each.old) if each.old else None
        if each.old and before is None:
            raise PatchError(f"{each.old} is not there")
        if before is not None and each.hunks and before.link and each.new:
            raise PatchError(f"{each.old} is a link")
        if not each.old and name in done and (each.hunks or each.binary is not None):
            raise PatchError(f"{name} is there already")
        if each.old and each.old != each.new and not each.copy:
            done.pop(each.old)
        if each.new:
            data = before.data if before is not None else b""
            if each.binary is not None:
                data = each.binary
            elif each.hunks:
                data = _applied(data, each.hunks, name)
            executable = before is not None and before.executable
            link = before is not None and before.link
            if each.mode:
                executable, link = each.mode == "100755", each.mode == "120000"
            put(done, each.new, Entry(data, executable, link))
    return done


def _applied(data: bytes, hunks: Iterable[Hunk], name: str) -> bytes:
    lines = _lines(data)
    shift = last = 0
    for number, hunk in enumerate(hunks, 1):
        wanted = max(0, hunk.start - 1 if hunk.old else hunk.start) + shift
        place = _place(lines, hunk, wanted, last)
        if place is None:
            raise PatchError(f"hunk {number} of {name} does not apply")
        at, low, high = place
        old, new = hunk.old[low : len(hunk.old) - high], hunk.new[low : len(hunk.new) - high]
        lines[at : at + len(old)] = new
        shift += at - (wanted + low) + len(new) - len(old)
        last = at + len(new)
    return "".join(lines).encode("utf-8", errors="surrogateescape")


def _lines(data: bytes) -> list[str]:
    """Lines end at newlines alone, not at what else Python calls the end of one."""
    return re.findall(r"[^\n]*\n|[^\n]+", data.decode("utf-8", errors="surrogateescape"))


def _place(lines: list[str], hunk: Hunk, wanted: int, last: int) -> tuple[int, int, int] | None:
    """Where the hunk's old lines are, with how many lines of context were given up."""
    if not hunk.old:
        return min(max(wanted, last), len(lines)), 0, 0
    for fuzz in range(FUZZ + 1):
        low, high = min(fuzz, hunk.lead), min(fuzz, hunk.trail)
        if fuzz and (low, high) == (min(fuzz - 1, hunk.lead), min(fuzz - 1, hunk.trail)):
            break
        old = hunk.old[low : len(hunk.old) - high]
        places = range(last, len(lines) - len(old) + 1)
        for at in sorted(places, key=lambda at: (abs(at - wanted - low), at)):
            if lines[at] == old[0] and lines[at : at + len(old)] == old:
                return at, low, high
    return None


# ---------------------------------------------------------------- writing


def write_patch(changes: Iterable[Change]) -> str:
    """Git's text of changes, which `git apply` and `apply_patch` take; binary files whole."""
    return "".join(_written(each) for each in changes)


def _written(change: Change) -> str:
    before, after = change.before, change.after
    if before is not None and after is not None and before.link != after.link:
        return _written(Change(change.path, before, None)) + _written(
            Change(change.path, None, after)
        )
    old, new = _quoted(f"a/{change.path}"), _quoted(f"b/{change.path}")
    head = [f"diff --git {old} {new}"]
    if before is None and after is not None:
        head.append(f"new file mode {after.mode}")
    elif after is None and before is not None:
        head.append(f"deleted file mode {before.mode}")
    elif before is not None and after is not None and before.mode != after.mode:
        head += [f"old mode {before.mode}", f"new mode {after.mode}"]
    here = before.data if before is not None else b""
    there = after.data if after is not None else b""
    if here == there:
        return "\n".join(head) + "\n"
    if _is_binary(here) or _is_binary(there):
        head.append(f"index {_name_of(before)}..{_name_of(after)}")
        return "\n".join([*head, "GIT binary patch", *_literal(there), *_literal(here)]) + "\n"
    names = ("/dev/null" if before is None else old, "/dev/null" if after is None else new)
    return "\n".join([*head, f"--- {names[0]}", f"+++ {names[1]}", ""]) + unified(here, there)


def unified(here: bytes, there: bytes) -> str:
    """The hunks between two texts, with three lines of context, without a header."""
    rows = list(difflib.unified_diff(_lines(here), _lines(there), n=3))[2:]
    return "".join(row if row.endswith("\n") else f"{row}\n{_NO_NEWLINE}\n" for row in rows)


def _is_binary(data: bytes) -> bool:
    if b"\0" in data:
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _quoted(path: str) -> str:
    if re.fullmatch(r'[^\x00-\x1f"\\\x7f-\uffff]*', path):
        return path
    out: list[str] = []
    for byte in path.encode(errors="surrogateescape"):
        letter = chr(byte)
        special = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}.get(letter)
        out.append(special or (letter if 32 <= byte < 127 else f"\\{byte:03o}"))
    return f'"{"".join(out)}"'


def _name_of(entry: Entry | None) -> str:
    """What git calls the content: it applies a binary patch to nothing else."""
    if entry is None:
        return "0" * 40
    return sha1(b"blob %d\0" % len(entry.data) + entry.data, usedforsecurity=False).hexdigest()


def _literal(data: bytes) -> list[str]:
    packed = zlib.compress(data, 9)
    rows = [f"literal {len(data)}"]
    for at in range(0, len(packed), 52):
        part = packed[at : at + 52]
        count = chr(64 + len(part)) if len(part) <= 26 else chr(70 + len(part))
        padded = part + b"\0" * (-len(part) % 4)
        rows.append(count + base64.b85encode(padded).decode())
    return [*rows, ""]
