"""What a plan of the scripted expert does to a tree, without a box."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from foldgym.envs.swe.trees import Entry, Tree
from foldgym.types import Message


def played(tree: Tree, plan: Iterable[Message]) -> Tree:
    """The tree after the edits of a plan; each must apply, as the editor's tools demand."""
    done, past = dict(tree), dict[str, list[bytes]]()
    for message in plan:
        [call] = message.tool_calls
        given = json.loads(call.arguments)
        if call.name == "str_replace":
            text = done[given["path"]].data.decode()
            assert text.count(given["old"]) == 1, given
            past.setdefault(given["path"], []).append(text.encode())
            done[given["path"]] = Entry(text.replace(given["old"], given["new"]).encode())
        elif call.name == "undo":
            done[given["path"]] = Entry(past[given["path"]].pop())
        elif call.name == "create":
            assert given["path"] not in done
            done[given["path"]] = Entry(given["text"].encode())
        elif call.name == "bash" and re.match(r"python3 - <<|rm -f|mkdir -p", given["command"]):
            done = _ran(done, given["command"])
    return done


def _ran(tree: Tree, command: str) -> Tree:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path, entry in tree.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(entry.data)
        subprocess.run(["bash", "-c", command], cwd=root, check=True)
        return {
            path.relative_to(root).as_posix(): Entry(path.read_bytes())
            for path in root.rglob("*")
            if path.is_file()
        }
