"""Whether a server samples with the weights that are trained, by the log-probs of a probe."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.agents.engines.engine import Trainee
from foldgym.agents.engines.vllm_client import Calls
from foldgym.errors import WeightsDiffer
from foldgym.seeding import generator
from foldgym.types import Ids, Sampling

_LENGTH = 64
_TEMPERATURE = 0.5  # at which raw and tempered log-probs are far apart


class Probe:
    """Ids whose log-probs are read on both sides after every push.

    The mean difference must stay within `tolerance`, and the server must not be nearer to the
    weights before the update than to those after it. `numbers` are those of the last comparison.
    """

    def __init__(self, trainee: Trainee, tolerance: float) -> None:
        self.trainee, self.tolerance = trainee, tolerance
        size = int(min(_LENGTH, trainee.policy.max_positions - 1))
        rng = generator("vllm probe")
        self.ids: Ids = tuple(
            rng.randrange(trainee.renderer.tokenizer.vocab_size) for _ in range(size)
        )
        self.numbers: dict[str, float] = {}
        self._own: tuple[float, ...] = ()
        self._before: tuple[float, ...] = ()

    def renew(self) -> None:
        """The trainee's weights changed: reads what servers must say from now on."""
        self._before = self._own
        [self._own] = self.trainee.policy.score([(self.ids[:1], self.ids[1:])])

    async def first(self, clients: Sequence[Calls]) -> None:
        """The comparison before anything was pushed, of sampled ids too. Raises `WeightsDiffer`."""
        await self.compare(clients)
        prompt, sampling = self.ids[:8], Sampling(_TEMPERATURE, 8)
        for client in clients:
            said = await client.complete(prompt, sampling, (), 0)
            [own] = self.trainee.policy.score([(prompt, said.ids)], _TEMPERATURE)
            gap = _mean(own, said.logprobs)
            if not gap <= self.tolerance:
                raise WeightsDiffer(
                    f"{client.url}: log-probs of ids sampled at temperature {_TEMPERATURE:g} "
                    f"differ from the policy's by {gap:.3g} on average (tolerance "
                    f"{self.tolerance:g}), those of a prompt do not: start the server with "
                    "--logprobs-mode processed_logprobs"
                )

    async def compare(self, clients: Sequence[Calls]) -> None:
        """The comparison after a push. Raises `WeightsDiffer`."""
        own, before = self._own, self._before
        worst, highest = 0.0, 0.0
        for client in clients:
            theirs = await client.read(self.ids)
            gap = _mean(own, theirs)
            if not gap <= self.tolerance:  # NaN is no agreement
                raise WeightsDiffer(
                    f"{client.url} samples with other weights than are trained: their log-probs "
                    f"differ by {gap:.3g} on average over {len(own)} ids, tolerance "
                    f"{self.tolerance:g} (engine.tolerance)"
                )
            stale = _mean(before, theirs) if before else gap
            if stale < gap / 2:
                raise WeightsDiffer(
                    f"{client.url} still has the weights of before: its log-probs differ by "
                    f"{gap:.3g} on average from those after the update, and by {stale:.3g} from "
                    "those before it"
                )
            worst = max(worst, gap)
            highest = max(highest, *(abs(a - b) for a, b in zip(own, theirs, strict=True)))
        self.numbers = {"push_gap_mean": worst, "push_gap_max": highest}


def _mean(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / max(1, len(a))
