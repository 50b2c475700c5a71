"""A policy that reads perfectly and remembers nothing: what it does shows what a memory shows.

It plays worlds of chain questions (`what is the region of home of Ada ?`) from the ids it is shown
and from nothing else, so success and recall under a memory can be worked out by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from foldgym.agents.renderers import Renderer
from foldgym.envs.chains import Fact
from foldgym.tools import call
from foldgym.types import Completion, EnvHandle, Message, Prompt, Sampling, Session

_QUESTION = re.compile(r"what is the ((?:\w+ of )+)(\w[\w.]*) \?")
_FACT = re.compile(r"(\w+) of (\w[\w.]*) is (\w[\w.]*) \.")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reader:
    """A `Policy`. Asked to act it answers, or searches for the first fact that it does not see.

    Asked for notes it copies what it sees of the chain, the newest fact first, as much as fits; any
    other question it answers from what it sees, or with "unknown". `renderer` must be the
    rollout's.
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
        if not asked:
            return Completion(message=Message("assistant"))
        question = asked[-1 if prompt.purpose == "probe" else 0]
        walked, relation = _walk(question[1], question[2], facts)
        found = walked[-1].value if walked else question[2]
        if prompt.purpose == "act":
            if relation:
                return Completion(message=call("search", query=f"{found} {relation}"))
            return Completion(message=call("answer", text=found))
        if prompt.purpose != "probe":
            found = self._notes(walked, sampling.max_tokens)
        elif relation:
            found = UNKNOWN
        return Completion(message=Message("assistant", found))

    def close(self) -> None:
        """Nothing is held."""

    def _notes(self, walked: list[Fact], most: int) -> str:
        notes = ""
        for fact in reversed(walked):
            sentence = fact.document.text
            longer = f"{notes} {sentence}".strip()
            if len(self.renderer.say(Message("assistant", longer), ())) > most:
                break
            notes = longer
        return notes


def _walk(path: str, subject: str, facts: dict[tuple[str, str], str]) -> tuple[list[Fact], str]:
    """The facts of the chain as far as they are known, and the relation that is missing then."""
    walked: list[Fact] = []
    for relation in reversed(path.removesuffix(" of ").split(" of ")):
        if (relation, subject) not in facts:
            return walked, relation
        walked.append(Fact(relation, subject, facts[relation, subject]))
        subject = walked[-1].value
    return walked, ""
