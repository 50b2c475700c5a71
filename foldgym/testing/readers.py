"""A policy that reads perfectly and remembers nothing: what it does shows what a memory shows.

It plays worlds of chain questions (`what is the region of home of Ada ?`) from the ids it is shown
and from nothing else, so success and recall under a memory can be worked out by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from foldgym.agents.renderers import Renderer
from foldgym.tools import call
from foldgym.types import Completion, EnvHandle, Message, Prompt, Sampling, Session

_QUESTION = re.compile(r"what is the ((?:\w+ of )+)(\w[\w.]*) \?")
_FACT = re.compile(r"(\w+) of (\w[\w.]*) is (\w[\w.]*) \.")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reader:
    """A `Policy`. Asked to act it answers, or searches for the first fact that it does not see.

    Asked for notes it copies the facts it sees, the newest first, as many as fit; any other
    question it answers from what it sees, or with "unknown". `renderer` must be the rollout's.
    """

    renderer: Renderer
    version: int = field(default=0, init=False)

    def open(self, seed: int, env: EnvHandle) -> Session:
        """A session that keeps nothing between turns."""
        return _Reading(self.renderer)


@dataclass(frozen=True, slots=True)
class _Reading:
    renderer: Renderer

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        text = self.renderer.tokenizer.decode(prompt.ids)
        facts = {(found[1], found[2]): found[3] for found in _FACT.finditer(text)}
        asked = list(_QUESTION.finditer(text))
        if prompt.purpose not in ("act", "probe"):
            return Completion(message=Message("assistant", self._notes(text, sampling.max_tokens)))
        if not asked:
            return Completion(message=Message("assistant"))
        question = asked[0 if prompt.purpose == "act" else -1]
        found, relation, name = _walk(question[1], question[2], facts)
        if prompt.purpose == "probe":
            return Completion(message=Message("assistant", UNKNOWN if relation else found))
        if relation:
            return Completion(message=call("search", query=f"{name} {relation}"))
        return Completion(message=call("answer", text=found))

    def close(self) -> None:
        """Nothing is held."""

    def _notes(self, text: str, most: int) -> str:
        sentences = [match.group() for match in _FACT.finditer(text)]
        notes = ""
        for sentence in dict.fromkeys(reversed(sentences)):
            longer = f"{notes} {sentence}".strip()
            if len(self.renderer.say(Message("assistant", longer), ())) > most:
                break
            notes = longer
        return notes


def _walk(path: str, subject: str, facts: dict[tuple[str, str], str]) -> tuple[str, str, str]:
    """Where the facts lead; then the relation and the subject of the first that is missing."""
    for relation in reversed(path.removesuffix(" of ").split(" of ")):
        if (relation, subject) not in facts:
            return subject, relation, subject
        subject = facts[relation, subject]
    return subject, "", ""
