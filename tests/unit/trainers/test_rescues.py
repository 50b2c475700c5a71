"""Rescues and what becomes of their groups, in pretended rollouts and in a real world."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs.base import ToolEnv
from foldgym.envs.worker import open_worker
from foldgym.errors import ConfigError
from foldgym.memory import FullHistory
from foldgym.testing.curricula import METADATA, pretend, run_step
from foldgym.testing.doubles import ByteTokenizer
from foldgym.tools import call, tool
from foldgym.trainers.advantages import ADVANTAGES
from foldgym.trainers.samplers import TaskSampler, curriculum, settle
from foldgym.trainers.samplers.rescues.common import beginning, leaks
from foldgym.trainers.samplers.settle import merged
from foldgym.types import Group, Guide, Message, Request, Retry, Reward, Task, Verdict

W = {"w": 1.0}


def failed(n: int = 4, metadata: Any = METADATA, answer: Any = "secret") -> Group:
    (group,) = pretend([Request("w", 1, n)], lambda r, g: 0.0)
    task = replace(group.trajectories[0].task, metadata=metadata, answer=answer)
    return replace(group, trajectories=tuple(replace(t, task=task) for t in group.trajectories))


def ladder(sampler: TaskSampler, group: Group, step: int = 100) -> list[Guide]:
    """What the rescue of a sampler would try, one after the other."""
    sampler.plan(step, 100)
    guides: list[Guide] = []
    while True:
        decision = sampler.judge(group)
        if not isinstance(decision, Retry):
            return guides
        (request,) = decision.requests
        assert request.reason == "rescue"
        guides.append(request.guide(0))


# ---------------------------------------------------------------- what is shown


def test_a_beginning_never_cuts_a_word() -> None:
    text = "alpha beta gamma delta"
    assert [beginning(text, share) for share in (0.01, 0.25, 0.5, 0.75, 1.0)] == [
        "alpha",
        "alpha",
        "alpha beta",
        "alpha beta gamma",
        text,
    ]
    assert beginning("", 0.5) == ""


def test_leaks_are_found_in_any_part_of_an_answer() -> None:
    assert leaks("It is in PARIS, I think", {"city": ["Paris"], "n": 3})
    assert leaks("take 42", [41, 42])
    assert not leaks("look at the error", {"city": "Paris", "ok": True, "none": None})
    assert not leaks("a b c", "a")  # a single character is everywhere


def test_scaf_climbs_tier_by_tier_and_part_by_part() -> None:
    sampler = curriculum(W, 0, 4, rescue={"use": "scaf", "parts": 2})
    hints = [guide.hint for guide in ladder(sampler, failed())]
    assert hints == [
        *("Hint: know", "Hint: know this"),
        *("Hint: plan", "Hint: plan that"),
        *("Hint: solve", "Hint: solve it so"),
    ]
    expert = curriculum(W, 0, 4, rescue={"use": "scaf", "guide": "expert", "leads": 3})
    assert ladder(expert, failed()) == [Guide(lead=1), Guide(lead=2), Guide(lead=3)]


def test_scaf_waits_out_its_warm_up_and_leaves_successes_alone() -> None:
    sampler = curriculum(W, 0, 4, rescue={"use": "scaf", "warmup": 5})
    assert ladder(sampler, failed(), step=5) == []
    assert ladder(sampler, failed(), step=6) != []
    (solved,) = pretend([Request("w", 1, 4)], lambda r, g: 1.0)
    assert ladder(sampler, solved, step=6) == []
    assert ladder(sampler, failed(metadata={}), step=7) == []  # no hints: nothing to climb


def test_scaf_stops_at_the_least_help_that_works() -> None:
    use = {"use": "scaf", "warmup": 0, "parts": 1}
    sampler = curriculum(W, 0, 4, rescue=use, rescue_share=1.0)

    def needs_a_plan(request: Request, guide: Guide) -> float:
        return float("plan that" in guide.hint)

    accepted, rejected, played = run_step(sampler, 1, 2, needs_a_plan)
    tried = [g.request.guide(0).hint for g in played if g.request.reason]
    assert "Hint: plan that" in tried
    assert not any("solve" in hint for hint in tried)
    assert [sum(r.total for r in g.rewards) for g in accepted] == [1.0, 1.0]
    assert [len(g.trajectories) for g in rejected] == [1] * 4  # a failed level, a replaced member


def test_ghpo_shows_more_and_more_and_never_the_answer() -> None:
    sampler = curriculum(W, 0, 4, rescue="ghpo")
    hints = [guide.hint.partition("\n")[2] for guide in ladder(sampler, failed())]
    assert hints == [
        "first look around",
        "first look around and then",
        "first look around and then take what",
    ]
    guarded = ladder(sampler, failed(answer="then take"), step=101)
    assert len(guarded) == 2
    with pytest.raises(ConfigError, match="growing ratios"):
        curriculum(W, 0, 4, rescue={"use": "ghpo", "ratios": [0.5, 0.25]})
    by_turns = curriculum(W, 0, 4, rescue={"use": "ghpo", "leads": [1, 3]})
    assert ladder(by_turns, failed()) == [Guide(lead=1), Guide(lead=3)]


def test_egsr_asks_once_with_the_whole_solution() -> None:
    (guide,) = ladder(curriculum(W, 0, 4, rescue="egsr"), failed())
    assert METADATA["solution"] in guide.hint
    assert "in your own way" in guide.hint


# ---------------------------------------------------------------- what becomes of it


def test_an_attempt_in_which_the_policy_said_nothing_replaces_nobody() -> None:
    group = failed()
    (other,) = pretend(
        [Request("w", 1, 1, guides=(Guide(lead=9),), reason="rescue")], lambda r, g: 1.0
    )
    retry = Retry((other.request,), "replace_one")
    (again,), out = merged(group, [other], retry)
    assert again is not group
    assert again.trajectories[0].id == "w:1(rescue):0"
    assert [t.id for g in out for t in g.trajectories] == ["w:1:0"]
    silent = replace(other, trajectories=tuple(replace(t, segments=()) for t in other.trajectories))
    assert merged(group, [silent], retry) == ([group], [silent])


def test_a_group_whose_rescue_crashed_is_judged_as_it_was() -> None:
    group = failed()
    lost = Group(replace(group.request, reason="rescue"), (), ())
    retry = Retry((lost.request,), "replace_group")
    assert merged(group, [lost], retry) == ([group], [lost])


def test_rescued_members_carry_the_prompt_they_were_sampled_from() -> None:
    """Hazard: a response under another prompt, trained as if it were on-policy."""
    group, _ = real(Stairs, {"rescue": {"use": "scaf", "guide": "expert", "warmup": 0}}, wrong)
    (accepted,) = group
    helped = [t for t in accepted.trajectories if t.counters.get("guided")]
    assert len(helped) == 1
    (segment,) = helped[0].segments
    first = next(i for i, turn in enumerate(segment.turn_ids) if turn >= 0)
    shown = RENDERER.tokenizer.decode(segment.token_ids[:first])
    assert "climb 1" in shown  # the expert's turn stands in the context ...
    assert segment.turn_ids[first] == len([t for t in helped[0].turns if t.purpose == "replay"])
    assert segment.logprobs[:first] == (0.0,) * first  # ... and is nobody's sample


# ---------------------------------------------------------------- in a real world


class Stairs(ToolEnv):
    """Three steps in order; a wrong one is answered by an error that depends on `self.rng`."""

    experts = ("optimal",)

    def setup(self, rng: random.Random) -> Task:
        self.at = 0
        return Task("stairs", (Message("user", "Climb."),), answer={"top": "third"})

    @tool
    def climb(self, number: int) -> str:
        """Climb a step.

        Args:
            number: which
        """
        if number != self.at + 1:
            return f"error: you stumble over {self.rng.randrange(10**6)}"
        self.at += 1
        if self.at == 3:
            self.finish(1.0)
        return "up"

    def expert(self, style: str, rng: random.Random) -> Message:
        return call("climb", number=self.at + 1)


RENDERER = CompactRenderer(ByteTokenizer())


def wrong(prompt: Any, rng: random.Random) -> str:
    """Climbs on from the second step only, if somebody brought it there."""
    done = sum(message.text == "up" for message in prompt.messages)
    return f"climb {done + 1}" if done >= 2 else f"climb {rng.randrange(5, 9)}"


def learner(prompt: Any, rng: random.Random) -> str:
    """Errs unless it was told to look at its error."""
    done = sum(message.text == "up" for message in prompt.messages)
    told = any("Read the error" in message.text for message in prompt.messages)
    return f"climb {done + 1}" if told or (done == 0 and prompt.turn == 0) else "climb 9"


def real(
    world: type[ToolEnv], slots: dict[str, Any], speak: Any, step: int = 1, n: int = 4
) -> tuple[list[Group], list[Group]]:
    sampler = curriculum(W, 0, n, rescue_share=9.0, **slots)
    how = Rollout(RENDERER, FullHistory, limits=Limits(max_turns=5))
    rounds = 0

    async def play(requests: Sequence[Request]) -> list[Group]:
        nonlocal rounds
        rounds += 1
        return await rollout(
            requests,
            lambda request: open_worker(world, "inline"),
            FunctionPolicy(speak),
            how,
            rounds,
            lambda t: Reward(float(t.facts["score"]), 0.0),
        )

    accepted, rejected = asyncio.run(settle(sampler, sampler.plan(step, 1), play))
    sampler.update(accepted, rejected)
    return accepted, rejected


def test_fission_starts_a_group_of_its_own_at_the_error() -> None:
    use = {"use": "fission", "n": 3, "members": 2}
    accepted, rejected = real(Stairs, {"rescue": use, "gate": "varied"}, learner)
    assert not accepted  # all failed, then all recovered: no group has a gradient
    assert [len(g.trajectories) for g in rejected] == [4, 3, 3]
    accepted, _ = real(Stairs, {"rescue": use}, learner)
    original, *recoveries = accepted
    assert not original.request.reason
    assert [r.total for r in original.rewards] == [0.0] * 4
    assert len(recoveries) == 2
    for place, group in enumerate(recoveries):
        assert group.request.reason == "recovery"
        assert group.request.options["episode"] == place
        assert not group.failures  # the replay met the same world
        assert [r.total for r in group.rewards] == [1.0] * 3
        for trajectory in group.trajectories:
            replayed = [t.index for t in trajectory.turns if t.purpose == "replay"]
            assert replayed == [0, 1]  # one step up, then the first error
            for segment in trajectory.segments:
                assert not set(segment.turn_ids) & set(replayed)


def test_fission_does_not_split_what_came_of_a_split() -> None:
    use = {"use": "fission", "n": 2, "members": 4}
    accepted, _ = real(Stairs, {"rescue": use}, lambda prompt, rng: "climb 9")
    assert len([g for g in accepted if g.request.reason]) == 4


def spill(trajectory: Any, turn: Any) -> str:
    return f"the answer was {trajectory.task.answer}"


def test_a_diagnosis_that_gives_the_answer_away_is_replaced() -> None:
    use = {"use": "fission", "n": 2, "members": 1, "diagnose": f"{__file__}:spill"}
    sampler = curriculum(W, 0, 4, rescue=use, rescue_share=1.0)
    sampler.plan(1, 4)
    decision = sampler.judge(failed())
    assert isinstance(decision, Retry)
    assert "secret" not in decision.requests[0].guide(0).hint
    assert decision.verdict is Verdict.ACCEPT  # no gate: the judged group is trained as ever
    harmless = sampler.judge(replace(failed(answer=None), request=Request("w", 2, 4)))
    assert isinstance(harmless, Retry)
    assert harmless.requests[0].guide(0).hint == "the answer was None"


def test_dyna_refines_in_odd_steps_with_the_true_future_in_view() -> None:
    accepted, _ = real(Stairs, {"rescue": {"use": "dyna", "depth": 2, "at": 1}}, learner, step=1)
    _, refined = accepted
    assert refined.request.reason == "refine"
    assert len(refined.trajectories) == 2
    for trajectory in refined.trajectories:
        assert trajectory.turns[0].purpose == "replay"
        (segment,) = trajectory.segments
        shown = RENDERER.tokenizer.decode(segment.token_ids[: segment.turn_ids.index(1)])
        assert "If you went on like this" in shown
        assert shown.count("you stumble over") == 2  # two steps deep, as they really went
    credits = ADVANTAGES["dyna_grpo"](accepted)
    assert {float(part.max()) for credit in credits[1] for part in credit} <= {0.0, 1.0}
    accepted, _ = real(Stairs, {"rescue": "dyna"}, learner, step=2)
    assert len(accepted) == 1


def test_ghpo_by_turns_replaces_the_whole_group() -> None:
    slots = {"rescue": {"use": "ghpo", "leads": [1, 2]}, "gate": "varied"}

    def sometimes(prompt: Any, rng: random.Random) -> str:
        done = sum(message.text == "up" for message in prompt.messages)
        return "climb 3" if done == 2 and rng.random() < 0.2 else "climb 9"

    accepted, rejected = real(Stairs, slots, sometimes, n=6)
    assert [[len(g.trajectories), g.request.guide(0).lead] for g in [*accepted, *rejected]] == [
        *([6, 2], [6, 0], [6, 1])
    ]
    assert {r.total for r in accepted[0].rewards} == {0.0, 1.0}
