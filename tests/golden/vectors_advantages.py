"""Adapters from the vectors' advantage suites to our functions.

Wherever the inputs make trajectories, the registered estimator itself runs, not only its core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from foldgym.trainers.advantages.copo import blend, copo
from foldgym.trainers.advantages.credit import totals
from foldgym.trainers.advantages.dcpo import dcpo
from foldgym.trainers.advantages.dyna import refine_advantages
from foldgym.trainers.advantages.empg import modulated
from foldgym.trainers.advantages.filters import without
from foldgym.trainers.advantages.gae import egae, gae
from foldgym.trainers.advantages.gigpo import Steps, step_advantages
from foldgym.trainers.advantages.grpo import grpo
from foldgym.trainers.advantages.hicra import amplified
from foldgym.trainers.advantages.igpo import discounted, normalised_turns
from foldgym.trainers.advantages.inputs import flat
from foldgym.trainers.advantages.psr_nsr import nsr, psr, w_reinforce
from foldgym.trainers.advantages.reinforce_pp import (
    kl_returns,
    reinforce_pp_baseline,
    reinforce_pp_kl,
)
from foldgym.trainers.advantages.toolpo import action_reward, centred, toolpo
from foldgym.types import (
    Credits,
    Group,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    ToolCall,
    Trajectory,
    Turn,
)

Row = Mapping[str, Any]


def trajectory(
    mask: Sequence[float], name: str = "t", stop: Stop = Stop.DONE, problem: str = "", **facts: Any
) -> Trajectory:
    """A context id, then one id per entry of the mask, sampled by turn 0 where it is 1."""
    turn_ids = (-1, *(0 if m else -1 for m in mask))
    size = len(turn_ids)
    segment = Segment((0,) * size, turn_ids, (0.0,) * size, (0,) * size)
    turns = (Turn(0, Message("assistant", "x"), problem=problem),)
    return Trajectory(name, "world", Task("q", ()), 0, turns, (segment,), stop, facts)


def group(members: Sequence[Trajectory], rewards: Sequence[float]) -> Group:
    request = Request("world", 0, len(members))
    return Group(request, tuple(members), tuple(Reward(r, r) for r in rewards))


def split(labels: Sequence[Any]) -> list[list[int]]:
    """Places of the members of each label."""
    return [[i for i, x in enumerate(labels) if x == label] for label in dict.fromkeys(labels)]


def rows(groups: Sequence[Group], credits: Credits, places: Sequence[Sequence[int]]) -> list[Any]:
    """Credit [N][T] without the context id, in the input's order."""
    out: dict[int, Any] = {}
    for members, credit_G, where in zip(groups, credits, places, strict=True):
        assert len(members.trajectories) == len(where)
        for credit, i in zip(credit_G, where, strict=True):
            out[i] = credit[0][1:].tolist()
    return [out[i] for i in range(len(out))]


def by_label(
    labels: Sequence[Any], rewards: Sequence[float], members: Sequence[Trajectory]
) -> tuple[list[Group], list[list[int]]]:
    places = split(labels)
    return [group([members[i] for i in p], [rewards[i] for i in p]) for p in places], places


def column(values: Sequence[Sequence[float]]) -> tuple[tuple[Any, ...], ...]:
    """One column of a group of single segments, the context id in front."""
    return tuple((np.array([0.0, *row]),) for row in values)


# ---------------------------------------------------------------- suites


def reinforce(rewards: Any, logp: Any, ref_logp: Any, mask: Any, beta: float, ddof: int = 1) -> Row:
    members: list[Trajectory] = []
    for i, (row, lp) in enumerate(zip(mask, logp, strict=True)):
        plain = trajectory(row, f"t{i}")
        members.append(replace(plain, segments=(replace(plain.segments[0], logprobs=(0.0, *lp)),)))
    one, reference = group(members, rewards), (column(ref_logp),)
    credits = reinforce_pp_kl([one], reference, beta=beta, ddof=ddof)
    returns = []
    for t, row, lp, ref, reward in zip(members, mask, logp, ref_logp, rewards, strict=True):
        out = np.zeros(len(row))
        kl_N = flat(t, (np.array([0.0, *lp]) - np.array([0.0, *ref]),))
        out[np.array(row) == 1] = kl_returns(reward, kl_N, beta)
        returns.append(out.tolist())
    return {"returns": returns, "advantages": rows([one], credits, [range(len(members))])}


