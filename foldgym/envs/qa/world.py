"""`SearchWorld`: the tools, the scoring and the scripted players of every search world."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from foldgym.envs.base import ToolEnv
from foldgym.envs.qa import pages, tags
from foldgym.envs.qa.parts import text_parts
from foldgym.envs.qa.questions import Question
from foldgym.errors import UnknownName, UserError
from foldgym.rewards.outcomes import text_exact, text_f1
from foldgym.search import Document
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence, Json, Message, Task, Tool

Match = Literal["em", "f1", "parts"]
ActionFormat = Literal["tools", "search-r1"]
MATCHES = {"em": text_exact, "f1": text_f1, "parts": text_parts}
UNKNOWN = "unknown"  # the right answer to what cannot be answered
NOTHING = "nothing found"


class Library(Protocol):
    """What a world searches: passages by query, best first, and one passage by id."""

    def search(self, query: str, k: int) -> Sequence[Document]: ...  # noqa: D102
    def get(self, id: str) -> Document | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Lead:
    """One step of a scripted player: what to search for, the passage and the words of it that tell,
    what they tell, and the question that this answers.
    """

    query: str
    passage: str
    finding: str
    value: str
    question: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """An episode: the question, what it is asked about, and how a player who may peek finds out."""

    question: Question
    library: Library
    leads: tuple[Lead, ...] = ()


class SearchWorld(ToolEnv):
    """Search, open, find, answer. A right answer scores 1 (or its F1).

    Args:
        top_k: passages that a search shows
        snippet: words of each passage that a search shows; 0 for all of them
        window: words that `open` shows at once
        match: "em" scores 1 or 0 after normalisation, "f1" the overlap of words, "parts" the share
            of the parts of a list (the blanks of MaskSearch) that are right in their place
        actions: "tools", or "search-r1" for its tags in plain text, with its own prompt
        stop: how likely the hasty expert gives up after a step that is not the last
        max_turns: turns after which an episode is cut short
    """

    experts = ("optimal", "hasty")
    shared = ("_case",)

    def __init__(
        self,
        *,
        top_k: int = 3,
        snippet: int = 40,
        window: int = 200,
        match: Match = "em",
        actions: ActionFormat = "tools",
        stop: float = 0.65,
        max_turns: int = 16,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        for name, value, least in (
            ("top_k", top_k, 1),
            ("snippet", snippet, 0),
            ("window", window, 20),
            ("max_turns", max_turns, 1),
        ):
            if value < least:
                raise UserError(f"{name} must be at least {least}, not {value}")
        if match not in MATCHES:
            raise UnknownName("match", match, MATCHES)
        if actions not in ("tools", "search-r1"):
            raise UnknownName("actions", actions, ("tools", "search-r1"))
        if not 0 <= stop <= 1:
            raise UserError(f"stop is a probability, from 0 to 1, not {stop}")
        self.top_k, self.snippet, self.window = top_k, snippet, window
        self.match: Match = match
        self.actions: ActionFormat = actions
        self.stop, self.max_turns = stop, max_turns

    # ------------------------------------------------------------ what a world brings

    @abstractmethod
    def draw(self, rng: random.Random) -> str:
        """The key of a new episode: a short text from which `open_case` makes it again."""

    @abstractmethod
    def open_case(self, key: str) -> Case:
        """The episode of a key. Raises `UserError` for a key of other settings."""

    # ------------------------------------------------------------ the episode

    def setup(self, rng: random.Random) -> Task:
        """A new question; the task carries the key that makes the episode again."""
        key = self.draw(rng)
        self._begin(key)
        question = self._case.question
        text = question.text
        if self.actions == "search-r1":
            text = tags.PROMPT.format(question=text if text.endswith("?") else f"{text}?")
        held = {"key": key, "hops": question.hops, "kind": question.kind}
        return Task(
            f"{type(self).__name__}-{key}",
            (Message("user", text),),
            list(question.answers),
            {**held, "supporting": list(question.supporting)},
        )

    def setup_task(self, task: Task, rng: random.Random) -> None:
        """Play a task that a world with the same settings made."""
        self._begin(str(task.metadata.get("key", "")))
        if self._case.question.text not in task.prompt[-1].text:
            raise UserError(
                f"task {task.id!r} was not made by a {type(self).__name__} with these settings"
            )

    def _begin(self, key: str) -> None:
        self._case = self.open_case(key)
        self._page: Document | None = None
        self._queries: list[str] = []
        self._retrieved: list[list[str]] = []
        self._opened: list[str] = []
        self._read: set[int] = set()

    def documents(self) -> tuple[Document, ...]:
        """What can be searched, for transforms that make tasks or distractors of it.

        Raises `UserError` where it is not in memory.
        """
        found: tuple[Document, ...] | None = getattr(self._case.library, "documents", None)
        if found is None:
            raise UserError(
                f"the passages of this {type(self).__name__} lie behind an index, so nothing can "
                "be made of them all; use questions that bring their own passages"
            )
        return found

    def distractions(self) -> tuple[str, ...]:
        """Passages that do not help to answer."""
        helpful = set(self._case.question.supporting)
        findings = [lead.finding for lead in self._case.leads]
        return tuple(
            each.text
            for each in self.documents()
            if each.id not in helpful and not any(finding in each.text for finding in findings)
        )

    @property
    def tools(self) -> tuple[Tool, ...]:
        """None where actions are tags in plain text."""
        return super().tools if self.actions == "tools" else ()

    @tool
    def search(self, query: str) -> str:
        """Find passages about the query.

        Args:
            query: words to look for
        """
        found = self._found(query)
        shown = [(passage, pages.head(passage.text, self.snippet)) for passage in found]
        self._saw([text for _, text in shown])
        return "\n".join(f"[{each.id}] {each.title}: {text}" for each, text in shown) or NOTHING

    @tool
    def open(self, document: str, start: int = 0) -> str:
        """Read a passage that a search showed.

        Args:
            document: the id between the brackets of a search result
            start: number of the first word to show
        """
        page = self._case.library.get(document.strip().strip("[]"))
        if page is None:
            return f"error: there is no document {document[:40]!r}; use an id that a search showed"
        self._page = page
        self._opened.append(page.id)
        text, last, total = pages.window(page.text, start, self.window)
        self._saw([text])
        return f"{page.title} (words {min(max(start, 0), total)} to {last} of {total})\n{text}"

    @tool
    def find(self, text: str) -> str:
        """Show the sentences of the opened passage that contain a text.

        Args:
            text: what to look for
        """
        if self._page is None:
            return "error: no document is open; open one first"
        found = pages.sentences_with(self._page.text, text)
        self._saw(found)
        return "\n".join(found) or NOTHING

    @tool
    def answer(self, text: str) -> str:
        """Give the final answer.

        Args:
            text: the answer alone, in a few words
        """
        return self._answered(text)

    def respond(self, message: Message) -> str:
        """Without a tool call: the reply to Search-R1's tags, where those are the actions."""
        if self.actions == "tools":
            return super().respond(message)
        said = tags.action(message.text)
        if said is None:
            return tags.INVALID
        name, content = said
        if name == "answer":
            self._answered(content)
            return ""
        found = self._found(content)
        self._saw([passage.text for passage in found])
        return tags.information(found)

    def measure(self) -> dict[str, Json]:
        """Adds what the searches did (see `foldgym.rewards.retrieval`), `hops` and `read`: how many
        of the player's steps have been answered by a text that was shown."""
        facts = super().measure()
        if self._play is None:
            return facts
        return facts | {
            "hops": self._case.question.hops,
            "read": self._progress(),
            "queries": list(self._queries),
            "retrieved": [list(ids) for ids in self._retrieved],
            "supporting": list(self._case.question.supporting),
            "opened": list(self._opened),
        }

    def evidence(self) -> list[Evidence]:
        """What the steps of the player tell, first step first."""
        return [Evidence(each.finding, each.question, each.value) for each in self._case.leads]

    # ------------------------------------------------------------ inside

    def _answered(self, text: str) -> str:
        score = max(MATCHES[self.match](text, gold) for gold in self._case.question.answers)
        self.finish(score, answer=text[:400])
        return "right" if score >= 1 else "wrong"

    def _found(self, query: str) -> Sequence[Document]:
        found = self._case.library.search(query, self.top_k)
        self._queries.append(query)
        self._retrieved.append([passage.id for passage in found])
        return found

    def _saw(self, texts: Sequence[str]) -> None:
        for number, lead in enumerate(self._case.leads):
            if number not in self._read and any(lead.finding in text for text in texts):
                self._read.add(number)

    def _progress(self) -> int:
        """How many steps, counted from the first, have been answered."""
        leads = range(len(self._case.leads))
        return next((number for number in leads if number not in self._read), len(leads))

    def expert(self, style: str, rng: random.Random) -> Action:
        """The next action: "optimal" walks to the end, "hasty" may give up after any step before.

        A step is a search; if it does not show what is sought, the passage is opened, window by
        window. "hasty:0.3" is a hasty player with another `stop`.
        """
        name, colon, given = style.partition(":")
        if name not in self.experts or (colon and name != "hasty"):
            raise UnknownName("expert", style, self.experts, f"Asked of {type(self).__name__}.")
        step, leads = self._progress(), self._case.leads
        answers = self._case.question.answers
        if step == len(leads):
            return self._act("answer", text=answers[0])
        stop = (float(given) if given else self.stop) if name == "hasty" else 0.0
        if step and rng.random() < stop:
            return self._act("answer", text=leads[step - 1].value)
        lead = leads[step]
        if lead.query not in self._queries or self.actions != "tools":
            return self._act("search", query=lead.query)
        page = self._case.library.get(lead.passage)
        if page is None:  # known to no one any more; say so rather than guess
            return self._act("answer", text=UNKNOWN)
        return self._act("open", document=page.id, start=pages.place(page.text, lead.finding))

    def _act(self, name: str, **arguments: Json) -> Action:
        if self.actions == "tools":
            return call(name, **{key: value for key, value in arguments.items() if value != 0})
        return tags.write(name, str(next(iter(arguments.values()))))
