"""Question sets in the formats they are published in, read from files a user has.

`FORMATS` maps a format's name to the function that builds a `Question` from one row. `recognise`
tells the format from a row's keys. Sources: the projects' own files, see docs/search_worlds.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from foldgym.envs.qa.questions import Question
from foldgym.envs.qa.rows import Malformed, Row
from foldgym.search import Document

ALTERNATIVES = "<|answer_split|>"  # between right answers in IGPO's ground truth
MASK = "[mask]"
_ASKED = re.compile(r"Question:\s*(.+?)\s*$", re.DOTALL)


def hotpot(row: Row) -> Question:
    """HotpotQA and 2WikiMultihopQA: `context` is [[title, [sentences]]], or columns of the two."""
    passages = tuple(
        Document(title, title, " ".join(part.strip() for part in sentences))
        for title, sentences in _context(row)
    )
    facts = _pairs(row.get("supporting_facts") or [], "title", "sent_id")
    needed = dict.fromkeys(str(title) for title, _ in facts)
    hops = len(_list(row.get("evidences") or [])) or len(needed)
    return Question(
        _text(row, "_id", "id"),
        _text(row, "question"),
        (_text(row, "answer"),),
        passages,
        tuple(needed),
        str(row.get("type", "")),
        hops,
        metadata={"level": row["level"]} if "level" in row else {},
    )


def musique(row: Row) -> Question:
    """MuSiQue: numbered paragraphs, of which some support; the id begins with the hops."""
    paragraphs = [_mapping(item, "paragraphs") for item in _list(row.get("paragraphs", ()))]
    passages = tuple(
        Document(str(item.get("idx", number)), str(item.get("title", "")), _text(item, _PARAGRAPH))
        for number, item in enumerate(paragraphs)
    )
    needed = tuple(
        passage.id
        for passage, item in zip(passages, paragraphs, strict=True)
        if item.get("is_supporting")
    )
    name = _text(row, "id")
    leading = re.match(r"\d+", name)
    answers = (_text(row, "answer"), *_texts(row.get("answer_aliases", ())))
    steps = [_mapping(step, "question_decomposition") for step in _list(row.get(_STEPS, ()))]
    return Question(
        name,
        _text(row, "question"),
        tuple(dict.fromkeys(answers)),
        passages,
        needed,
        name.partition("__")[0],
        int(leading.group()) if leading else len(steps),
        bool(row.get("answerable", True)),
        {"steps": [str(step.get("question", "")) for step in steps]},
    )


_PARAGRAPH, _STEPS = "paragraph_text", "question_decomposition"


def flashrag(row: Row) -> Question:
    """FlashRAG's form of NQ, TriviaQA, PopQA, Bamboogle and others: `golden_answers`."""
    return Question(
        _text(row, "id"),
        _text(row, "question"),
        _answers(row.get("golden_answers")),
        metadata=_mapping(row.get("metadata") or {}, "metadata"),
    )


def bamboogle(row: Row) -> Question:
    """Bamboogle's table: the columns `Question` and `Answer`."""
    asked = _text(row, "Question")
    return Question(asked, asked, (_text(row, "Answer"),), hops=2)


def training_row(row: Row) -> Question:
    """Search-R1's and IGPO's training rows: the question ends the prompt, the answers are under
    `reward_model.ground_truth`, as a list `target` or as one text joined by `<|answer_split|>`.
    """
    judged = _mapping(row.get("reward_model"), "reward_model").get("ground_truth")
    if isinstance(judged, Mapping):
        held = cast("Row", judged)
        judged = next(
            (held[key] for key in ("target", "answer", "ground_truth") if key in held), None
        )
    extra = _mapping(row.get("extra_info") or {}, "extra_info")
    asked = row.get("question") or extra.get("question") or _asked(row)
    source = str(row.get("data_source", ""))
    name = row.get("id") or f"{source}-{extra.get('split', '')}-{extra.get('index', asked)}"
    return Question(str(name), str(asked), _answers(judged), kind=source)


def masksearch(row: Row) -> Question:
    """MaskSearch: a paragraph with blanks; the answers stand in the order of the blanks."""
    ext = _mapping(row.get("ext") or {}, "ext")
    asked = _text(row, "query")
    blanks = len(re.findall(re.escape(MASK), asked, re.IGNORECASE))
    wanted = _texts(ext.get("masks") or ()) or _texts(row.get("answer"))
    if not wanted:
        raise Malformed("no answer: neither `answer` nor `ext.masks` holds one")
    return Question(
        str(row.get("id") or asked),
        asked,
        (", ".join(wanted),),
        kind="masks",
        hops=int(ext.get("mask_num") or blanks or len(wanted)),
        metadata={"masks": list(wanted), "title": str(ext.get("title", ""))},
    )