def reinforce_baseline(rewards: Any, groups: Any, mask: Any, ddof: int = 1) -> Row:
    members = [trajectory(row, f"t{i}") for i, row in enumerate(mask)]
    built, places = by_label(groups, rewards, members)
    return {"advantages": rows(built, reinforce_pp_baseline(built, ddof=ddof), places)}


def gae_egae(rewards: Any, values: Any, gamma: float, lam: float, truncated: bool) -> Row:
    size = len(rewards)
    turn_ids = (-1, *range(size))  # one id per turn, so that every id can be rewarded
    segment = Segment((0,) * (size + 1), turn_ids, (0.0,) * (size + 1), (0,) * (size + 1))
    turns = tuple(Turn(k, Message("assistant", "x")) for k in range(size))
    stop = Stop.MAX_TURNS if truncated else Stop.DONE
    member = Trajectory("t", "world", Task("q", ()), 0, turns, (segment,), stop)
    reward = Reward(float(sum(rewards)), 0.0, tuple(map(float, rewards)))
    one = Group(Request("world", 0, 1), (member,), (reward,))
    credits = egae([one], (column([values]),), gamma=gamma, lam=lam)
    if not truncated:
        plain = gae([one], (column([values]),), gamma=gamma, lam=lam)
        assert plain[0][0][0].tolist() == credits[0][0][0].tolist()
    return {"advantages": rows([one], credits, [[0]])[0]}


def igpo(
    turn_rewards: Any,
    groups: Any,
    mode: Any = "separate",
    gamma: float = 1.0,
    norm_std: bool = True,
    w_ig: float = 1.0,
    w_f1: float = 1.0,
    eps: float = 1e-6,
) -> Row:
    """The vectors weight rewards before the statistics; our estimator weights after them."""
    out: dict[int, list[float]] = {}
    for places in split(groups):
        weighted = [
            [*(w_ig * r for r in turn_rewards[i][:-1]), w_f1 * turn_rewards[i][-1]] for i in places
        ]
        z = normalised_turns(weighted, mode, norm_std, eps)
        out |= dict(zip(places, discounted(z, gamma), strict=True))
    return {"turn_advantages": [out[i] for i in range(len(turn_rewards))]}


def gigpo(
    rows: Any,
    episode_reward: Any,
    gamma: float = 0.95,
    w: float = 1.0,
    mode: str = "mean_norm",
    cross_all: bool = True,
) -> Row:
    out = {name: np.zeros(len(rows)) for name in ("step_returns", "A_episode", "A_step", "A")}
    for places in split([row["group"] for row in rows]):
        mine = [rows[i] for i in places]
        names = [row["traj"] for row in mine]
        steps = Steps(names, [row["anchor"] for row in mine], [row["reward"] for row in mine])
        rewards = {name: episode_reward[name] for name in dict.fromkeys(names)}
        found = step_advantages(steps, rewards, gamma, w, mode == "mean_std_norm", cross_all)
        for name, values in zip(out, found, strict=True):
            out[name][places] = values
    return {name: values.tolist() for name, values in out.items()}


def dcpo_memact(score: Any, group: Any, rollout_id: Any) -> Row:
    members = [trajectory([1], name) for name in rollout_id]
    built, places = by_label(group, score, members)
    return {"advantages": [row[0] for row in rows(built, dcpo(built), places)]}


def toolpo_advantage(
    R_succ: Any,
    call_correct: Any,
    S_pref: Any,
    action_mask: Any,
    response_mask: Any,
    l1: float = 1.0,
    l2: float = 1.0,
) -> Row:
    """Marked ids are a tool-call turn of their own."""
    members: list[Trajectory] = []
    rewards: list[Reward] = []
    actions = [action_reward(c, p, l1, l2) for c, p in zip(call_correct, S_pref, strict=True)]
    for i, (marks, mask) in enumerate(zip(action_mask, response_mask, strict=True)):
        plain = trajectory(mask, f"t{i}")
        turn_ids = (-1, *(-1 if not m else a for a, m in zip(marks, mask, strict=True)))
        call = Message("assistant", tool_calls=(ToolCall("go"),))
        members.append(
            replace(
                plain,
                turns=(*plain.turns, Turn(1, call)),
                segments=(replace(plain.segments[0], turn_ids=turn_ids),),
            )
        )
        total = R_succ[i] + actions[i]
        rewards.append(Reward(total, total, parts={"success": R_succ[i], "action": actions[i]}))
    one = Group(Request("world", 0, len(members)), tuple(members), tuple(rewards))
    credits = toolpo([one], terms=("action",))
    return {
        "R_action": actions,
        "A_succ": centred(np.array(R_succ, dtype=float)).tolist(),
        "A_action": centred(np.array(actions)).tolist(),
        "token_advantages": rows([one], credits, [range(len(members))]),
    }


