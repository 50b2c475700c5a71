"""A chat API as the auxiliary policy of one that has weights: its words, in that one's ids.

What an auxiliary policy says is shown and never trained, so it needs no log-probs: the message is
written by the policy's own renderer, as if it had been said in the policy's vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from foldgym.agents.engines.chat import Accounts, ChatPolicy
from foldgym.agents.renderers import Renderer
from foldgym.types import Completion, EnvHandle, Finish, Message, Prompt, Sampling, Session


@dataclass(frozen=True, slots=True)
class Interpreted:
    """A `Policy`: `inner` answers, `renderer` writes the answers down."""

    inner: ChatPolicy
    renderer: Renderer

    @property
    def version(self) -> int:
        """Its weights never change here."""
        return 0

    @property
    def accounts(self) -> Accounts:
        """What was asked and paid for."""
        return self.inner.accounts

    def open(self, seed: int, env: EnvHandle | None = None) -> Session:
        """A session; `env` is not looked at."""
        return InterpretedSession(self.inner.open(seed, env), self.renderer)


@dataclass(frozen=True, slots=True)
class InterpretedSession:
    """One lineage's side of it."""

    inner: Session
    renderer: Renderer

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """The answer without its thoughts, cut where it has more than `max_tokens` of these ids.

        Raises what `ChatSession.sample` raises.
        """
        said = await self.inner.sample(prompt, sampling)
        message = replace(said.message or Message("assistant"), thinking="")
        ids, finish = self.renderer.say(message, prompt.tools), said.finish
        if finish is Finish.LENGTH:
            ids = ids[:-1]  # no end was said
        if len(ids) > sampling.max_tokens:
            ids, finish = ids[: sampling.max_tokens], Finish.LENGTH
        return Completion(ids, (0.0,) * len(ids), finish=finish)

    def close(self) -> None:
        """Closes the inner session."""
        self.inner.close()
