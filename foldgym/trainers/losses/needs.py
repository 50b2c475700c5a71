"""What a loss asks of the run around it, declared beside the loss and read by all who run one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from foldgym.trainers.losses.aggregation import AGGREGATIONS

if TYPE_CHECKING:
    from torch import Tensor

    from foldgym.trainers.batch import Whole

Form = Literal["token", "trajectory", "label"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Needs:
    """`Needs(whole="trajectory", aggregations=("seq-mean-token-mean",))` is GSPO's.

    `whole`: what must lie in one micro-batch (`batch.split`). `columns`: what the learner must
    put into `Tokens.extra`; one of `COLUMNS`. `aggregations`: those under which the value is the
    paper's. `credit`: "token" takes any advantage, "trajectory" only one that is equal along a
    trajectory, "label" replaces advantages by whether the trajectory succeeded.

    `survey(tokens, **options)` sees the tokens of a whole optimiser step at once, without
    gradient, and returns columns [N] for `extra`: this is how statistics of the batch stay those
    of the batch when it is split. The learner gives it the options of the loss.

    `surrogate`: the gradient is, by intent, not the derivative of the value. `rebase`: the update
    at which the current policy becomes the reference (0: never).
    """

    whole: Whole = "row"
    columns: tuple[str, ...] = ()
    aggregations: tuple[str, ...] = AGGREGATIONS
    credit: Form = "token"
    survey: Callable[..., Mapping[str, Tensor]] | None = None
    surrogate: bool = False
    rebase: int = 0


COLUMNS = {
    "behaviour": "the sampler's log-probs, while `old_N` is recomputed before the first step",
    "staleness": "how many updates ago a token was sampled",
    "reference": "log-probs of the frozen reference",
    "previous": "log-probs of the policy before its last update",
}


def needs(wanted: Needs | Callable[..., Needs]) -> Callable[[F], F]:
    """Declares what a loss needs; a function of its options where that depends on them."""

    def declare(loss: F) -> F:
        loss.__dict__["needs"] = wanted
        return loss

    return declare


def options_of(loss: Callable[..., Any]) -> dict[str, Any]:
    """The options bound to a loss by `functools.partial`."""
    if isinstance(loss, partial):
        return {**options_of(loss.func), **loss.keywords}
    return {}


def needs_of(loss: Callable[..., Any]) -> Needs:
    """What this loss, with its bound options, declared; nothing if it declared nothing."""
    plain = loss
    while isinstance(plain, partial):
        plain = plain.func
    wanted: Any = getattr(plain, "needs", None) or Needs()
    return wanted if isinstance(wanted, Needs) else wanted(**options_of(loss))


def survey(loss: Callable[..., Any], tokens: Any) -> dict[str, Tensor]:
    """The columns that a loss wants from the tokens of a whole optimiser step, or none."""
    look = needs_of(loss).survey
    return {} if look is None else dict(look(tokens, **options_of(loss)))