def browsecomp(row: Row) -> Question:
    """BrowseComp-Plus, decrypted: gold, evidence and hard negative documents with each query."""
    documents: dict[str, Document] = {}
    for kind in ("gold_docs", "evidence_docs", "negative_docs"):
        for item in _list(row.get(kind) or ()):
            held = _mapping(item, kind)
            name = _text(held, "docid")
            documents[name] = Document(name, str(held.get("url") or ""), _text(held, "text"))
    needed = [_text(_mapping(item, _EVIDENCE), "docid") for item in _list(row.get(_EVIDENCE) or ())]
    return Question(
        _text(row, "query_id"),
        _text(row, "query"),
        (_text(row, "answer"),),
        tuple(documents.values()),
        tuple(dict.fromkeys(needed)),
        "browsecomp-plus",
    )


_EVIDENCE = "evidence_docs"

FORMATS: dict[str, Callable[[Row], Question]] = {
    "hotpotqa": hotpot,
    "2wiki": hotpot,
    "musique": musique,
    "flashrag": flashrag,
    "bamboogle": bamboogle,
    "search-r1": training_row,
    "igpo": training_row,
    "masksearch": masksearch,
    "browsecomp-plus": browsecomp,
}


def recognise(row: Row) -> str | None:
    """The format that a row's keys belong to; None if to none."""
    keys = set(row)
    for name, needed in (
        ("musique", {"paragraphs", "question", "answer"}),
        ("hotpotqa", {"context", "supporting_facts", "question"}),
        ("browsecomp-plus", {"query_id", "query", "answer"}),
        ("search-r1", {"reward_model", "prompt"}),
        ("flashrag", {"question", "golden_answers"}),
        ("masksearch", {"query", "answer"}),
        ("bamboogle", {"Question", "Answer"}),
    ):
        if needed <= keys:
            return name
    return None


# ------------------------------------------------------------ suspicious reading


def _text(row: Mapping[str, Any], *keys: str) -> str:
    """The first of these keys that is there, which must hold a text (or number) and not nothing."""
    for key in keys:
        if key in row:
            value = row[key]
            if isinstance(value, int | float) and not isinstance(value, bool):
                return str(value)
            if not isinstance(value, str) or not value.strip():
                raise Malformed(f"`{key}` must be a text, not {str(value)[:40]!r}")
            return value
    raise Malformed(f"no `{keys[0]}`; keys: {', '.join(sorted(map(str, row))) or 'none'}")


def _list(value: Any) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise Malformed(f"a list was expected, not {str(value)[:40]!r}")
    return list(cast("Iterable[Any]", value))


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if isinstance(value, int | float):
        return (str(value),)
    return () if value is None else tuple(str(item) for item in _list(value) if str(item).strip())


def _answers(value: Any) -> tuple[str, ...]:
    found = _texts(value)
    split = [piece.strip() for text in found for piece in text.split(ALTERNATIVES)]
    if not any(split):
        raise Malformed(f"no right answer in {str(value)[:40]!r}")
    return tuple(dict.fromkeys(piece for piece in split if piece))


def _mapping(value: Any, what: str) -> Row:
    if not isinstance(value, Mapping):
        raise Malformed(f"`{what}` must be an object, not {str(value)[:40]!r}")
    return dict(cast("Mapping[str, Any]", value))


def _pairs(value: Any, first: str, second: str) -> list[tuple[Any, Any]]:
    """[[a, b], ...], or {first: [a, ...], second: [b, ...]} as Hugging Face stores it."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return list(zip(_list(table.get(first, ())), _list(table.get(second, ())), strict=False))
    found: list[tuple[Any, Any]] = []
    for pair in _list(value):
        several = cast("Sequence[Any]", pair) if isinstance(pair, list | tuple) else ()
        if len(several) != 2:
            raise Malformed(f"a pair was expected, not {str(pair)[:40]!r}")
        found.append((several[0], several[1]))
    return found


def _context(row: Row) -> list[tuple[str, tuple[str, ...]]]:
    if "context" not in row:
        return []
    pairs = _pairs(row["context"], "title", "sentences")
    return [(str(title), _texts(sentences)) for title, sentences in pairs]


def _asked(row: Row) -> str:
    turns = [_mapping(turn, "prompt") for turn in _list(row.get("prompt") or ())]
    if not turns:
        raise Malformed("no question: neither `question` nor `prompt` is there")
    content = str(turns[-1].get("content", ""))
    found = _ASKED.search(content)
    return found.group(1) if found else content.strip()
