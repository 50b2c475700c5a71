"""DeepAgent: one stream in which a model searches tools, calls them and folds its own past."""

from __future__ import annotations

from typing import Literal

from foldgym.agents.scaffolds.toolbox import SEARCH, Condense, Toolbox, ToolIndex
from foldgym.agents.scaffolds.wording import blocks, clip, wording
from foldgym.agents.stage import Stage
from foldgym.agents.transcript import Transcript
from foldgym.types import Stop

WORDS = {
    "condense": "The answer below is too long to be shown. Copy out of it, word for word, what "
    "helps with the task and what this call was meant to find; of tools, name those that help."
}


class DeepAgent:
    """Think, search tools, call them, fold, in one lineage. Folding is the memory's: `deepagent`.

    `tools="open"` hides the world's tools behind the tool `tool_search`, except `always`; found
    ones can be called. `"closed"` shows them all. The guards are `Toolbox`'s: `top_k` and
    `max_result` bound a search, `max_observation` an answer, `max_actions` an episode, and a call
    whose answer is still in view is not made twice unless its tool is `repeatable`, as it must be
    where the same call does different things (moves in a maze: `["*"]`).
    What is too long is cut (`condense="cut"`), or rewritten by the role `reader`, which is spoken
    by the policy or the auxiliary model.
    Source: DeepAgent (memory spec A1). There duplicates stay refused after a fold, so that what
    was folded away is lost, and limits count words.
    """

    roles = ("main", "reader")

    def __init__(
        self,
        tools: Literal["open", "closed"] = "open",
        always: tuple[str, ...] = (),
        top_k: int = 10,
        max_result: int = 15000,
        max_observation: int = 5000,
        max_actions: int = 50,
        repeatable: tuple[str, ...] = (),
        condense: Literal["cut", "policy", "aux"] = "cut",
        condense_tokens: int = 512,
        words: dict[str, str] | None = None,
    ) -> None:
        least = min(top_k, max_result, max_observation, max_actions, condense_tokens)
        if least < 1:
            raise ValueError(
                "top_k, max_result, max_observation, max_actions and condense_tokens must be at "
                f"least 1, not {least}"
            )
        self.hidden, self.always, self.top_k = tools == "open", always, top_k
        self.max_result, self.max_observation = max_result, max_observation
        self.max_actions, self.repeatable = max_actions, repeatable
        self.condense: Literal["cut", "policy", "aux"] = condense
        self.condense_tokens, self.words = condense_tokens, wording(WORDS, words)

    async def run(self, stage: Stage) -> Stop:
        """One conversation, with a toolbox around the world."""
        offered = stage.opening.tools
        shown, index = offered, None
        if self.hidden:
            index = ToolIndex(offered)
            shown = (SEARCH, *(tool for tool in offered if tool.name in self.always))
        talk = await stage.lineage("main", memory=stage.memory(), tools=shown)
        world = Toolbox(
            stage.env,
            talk,
            index,
            self.top_k,
            self.max_result,
            self.max_observation,
            self.max_actions,
            self.repeatable,
            None if self.condense == "cut" else self._reader(stage, talk, self.condense),
        )
        return await stage.converse(talk, world)

    def _reader(self, stage: Stage, talk: Transcript, by: Literal["policy", "aux"]) -> Condense:
        """Somebody who reads what is too long, as much of it as fits the context."""
        voice = stage.voice("reader", by)

        async def condense(call: str, answer: str) -> str:
            room = stage.budget.max_context - self.condense_tokens - talk.size
            text = clip(answer, max(1, room // 2), stage.renderer.tokenizer)
            told = blocks(self.words["condense"], call=call, answer=text)
            said = await talk.aside("condense", told, self.condense_tokens, voice)
            return said.text if said is not None else ""

        return condense
