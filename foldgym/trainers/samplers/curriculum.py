"""A curriculum from a run file: which member stands in which slot, over which arms.

To add a member, write it and put a line in the table of its slot; or name it "module:attr".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from foldgym.config import bind, resolve
from foldgym.errors import ConfigError, UnknownName
from foldgym.trainers.advantages.base import accuracy
from foldgym.trainers.advantages.group_weights import Stage, odsw_weight
from foldgym.trainers.samplers.allocators.cures import CuresSplit
from foldgym.trainers.samplers.allocators.even import Even
from foldgym.trainers.samplers.allocators.knapsack import Knapsack
from foldgym.trainers.samplers.base import TaskSampler, arms_of
from foldgym.trainers.samplers.gates.band import band
from foldgym.trainers.samplers.gates.varied import varied
from foldgym.trainers.samplers.members.d3s import d3s
from foldgym.trainers.samplers.members.prof import prof
from foldgym.trainers.samplers.members.successes import successes
from foldgym.trainers.samplers.rescues.dyna import Dyna
from foldgym.trainers.samplers.rescues.egsr import Egsr
from foldgym.trainers.samplers.rescues.fission import Fission
from foldgym.trainers.samplers.rescues.ghpo import Ghpo
from foldgym.trainers.samplers.rescues.scaf import Scaf
from foldgym.trainers.samplers.schedules.context import ContextBudget
from foldgym.trainers.samplers.schedules.prefill import Prefill
from foldgym.trainers.samplers.schedules.scaffold import Scaffold
from foldgym.trainers.samplers.schedules.stages import Stages
from foldgym.trainers.samplers.schedules.tti import Tti
from foldgym.trainers.samplers.selectors.adcl import Adcl
from foldgym.trainers.samplers.selectors.alp_gmm import AlpGmm
from foldgym.trainers.samplers.selectors.cures import Cures
from foldgym.trainers.samplers.selectors.dads import Dads
from foldgym.trainers.samplers.selectors.dump import Dump
from foldgym.trainers.samplers.selectors.pcl import Pcl
from foldgym.trainers.samplers.selectors.predictors import Predictor
from foldgym.trainers.samplers.selectors.sec import Sec
from foldgym.trainers.samplers.selectors.vas import Vas
from foldgym.trainers.samplers.selectors.weighted import Weighted
from foldgym.trainers.samplers.slots import Arm, Weighter
from foldgym.trainers.samplers.sources.fixed import Fixed
from foldgym.trainers.samplers.sources.fresh import Fresh
from foldgym.trainers.samplers.sources.poet import Poet

_FLOOR = 0.01
_OWN_SHARES = (Sec, Dump, Dads, Cures, Adcl, Vas)

Member: TypeAlias = str | dict[str, Any]  # "sec" or {use = "sec", tau = 0.5}


def odsw(stage: Stage = "medium", fact: str = "success") -> Weighter:
    """VL-Cogito's soft window over the group's accuracy, on top of any advantage."""
    return lambda group: odsw_weight(accuracy(group, fact), stage)


SLOTS: dict[str, dict[str, Callable[..., Any]]] = {
    "source": {"fresh": Fresh, "fixed": Fixed, "poet": Poet},
    "schedule": {
        "tti": Tti,
        "context": ContextBudget,
        "stages": Stages,
        "scaffold": Scaffold,
        "prefill": Prefill,
    },
    "selector": {
        "weighted": Weighted,
        "sec": Sec,
        "dump": Dump,
        "dads": Dads,
        "pcl": Pcl,
        "cures": Cures,
        "adcl": Adcl,
        "alp_gmm": AlpGmm,
        "vas": Vas,
    },
    "allocator": {"even": Even, "knapsack": Knapsack, "cures": CuresSplit},
    "gate": {"varied": varied, "band": band},
    "rescue": {"scaf": Scaf, "ghpo": Ghpo, "egsr": Egsr, "fission": Fission, "dyna": Dyna},
    "trim": {"prof": prof, "successes": successes},
    "weighter": {"odsw": odsw},
    "thin": {"d3s": d3s},
}


def curriculum(
    envs: Mapping[str, float],
    seed: int,
    group_size: int,
    *,
    arms: list[dict[str, Any]] | None = None,
    source: Member = "fresh",
    schedule: Member | list[Member] | None = None,
    selector: Member = "weighted",
    allocator: Member = "even",
    gate: Member | None = None,
    rescue: Member | None = None,
    trim: Member | None = None,
    weighter: Member | None = None,
    thin: Member | None = None,
    metric: str = "score",
    floor: float = _FLOOR,
    rescue_share: float = 0.25,
    max_rounds: int = 10,
    value: Callable[[], Predictor] | None = None,
) -> TaskSampler:
    """One member per slot, each by its short name, "module:attr", or `{use = ..., options}`.

    `arms` lists `{env, kwargs, weight, name}`: `env` is an environment of the run (it may be left
    out when there is one), `kwargs` go over those of `[[envs]]`. Without it every environment is
    an arm. `value` makes the predictor "value" of pcl; a run gives it, no run file can. Raises
    `ConfigError` for an unknown or ineffective option, and for members that cannot do anything
    together.
    """
    made = _arms(arms, envs)
    if not 0 <= floor <= 1 or rescue_share <= 0:
        raise ConfigError(
            f"sampler needs floor in [0, 1] and rescue_share > 0: {floor}, {rescue_share}"
        )
    if rescue is None and rescue_share != 0.25:
        raise ConfigError("sampler.rescue_share: has no effect: there is no rescue; remove it")
    given = schedule if isinstance(schedule, list) else [schedule] if schedule else []
    by_value = {"value": value} if chooses_by_value(selector) else {}
    parts: dict[str, Any] = {
        "source": _source(source, seed),
        "selector": _make("selector", selector, "", **by_value),
        "allocator": _make("allocator", allocator),
        "schedules": [_make("schedule", each, f"schedule.{i}") for i, each in enumerate(given)],
    }
    optional = {"gate": gate, "rescue": rescue, "trim": trim, "weighter": weighter, "thin": thin}
    parts |= {slot: _make(slot, use) for slot, use in optional.items() if use is not None}
    _check(parts, made, floor)
    return TaskSampler(
        made,
        seed,
        group_size,
        **parts,
        metric=metric,
        floor=floor,
        rescue_share=rescue_share,
        max_rounds=max_rounds,
    )


def chooses_by_value(selector: Any) -> bool:
    """Whether a selector as a run file names it reads a value head."""
    if not isinstance(selector, dict):
        return False
    options = cast("dict[str, Any]", selector)
    return options.get("use") == "pcl" and options.get("predictor") == "value"


def _make(slot: str, member: Member, key: str = "", **more: Any) -> Any:
    options = {} if isinstance(member, str) else dict(member)
    use = member if isinstance(member, str) else options.pop("use", None)
    where = f"sampler.{key or slot}"
    if not isinstance(use, str):
        raise ConfigError(f'{where}: needs use = "...", one of: {", ".join(SLOTS[slot])}')
    return bind(slot, resolve(slot, use, SLOTS[slot]), options, where)(**more)


def _source(member: Member, seed: int) -> Any:
    """Sources take the run's seed, which no run file gives them."""
    options = {"use": member} if isinstance(member, str) else dict(member)
    if "seed" in options:
        raise ConfigError("sampler.source.seed: is the run's own; remove it")
    return _make("source", {**options, "seed": seed})


