"""MMR1's VAS: part of the batch by how uncertain and varied the answers to a task are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.selectors.explore import arm_shares, explored
from foldgym.trainers.samplers.slots import Desk, Pick
from foldgym.trainers.samplers.stats import Result
from foldgym.types import Json

_ALL = 1 << 30


def vas_weights(
    pass_rate: Sequence[float], diversity: Sequence[float], alpha: float = 0.8, beta: float = 0.2
) -> tuple[list[float], list[float]]:
    """(VPS, weights): `alpha p (1 - p) + beta diversity`, then `(v - min) / (max - min + 1e-8)`.

    Equal scores throughout give weights of 0; whoever draws must then be uniform.
    """
    pairs = zip(pass_rate, diversity, strict=True)
    vps = [alpha * p * (1 - p) + beta * d for p, d in pairs]
    low, high = min(vps, default=0.0), max(vps, default=0.0)
    return vps, [(v - low) / (high - low + 1e-8) for v in vps]


def self_bleu(texts: Sequence[str], orders: Sequence[int] = (1, 2, 3)) -> float:
    """How alike texts are: clipped n-gram precision of each against all others, averaged.

    Mean over `orders` and texts, no brevity penalty (OURS); 1 for fewer than two texts.
    """
    if len(texts) < 2:
        return 1.0
    found: list[float] = []
    for n in orders:
        grams = [_ngrams(text, n) for text in texts]
        for i, mine in enumerate(grams):
            others: Counter[tuple[str, ...]] = Counter()
            for j, theirs in enumerate(grams):
                if j != i:
                    others |= theirs
            total = sum(mine.values())
            found.append(sum((mine & others).values()) / total if total else 1.0)
    return sum(found) / len(found)


def _ngrams(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


class Vas:
    """`int(share * B)` tasks drawn in proportion to their weight, the rest uniformly.

    Weights are renewed every `every` steps, `w = momentum w + (1 - momentum) new`; a task nobody
    tried counts as the most uncertain. Where all weights are 0 the draw is uniform (OURS: the
    reference raises). Diversity is `1 - self-BLEU`, as the paper says; the released code adds
    self-BLEU itself, which rewards sameness.
    Source: MMR1, code read; `share` .5, `every` 4 and `momentum` 0 verified (the class default of
    1 never changes a weight). `alpha`, `beta` default to 1, 0 as its plain script.
    """

    by_task = True

    def __init__(
        self,
        share: float = 0.5,
        every: int = 4,
        alpha: float = 1.0,
        beta: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        if not 0 <= share <= 1 or not 0 <= momentum < 1 or every < 1:
            raise ConfigError(
                f"vas needs 0 <= share <= 1, 0 <= momentum < 1 and every >= 1, "
                f"not {share}, {momentum}, {every}"
            )
        self._share, self._every, self._momentum = share, every, momentum
        self._alpha, self._beta = alpha, beta
        self._diversity: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._updates = 0

    def probs(self, desk: Desk) -> dict[str, float]:
        """The arms' shares of a batch."""
        pool = desk.source.pool(_ALL, desk)
        weights = [self._weights.get(pick.key, 1.0) for pick in pool]
        total = sum(weights)
        weighed = [self._share * w / total if total else 0.0 for w in weights]
        even = (1 - self._share if total else 1.0) / len(pool)
        return arm_shares(pool, [w + even for w in weighed], desk)

    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]:
        """Weighted draws with replacement, then distinct uniform ones, interleaved at random."""
        pool = desk.source.pool(_ALL, desk)
        weights = [self._weights.get(pick.key, 1.0) for pick in pool]
        count = int(want * self._share) if sum(weights) > 0 else 0
        chosen = desk.rng.choices(pool, weights, k=count) if count else []
        rest = explored(
            desk.rng.sample(pool, min(len(pool), want - count)), want - count, place, desk
        )
        mixed = [*chosen, *rest]
        desk.rng.shuffle(mixed)
        return mixed

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Remembers diversity; renews the weights when it is time."""
        for result in results:
            self._diversity[result.task] = 1.0 - self_bleu(result.texts)
        self._updates += 1
        if self._updates % self._every == 0:
            known = [k for k in sorted(self._diversity) if desk.stats.p(k) is not None]
            rates = [desk.stats.p(k) or 0.0 for k in known]
            spread = [self._diversity[k] for k in known]
            _, new = vas_weights(rates, spread, self._alpha, self._beta)
            for key, weight in zip(known, new, strict=True):
                old = self._weights.get(key, weight)
                self._weights[key] = self._momentum * old + (1 - self._momentum) * weight
        return {}

    def state(self) -> dict[str, Json]:
        """Weights, diversity and the count of updates."""
        return {
            "weights": dict(self._weights),
            "diversity": dict(self._diversity),
            "updates": self._updates,
        }

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._weights, self._diversity = dict(state["weights"]), dict(state["diversity"])
        self._updates = state["updates"]
