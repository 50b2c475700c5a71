"""LeaP: paths that think side by side, pause together, and read what their peers have found."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foldgym.agents.ledger import REPLAY
from foldgym.agents.scaffolds.toolbox import canonical
from foldgym.agents.scaffolds.wording import wording
from foldgym.agents.stage import Stage
from foldgym.agents.transcript import Transcript
from foldgym.tools import Parsed
from foldgym.types import Ids, Message, Step, Stop

Router = Literal["dispersed", "clustered", "hybrid"]

WORDS = {
    "trigger": "Let me stop here and sum up what I have for the others.",
    "again": "Before I go on, what I know so far in a few words.",
    "final": "I must answer now.",
    "chosen": "The group decided for another action:",
}


@dataclass(slots=True)
class Path:
    """One of the lineages, and what it said this turn; `full` when its context has no more room."""

    talk: Transcript
    said: Parsed | None = None
    full: bool = False

    @property
    def thinks(self) -> bool:
        """Whether it has more to say this turn."""
        return self.said is None and not self.full


class LeaP:
    """`paths` lineages play one episode: they think a turn side by side and act as one.

    At every `every` tokens of a turn, at most `pauses` times, all that still think wait for each
    other. Each takes back its last unfinished paragraph (`trim`), sums itself up in at most
    `summary_tokens`, and gets the summaries of `peers` others as comments: the least like its own
    (`"dispersed"`), the most alike (`"clustered"`), or half of each (`"hybrid"`). What is inserted
    is context and never trained. After the last pause a turn is brought to its end.

    The world hears the action that most paths want, the first path's among equals. The others hear
    what was done instead of theirs.
    Source: LeaP (memory spec A12; there 2,048 tokens, 5 pauses, 256 a summary, 2 peers, 4 paths,
    for one answer; acting as one is ours). There the trigger is drawn from many sentences.
    """

    roles = ("path",)

    def __init__(
        self,
        paths: int = 4,
        every: int = 64,
        pauses: int = 2,
        summary_tokens: int = 32,
        peers: int = 2,
        router: Router = "dispersed",
        trim: bool = True,
        words: dict[str, str] | None = None,
    ) -> None:
        if paths < 2 or not 1 <= peers < paths:
            raise ValueError(
                f"LeaP needs paths >= 2 and 1 <= peers < paths, not paths={paths}, peers={peers}"
            )
        if min(every, pauses, summary_tokens) < 1:
            raise ValueError(
                "every, pauses and summary_tokens must be at least 1, not "
                f"{every}, {pauses}, {summary_tokens}"
            )
        self.paths, self.every, self.pauses = paths, every, pauses
        self.summary_tokens, self.peers = summary_tokens, peers
        self.router: Router = router
        self.trim, self.words = trim, wording(WORDS, words)

    async def run(self, stage: Stage) -> Stop:
        """Turns of all paths, until the world or a limit ends it."""
        paths = [
            Path(await stage.lineage(f"path/{place}", memory=stage.memory()))
            for place in range(self.paths)
        ]
        stop = await stage.lead(paths[0].talk)
        if stop is not None:
            return stop
        led = [turn for turn in paths[0].talk.turns if turn.purpose == REPLAY]
        for turn in led:
            for path in paths[1:]:
                await path.talk.recall(turn.message, turn.problem)
                await path.talk.hear(turn.observation, 0.0, {})
        unreadable = 0
        for number in range(stage.limits.max_turns - paths[0].talk.acted):
            await self._think(stage, paths, number)
            if all(path.full for path in paths):
                return Stop.MAX_CONTEXT
            said = [path.said for path in paths if path.said is not None]
            unreadable = unreadable + 1 if all(each.problem for each in said) else 0
            stop = await self._act(stage, paths)
            if stop is not None:
                return stop
            if unreadable >= stage.limits.max_parse_errors:
                return Stop.PARSE_ERRORS
            if stage.seconds_left < 0:
                return Stop.MAX_SECONDS
        return Stop.MAX_TURNS

    # ------------------------------------------------------------ thinking

    async def _think(self, stage: Stage, paths: list[Path], number: int) -> None:
        """One turn of every path, with pauses."""
        for path in paths:
            path.said = None
        for pause in range(self.pauses):
            going = [path for path in paths if path.thinks]
            await stage.together([self._piece(path, self.every) for path in going])
            going = [path for path in paths if path.thinks]
            if len(going) < 2:
                break
            rng = stage.rng("pause", number, pause)
            await self._exchange(stage, going, rng)
        going = [path for path in paths if path.thinks]
        for path in going:
            if path.talk.unfinished:
                path.talk.plant(f"\n{self.words['final']}\n", aloud=False)
        await stage.together([self._piece(path, 0) for path in going])

    async def _piece(self, path: Path, tokens: int) -> None:
        """Goes on with the turn for so many tokens (0: to its end)."""
        begun = len(path.talk.begun)
        prompt = await path.talk.prompt("path")
        if prompt is None:
            path.full = True
            return
        said = await path.talk.say(prompt, hold=tokens)
        if not path.talk.unfinished:
            path.said = said
        elif self.trim:
            piece = path.talk.begun[begun:]
            path.talk.unsay(len(piece) - paragraphs(piece, path.talk))

    async def _exchange(self, stage: Stage, going: list[Path], rng: random.Random) -> None:
        """All that still think sum up, and read some of the others' summaries."""
        trigger = f"\n{rng.choice([self.words['trigger'], self.words['again']])}\n<summarize>"
        given = await stage.together(
            [path.talk.aside("summarise", trigger, self.summary_tokens) for path in going]
        )
        texts = [each.text.strip() if each is not None else "" for each in given]
        for place, chosen in enumerate(route(texts, self.peers, self.router)):
            comments = "".join(f"<comment>{texts[peer]}</comment>\n" for peer in chosen)
            going[place].talk.plant(f"{trigger}{texts[place]}</summarize>\n{comments}")

    # ------------------------------------------------------------ acting

    async def _act(self, stage: Stage, paths: list[Path]) -> Stop | None:
        """What most paths want is done; every path hears what came of it."""
        wants: list[tuple[Path, Message, tuple[Message, ...]]] = []
        for path in paths:
            if path.said is None:
                continue
            if path.said.problem:
                await path.talk.hear((Message("user", path.said.problem),), 0.0, {})
                continue
            rest, notes = await path.talk.remember(path.said.message)
            if notes and not rest.tool_calls:
                await path.talk.hear(notes, 0.0, {})
            else:
                wants.append((path, rest, notes))
        if not wants:
            return None
        votes = Counter(wanted(message) for _, message, _ in wants)
        chosen = max(votes, key=lambda text: votes[text])  # the first among equals
        actor, action, _ = next(want for want in wants if wanted(want[1]) == chosen)
        actor.talk.acts()
        actor.talk.counters["votes_agreed"] += votes[chosen]
        step = await stage.env.step(action)
        for path, message, notes in wants:
            agreed, mine = wanted(message) == chosen, path is actor
            answer = step.observation if agreed else self._instead(action, step)
            await path.talk.hear(
                (*notes, *answer), step.reward if mine else 0.0, step.info if mine else {}
            )
        heard = {id(path) for path, _, _ in wants}
        for path in paths:
            if id(path) not in heard and not path.full:
                for message in self._instead(action, step):
                    path.talk.show(message)
        if step.terminated:
            return Stop.DONE
        return Stop.TRUNCATED if step.truncated else None

    def _instead(self, action: Message, step: Step) -> tuple[Message, ...]:
        """What paths hear whose action was not chosen: no answers to calls they did not make."""
        seen = "\n".join(message.text for message in step.observation)
        return (Message("user", f"{self.words['chosen']} {wanted(action)}\n{seen}"),)


