"""Search-R1's text protocol: `<search>` and `<answer>` in, `<information>` out, byte for byte.

Source: its generation loop and prompt, see docs/search_worlds.md. Observations stand
between the tags exactly as published, so policies trained there can play here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from foldgym.search import Document

PROMPT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every "
    "time you get new information. After reasoning, if you find you lack some knowledge, you can "
    "call a search engine by <search> query </search> and it will return the top searched results "
    "between <information> and </information>. You can search as many times as your want. If you "
    "find no further external knowledge needed, you can directly provide the answer inside "
    "<answer> and </answer>, without detailed illustrations. For example, <answer> Beijing "
    "</answer>. "
    "Question: {question}\n"
)
INVALID = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> "
    "and </search>. If I want to give the final answer, I should put the answer between <answer> "
    "and </answer>. Let me try again.\n"
)
_ACTION = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)


def action(text: str) -> tuple[str, str] | None:
    """The first action of a response as (name, content); None if there is none.

    >>> action("<think>where?</think><search> home of Ada </search>")
    ('search', 'home of Ada')
    """
    found = _ACTION.search(text)
    return (found.group(1), found.group(2).strip()) if found else None


def write(name: str, content: str) -> str:
    """The response that `action` reads as this."""
    return f"<{name}> {content} </{name}>"


def information(documents: Sequence[Document]) -> str:
    """What a search is answered with; a title is the first line of a document's contents."""
    told = ""
    for number, document in enumerate(documents, 1):
        title, _, text = document.contents.partition("\n")
        told += f"Doc {number}(Title: {title}) {text}\n"
    return f"\n\n<information>{told.strip()}</information>\n\n"
