"""A script that plays in the place of the policy that learns, which is taught by what it says.

The script's messages become the ids that the policy would have sampled, with the log-probs that the
policy gives them. A run that rewards them is imitation weighed by reward: nothing corrects for the
script saying what the policy would not have said.
"""

from __future__ import annotations

from dataclasses import dataclass

from foldgym.agents.engines.engine import Engine, InProcess, Trainee
from foldgym.agents.engines.scripted import scripted_policy
from foldgym.errors import ContextFull
from foldgym.types import (
    Branching,
    Completion,
    EnvHandle,
    Finish,
    Ids,
    Message,
    Policy,
    Prompt,
    Sampling,
    Session,
)


@dataclass(frozen=True, slots=True)
class ImitatedPolicy:
    """Speaks as `script` does, in ids, log-probs and versions of the trainee."""

    script: Policy
    trainee: Trainee

    @property
    def version(self) -> int:
        """The trainee's."""
        return self.trainee.policy.version

    def open(self, seed: int, env: EnvHandle) -> Session:
        """A session of the script."""
        return _ImitatedSession(self, self.script.open(seed, env), env)

    def logprobs(self, prompt: Ids, target: Ids) -> tuple[float, ...]:
        """The trainee's."""
        return self.trainee.policy.logprobs(prompt, target)


@dataclass(frozen=True, slots=True)
class _ImitatedSession:
    policy: ImitatedPolicy
    inner: Session
    env: EnvHandle

    def branch(self, seed: int) -> Session:
        """Another session of the same script."""
        if isinstance(self.inner, Branching):
            return _ImitatedSession(self.policy, self.inner.branch(seed), self.env)
        return self.policy.open(seed, self.env)

    def expect(self, busy: int) -> None:
        """A script waits for nobody."""

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """What the script says, cut where the policy would have had to stop.

        Raises `ContextFull` where the policy could have said nothing.
        """
        trainee = self.policy.trainee
        said = await self.inner.sample(prompt, sampling)
        ids = trainee.renderer.say(said.message or Message("assistant"), prompt.tools)
        left = trainee.policy.max_positions - len(prompt.ids)
        if left < 1:
            raise ContextFull(
                f"a prompt of {len(prompt.ids)} ids leaves nothing to say in the policy's "
                f"{trainee.policy.max_positions} positions"
            )
        room = int(min(sampling.max_tokens, left))
        finish = said.finish if len(ids) <= room else Finish.LENGTH
        ids = ids[:room]
        [logprobs] = trainee.policy.score([(prompt.ids, ids)], sampling.temperature or 1.0)
        return Completion(ids, logprobs, self.policy.version, finish)

    def close(self) -> None:
        """Closes the script's session."""
        self.inner.close()


@dataclass(frozen=True, slots=True)
class _Scripted(InProcess):
    learns: Policy

    @property
    def judged(self) -> Policy:
        """The policy that learns: how well the script plays is known."""
        return self.learns


def scripted(trainee: Trainee, *, player: str = "expert") -> Engine:
    """`[engine] use = "scripted"`: `player` is `expert`, `expert:STYLE`, `random` or `silent`.

    Raises `UnknownName`.
    """
    return _Scripted(ImitatedPolicy(scripted_policy(player), trainee), trainee.policy)