def wanted(action: Message) -> str:
    """An action as text that is the same for equal actions."""
    return "; ".join(map(canonical, action.tool_calls)) or action.text.strip()


def route(texts: Sequence[str], k: int, router: Router) -> list[list[int]]:
    """For each text the places of the `k` others whose summaries it gets; never its own.

    >>> route(["a b", "a b c", "x y"], 1, "clustered")
    [[1], [0], [0]]
    >>> route(["a b", "a b c", "x y"], 1, "dispersed")
    [[2], [2], [0]]
    """
    out: list[list[int]] = []
    for place, text in enumerate(texts):
        others = [other for other in range(len(texts)) if other != place]
        near = sorted(others, key=lambda other: -alike(text, texts[other]))
        far = sorted(others, key=lambda other: alike(text, texts[other]))
        close = {"clustered": k, "dispersed": 0, "hybrid": (k + 1) // 2}[router]
        chosen = near[:close]
        out.append((chosen + [other for other in far if other not in chosen])[:k])
    return out


def alike(one: str, two: str) -> float:
    """The share of words that two texts have in common, of those in either."""
    a, b = set(one.split()), set(two.split())
    return len(a & b) / len(a | b) if a | b else 1.0


def paragraphs(ids: Ids, talk: Transcript) -> int:
    """How many of the ids make whole paragraphs; all of them if there is no such break."""
    decode = talk.renderer.tokenizer.decode
    end = decode(ids).rfind("\n\n")
    if end < 0:
        return len(ids)
    return bisect_left(range(len(ids) + 1), end + 2, key=lambda n: len(decode(ids[:n])))
