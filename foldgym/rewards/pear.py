"""PEAR: an answer costs less the surer the thinking before it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foldgym.rewards.outcomes import number_fact
from foldgym.types import Credit, Trajectory


def pear_reward(
    think: Sequence[float],
    answer: Sequence[float],
    correct: bool,
    alpha: float = 1.0,
    base: float = 1.0,
    wrong: float = 0.0,
) -> tuple[float, float]:
    """`(penalty, reward)` from the token entropies of the two phases, in nats.

    `penalty = max(0, mean(think) - alpha mean(answer))`, an empty phase having mean 0; the reward
    is `min(1, base - penalty)` if correct, else `wrong`. Source: PEAR, through a secondary note.
    The penalty may exceed `base`: a correct answer then earns less than a wrong one.
    """
    thinking, answering = (sum(x) / len(x) if x else 0.0 for x in (think, answer))
    penalty = max(0.0, thinking - alpha * answering)
    return penalty, min(1.0, base - penalty) if correct else wrong


def pear(
    trajectory: Trajectory,
    entropy: Callable[[Trajectory], Credit],
    *,
    close: int,
    alpha: float = 1.0,
    base: float = 1.0,
    wrong: float = 0.0,
    fact: str = "success",
) -> float:
    """`pear_reward` of an episode. `close` is the id that ends thinking; it is in neither phase.

    `entropy(trajectory)` gives one array [T] per segment, in nats, read from the sampling policy.
    Every turn is cut at its first `close`; a turn without one is all thinking.
    """
    think: list[float] = []
    answer: list[float] = []
    closed: set[int] = set()
    for segment, entropy_T in zip(trajectory.segments, entropy(trajectory), strict=True):
        if not segment.trainable:
            continue
        columns = zip(segment.token_ids, segment.turn_ids, entropy_T, strict=True)
        for token, turn, value in columns:
            if turn < 0:
                continue
            if token == close and turn not in closed:
                closed.add(turn)
            else:
                (answer if turn in closed else think).append(float(value))
    correct = number_fact(trajectory, fact) == 1
    return pear_reward(think, answer, correct, alpha, base, wrong)[1]