def _arms(given: Sequence[Mapping[str, Any]] | None, envs: Mapping[str, float]) -> list[Arm]:
    if given is None:
        return arms_of(envs)
    known = ("env", "kwargs", "weight", "name")
    arms: list[Arm] = []
    for place, row in enumerate(given):
        for key in row:
            if key not in known:
                raise UnknownName(f"option of sampler.arms.{place}", key, known)
        env = row.get("env", next(iter(envs)) if len(envs) == 1 else None)
        if env not in envs:
            raise UnknownName(f"environment of sampler.arms.{place}", str(env), envs)
        kwargs = dict(row.get("kwargs", {}))
        settings = ",".join(f"{key}={value}" for key, value in sorted(kwargs.items()))
        name = row.get("name", f"{env}({settings})" if settings else env)
        arms.append(Arm(name, env, kwargs, float(row.get("weight", envs[env]))))
    twice = [arm.name for arm in arms if [other.name for other in arms].count(arm.name) > 1]
    if twice or not arms:
        raise ConfigError(f"sampler.arms: names must differ, and there must be some: {twice}")
    return arms


def _check(parts: Mapping[str, Any], arms: Sequence[Arm], floor: float) -> None:
    """Refuses what would do nothing."""
    source, selector = parts["source"], parts["selector"]
    for slot in ("selector", "allocator"):
        if parts[slot].by_task and not source.fixed:
            raise ConfigError(
                f"sampler.{slot}: has no effect: it chooses by what is known of each task, and "
                'with a fresh source no task comes back; set sampler.source = "fixed"'
            )
    if isinstance(selector, AlpGmm) and source.fixed:
        raise ConfigError(
            "sampler.selector: alp_gmm makes its own tasks from settings; a fixed source has none "
            'of them; set sampler.source = "fresh"'
        )
    if isinstance(selector, Weighted) and floor != _FLOOR:
        raise ConfigError(
            "sampler.floor: has no effect: this selector keeps the weights of the environments"
        )
    if type(selector) in _OWN_SHARES and len({arm.weight for arm in arms}) > 1:
        raise ConfigError(
            "envs.weight: has no effect: sampler.selector decides how often each arm is played; "
            "leave the weights equal"
        )
    single = len(arms) == 1 and not isinstance(source, Poet)
    if isinstance(selector, (Sec, Dump, Dads)) and single:
        raise ConfigError(
            "sampler.selector: has no effect: it chooses among arms and there is only one; list "
            "settings of it in sampler.arms"
        )
