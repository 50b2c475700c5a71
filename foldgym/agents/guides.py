"""Help before the first sampled turn (`types.Guide`); none of its tokens is ever trained."""

from __future__ import annotations

from dataclasses import replace

from foldgym.agents.conversation import answer
from foldgym.agents.ledger import REPLAY
from foldgym.agents.transcript import Transcript
from foldgym.errors import EnvCrashed
from foldgym.rewards.scaffold import revealed
from foldgym.seeding import derive_seed
from foldgym.tools import Parsed
from foldgym.types import EnvHandle, Guide, Message, Opening, Stop


def told(opening: Opening, guide: Guide, seed: int) -> Opening:
    """The opening with what the guide adds to the question; nothing else sees the difference.

    `reveal` shows a random `round(reveal * K)` of the K texts in `task.metadata["criteria"]`.
    """
    texts = [guide.hint] if guide.hint and not guide.prefix else []
    if guide.reveal:
        criteria = [str(text) for text in opening.task.metadata.get("criteria", ())]
        chosen = [criteria[i] for i in revealed(guide.reveal, len(criteria), seed, 0)]
        texts += ["A good answer:\n" + "\n".join(f"- {text}" for text in chosen)] if chosen else []
    if not texts:
        return opening
    shown = tuple(Message("user", text) for text in texts)
    return opening._replace(task=replace(opening.task, prompt=(*opening.task.prompt, *shown)))


async def lead(env: EnvHandle, talk: Transcript, guide: Guide, seed: int) -> Stop | None:
    """Plays the turns that the policy does not sample; a stop when they ended the episode.

    Raises `EnvCrashed` when a recorded turn is answered differently from the first time.
    """
    for past in guide.prefix:
        if past.purpose not in ("act", REPLAY):
            continue
        await talk.recall(past.message, past.problem)
        stop = await answer(env, talk, past.message, past.problem)
        if talk.turns[-1].observation != past.observation:
            raise EnvCrashed(
                f"turn {past.index} played again was answered differently: this environment does "
                "not repeat itself under one seed, so no episode can start from a recorded prefix"
            )
        if stop is not None:
            return stop
    for number in range(guide.lead):
        said = await env.expert("optimal", derive_seed(seed, "lead", number))
        read = talk.read(said) if isinstance(said, str) else Parsed(said, "")
        await talk.recall(read.message, read.problem)
        stop = await answer(env, talk, read.message, read.problem)
        if stop is not None:
            return stop
    if guide.prefix and guide.hint:
        talk.show(Message("user", guide.hint))
    return None