def empg(A_traj: Any, step_entropy: Any, **options: Any) -> Row:
    found = modulated(A_traj, step_entropy, **options)
    return {
        name: [row.tolist() for row in values]
        for name, values in zip(("g", "A_mod", "A_final"), found, strict=True)
    }


def filtered(rewards: Any, groups: Any, truncated: Any, void_turn: Any) -> Row:
    members = [
        trajectory(
            [1],
            f"t{i}",
            Stop.MAX_CONTEXT if cut else Stop.DONE,
            "no such tool" if void else "",
        )
        for i, (cut, void) in enumerate(zip(truncated, void_turn, strict=True))
    ]
    built, places = by_label(groups, rewards, members)
    advantages = rows(built, grpo(built), places)
    kept = without(built, ["truncated", "void_turn"])
    masks = tuple(
        tuple((np.array([0.0, float(t.trained > 0)]),) for t in g.trajectories) for g in kept
    )
    return {
        "advantages": [row[0] for row in advantages],
        "row_mask": [row[0] for row in rows(kept, masks, places)],
    }


def by_correctness(correct: Any, mode: str, lam: float = 0.1) -> Row:
    members = [trajectory([1], f"t{i}", success=bool(c)) for i, c in enumerate(correct)]
    one = group(members, correct)
    fn: Any = {
        "positive": psr,
        "negative": nsr,
        "weighted": lambda groups: w_reinforce(groups, lam=lam),
    }[mode]
    advantages = [row[0] for row in rows([one], fn([one]), [range(len(members))])]
    kept = {"positive": bool, "negative": lambda c: not c, "weighted": lambda c: True}[mode]
    return {"advantages": advantages, "keep": [kept(c) for c in correct]}


def copo_advantage(groups: Any, answers: Any, gamma: float = 20.0, rho: float = 1.5) -> Row:
    built = [
        group([trajectory([1], answer=answer) for answer in answers[name]], groups[name])
        for name in groups
    ]
    found = blend([totals(g) for g in built], [*answers.values()], gamma, rho)
    credits = copo(built, gamma=gamma, rho=rho)
    return {
        name: {
            "entropy": one.entropy,
            "w_local": one.w_local,
            "A_local": one.local.tolist(),
            "A_global": one.everyone,
            "blended": [float(credit[0][1]) for credit in credit_G],
        }
        for name, one, credit_G in zip(groups, found, credits, strict=True)
    }


def hicra(A: Any, planning_mask: Any, alpha: float = 0.2) -> Row:
    planning_N = np.array(planning_mask, dtype=bool)
    return {"A_out": amplified(np.array(A, dtype=float), planning_N, alpha).tolist()}


def dyna(R_refine: Any, correct: Any, R_rollout: Any) -> Row:
    return {"A": refine_advantages(R_refine, correct, R_rollout).tolist()}


SUITES: dict[str, Callable[..., Row]] = {
    "copo_advantage": copo_advantage,
    "dcpo_memact_advantage": dcpo_memact,
    "dyna_grpo_refine_advantage": dyna,
    "empg_advantage": empg,
    "gae_egae": gae_egae,
    "gigpo_advantage": gigpo,
    "hicra_advantage": hicra,
    "igpo_advantage": igpo,
    "psr_nsr_wreinforce": by_correctness,
    "reinforce_pp_advantage": reinforce,
    "reinforce_pp_baseline_advantage": reinforce_baseline,
    "toolpo_advantage": toolpo_advantage,
    "truncation_and_void_turn_filter": filtered,
}
