"""Adapters from the vectors' sampling suites to our functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foldgym.trainers.samplers.members.d3s import d3s_schedule, d3s_select
from foldgym.trainers.samplers.members.prof import prof_filter
from foldgym.trainers.samplers.members.successes import replay_weights
from foldgym.trainers.samplers.schedules.tti import multiplicative_horizon, script_horizon
from foldgym.trainers.samplers.segmentation import dcpo_segmentation
from foldgym.trainers.samplers.selectors.vas import vas_weights

Row = Mapping[str, Any]


def segmentation(
    prompt_len: int, actions: Sequence[Sequence[Any]], action_fields: Sequence[str] = ()
) -> Row:
    rows = [(kind, *map(int, sizes)) for kind, *sizes in actions]
    spans = dcpo_segmentation(prompt_len, rows)  # type: ignore[arg-type]
    return {"segments": [span._asdict() for span in spans]}


def d3s_sample_selection(A: Sequence[float], N: int) -> Row:
    selected, variance = d3s_select(A, N)
    return {"selected": selected, "variance": variance}


def schedule(p: float, N: Sequence[float], K: Sequence[float]) -> Row:
    n, k = d3s_schedule(p, (N[0], N[1]), (K[0], K[1]))
    return {"N": n, "K": k}


def horizon(iteration: int, h_min: int = 10, h_max: int = 30) -> Row:
    return {
        "script": script_horizon(iteration),
        "multiplicative": multiplicative_horizon(iteration, h_min, h_max),
    }


def vas(
    pass_rate: Sequence[float],
    diversity: Sequence[float],
    alpha: float | None = None,
    beta: float | None = None,
) -> Row:
    given = {"alpha": alpha, "beta": beta}
    options = {name: value for name, value in given.items() if value is not None}
    vps, weights = vas_weights(pass_rate, diversity, **options)
    return {"vps": vps, "weights": weights}


SUITES: dict[str, Callable[..., Row]] = {
    "d3s_sample_selection": d3s_sample_selection,
    "d3s_schedule": schedule,
    "dcpo_segmentation": segmentation,
    "prof_filter": lambda correct, prm, m: {"kept": prof_filter(correct, prm, m)},
    "tti_horizon": horizon,
    "tti_replay_weights": lambda sites: {"p": replay_weights(sites)},
    "vas_weights": vas,
}
