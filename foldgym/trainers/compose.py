"""Which parts of an algorithm go together: a run file that cannot mean what it says is refused.

`RULES` is the whole list. Each rule says when it is broken and, in one line, why and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from foldgym.config import TermSection, TrainRun, plug, resolve
from foldgym.config.runs import gate_name
from foldgym.errors import ConfigError
from foldgym.rewards import LENGTHS
from foldgym.rewards.rubric import needs as parameters
from foldgym.trainers.advantages import ADVANTAGES, ALONG_TRAJECTORY
from foldgym.trainers.advantages.filters import FILTERS
from foldgym.trainers.advantages.inputs import check_provided
from foldgym.trainers.batch import Zero
from foldgym.trainers.labels import labels
from foldgym.trainers.losses import LOSSES, Needs, needs_of
from foldgym.trainers.losses.aggregation import CONSTANT
from foldgym.trainers.mismatch import MISMATCHES
from foldgym.trainers.replay import REPLAYS, Replay
from foldgym.trainers.samplers.curriculum import chooses_by_value
from foldgym.trainers.selection import SELECTIONS

PROVIDED = ("entropy", "reference", "step", "value")  # what a run can give an advantage


@dataclass(frozen=True, slots=True)
class Parts:
    """A run file with the plug-ins that its algorithm names."""

    run: TrainRun
    advantage: Callable[..., Any]
    loss: Callable[..., Any]
    wants: Needs

    @property
    def asks(self) -> tuple[str, ...]:
        """What the advantage needs of the run."""
        return parameters(self.advantage)

    @property
    def kl_in_loss(self) -> bool:
        """Whether a KL term is part of the loss."""
        kl = self.run.algorithm.kl
        return kl.coef > 0 and kl.use not in ("none", "k1")

    @property
    def behind(self) -> bool:
        """Whether the loss knows how far the policy has moved since a token was sampled."""
        return bool({"behaviour", "staleness"} & set(self.wants.columns))

    @property
    def stale(self) -> bool:
        """Whether tokens of earlier versions are trained, not counting replay."""
        return self.run.train.ahead > 0

    @property
    def corrected(self) -> bool:
        """Whether something weighs what the sampler and the trainer disagree about."""
        return self.behind or self.run.algorithm.mismatch.use != "none"

    @property
    def needs_reference(self) -> bool:
        """Whether the policy that the run started from must stay at hand."""
        kl = self.run.algorithm.kl
        wanted = "reference" in self.wants.columns or "reference" in self.asks
        return wanted or (kl.use != "none" and kl.coef > 0)

    @property
    def chooses_by_value(self) -> bool:
        """Whether the sampler reads a value head to choose tasks."""
        sampler = self.run.sampler
        return sampler.use == "curriculum" and chooses_by_value(sampler.kwargs.get("selector"))

    @property
    def zero(self) -> Zero:
        """What becomes of rows without credit; "auto" skips where that changes nothing."""
        chosen = self.run.algorithm.zero
        if chosen != "auto":
            return chosen
        known = self.run.algorithm.loss.use in LOSSES  # of a user's own nothing is known
        return "skip" if known and not _skip_changes(self) else "keep"


@dataclass(frozen=True, slots=True)
class Rule:
    """`why` is a line with {names} of `_words`."""

    broken: Callable[[Parts], bool]
    why: str


def parts_of(run: TrainRun) -> Parts:
    """Resolves the plug-ins of `[algorithm]`. Raises `UnknownName` or `ConfigError`."""
    algorithm = run.algorithm
    table = {**ADVANTAGES, "none": labels}
    advantage = plug("advantage", algorithm.advantage, table, "algorithm.advantage")
    loss = plug("loss", algorithm.loss, LOSSES, "algorithm.loss")
    return Parts(run, advantage, loss, needs_of(loss))


def check(run: TrainRun) -> None:
    """Raises `ConfigError` with the reason if parts of this run do not go together."""
    parts = parts_of(run)
    for rule in run.algorithm.without:
        resolve("filter", rule, FILTERS)
    check_provided(parts.advantage, dict.fromkeys(PROVIDED, lambda groups: None))
    for rule in RULES:
        if rule.broken(parts):
            raise ConfigError(rule.why.format(**_words(parts)))


def learner_options(parts: Parts) -> dict[str, Any]:
    """The keywords of `TorchLearner` that `[algorithm]` decides. Raises `ConfigError`."""
    algorithm = parts.run.algorithm
    options: dict[str, Any] = {
        "entropy": algorithm.entropy,
        "recompute": algorithm.old == "recompute",
    }
    if algorithm.mismatch.use != "none":
        options["mismatch"] = plug(
            "mismatch weight", algorithm.mismatch, MISMATCHES, "algorithm.mismatch"
        )
    if algorithm.tokens.use != "all":
        options["select"] = plug(
            "token selection", algorithm.tokens, SELECTIONS, "algorithm.tokens"
        )
    return options


def replay_of(run: TrainRun) -> Replay | None:
    """The replay buffer of a run, empty. Raises `ConfigError`."""
    if run.replay.use == "none":
        return None
    make = plug("replay", run.replay, REPLAYS, "replay")
    seeded = "seed" in run.replay.kwargs or run.replay.use != "remix"
    return make() if seeded else partial(make, seed=run.seed)()


# ---------------------------------------------------------------- the rules


def _skip_changes(parts: Parts) -> bool:
    """Whether leaving out rows without credit would change the loss."""
    algorithm, wants = parts.run.algorithm, parts.wants
    own_kl = algorithm.loss.use == "remix"
    looks = wants.survey is not None or wants.credit == "label"
    bonus = algorithm.entropy > 0 or parts.kl_in_loss
    selects = algorithm.tokens.use != "all" or algorithm.mismatch.kwargs.get("normalise", False)
    return own_kl or looks or bonus or bool(selects)


def _half_dr_grpo(parts: Parts) -> bool:
    use, aggregation = parts.run.algorithm.advantage.use, parts.run.algorithm.aggregation
    return use == "dr_grpo" and aggregation not in CONSTANT


def _mixed_credit(parts: Parts) -> bool:
    use = parts.run.algorithm.advantage.use
    varies = use in ADVANTAGES and use not in ALONG_TRAJECTORY
    return parts.wants.credit == "trajectory" and varies


def _until_differs(parts: Parts) -> bool:
    run = parts.run
    if run.algorithm.loss.use != "remix" or run.replay.use != "remix":
        return False
    return run.algorithm.loss.kwargs.get("reincarnate", 50) != run.replay.kwargs.get("until", 50)


def _gated_by_length(run: TrainRun) -> TermSection | None:
    """The first term that opens or closes with a length."""
    kinds = {term.name: term.use or term.name for term in run.reward.terms}
    gated = (term for term in run.reward.terms if kinds.get(gate_name(term.gate)) in LENGTHS)
    return next(gated, None)


def _gated_overlong(run: TrainRun) -> TermSection | None:
    """The first gated overlong penalty. Other lengths may be paid to correct episodes alone."""
    terms = run.reward.terms
    return next((t for t in terms if t.gate and (t.use or t.name) == "overlong"), None)


def _words(parts: Parts) -> dict[str, str]:
    run = parts.run
    algorithm = run.algorithm
    gated = _gated_by_length(run) or _gated_overlong(run)
    return {
        "term": repr(gated.name) if gated else "",
        "gate": repr(gated.gate) if gated else "",
        "advantage": repr(algorithm.advantage.use),
        "loss": repr(algorithm.loss.use),
        "kl": repr(algorithm.kl.use),
        "aggregation": repr(algorithm.aggregation),
        "aggregations": " or ".join(map(repr, parts.wants.aggregations)),
        "mismatch": repr(algorithm.mismatch.use),
        "tokens": repr(algorithm.tokens.use),
        "replay": repr(run.replay.use),
        "staleness": str(run.train.ahead),
    }


RULES: tuple[Rule, ...] = (
    Rule(
        lambda p: p.wants.credit == "label" and p.run.algorithm.advantage.use != "none",
        "algorithm.advantage: has no effect: {loss} learns from success itself and replaces "
        '{advantage}; set algorithm.advantage.use = "none"',
    ),
    Rule(
        lambda p: p.wants.credit != "label" and p.run.algorithm.advantage.use == "none",
        'algorithm.advantage: {loss} needs one; "none" is for losses that learn from success',
    ),
    Rule(
        lambda p: p.wants.credit == "label" and p.run.replay.use != "none",
        "replay.use: {replay} replays advantages, and {loss} has none; remove one",
    ),
    Rule(
        _mixed_credit,
        "algorithm.loss: {loss} takes one advantage per trajectory, but {advantage} gives one per "
        'turn or token; set algorithm.loss.level = "token"',
    ),
    Rule(
        lambda p: p.run.algorithm.aggregation not in p.wants.aggregations,
        "algorithm.aggregation: {aggregation} changes what {loss} optimises; it must be "
        "{aggregations}",
    ),
    Rule(
        _half_dr_grpo,
        "algorithm.aggregation: dr_grpo is an advantage without the standard deviation and an "
        'aggregation by a constant, and both parts are needed; set aggregation = "dr-grpo" and '
        'norm, or for the advantage alone use = "grpo" with norm_std = false',
    ),
    Rule(
        lambda p: (
            p.run.algorithm.advantage.use == "reinforce_pp_kl" and p.run.algorithm.kl.use != "none"
        ),
        "algorithm.kl.use: reinforce_pp_kl has the KL in its reward already; remove {kl}, or use "
        "reinforce_pp",
    ),
    Rule(
        lambda p: p.run.algorithm.loss.use == "remix" and p.run.algorithm.kl.use != "none",
        "algorithm.kl.use: remix has its own KL to base and previous policy; remove {kl}",
    ),
    Rule(
        lambda p: bool(p.wants.rebase and p.run.lora.rank),
        "lora.rank: {loss} moves its reference along with the policy, and with adapters the "
        "reference is their base, which stays; remove [lora], or use another loss",
    ),
    Rule(
        lambda p: p.kl_in_loss and p.run.algorithm.kl.use == "k3" and p.run.replay.use != "none",
        "algorithm.kl.use: k3 explodes on stale samples, and {replay} replays them; use k2",
    ),
    Rule(
        lambda p: p.kl_in_loss and p.run.algorithm.kl.use == "k3" and p.stale,
        "algorithm.kl.use: k3 explodes on stale samples, and train.staleness is {staleness}; "
        "use k2",
    ),
    Rule(
        lambda p: p.stale and not p.corrected and not p.run.train.uncorrected,
        "train.staleness: tokens may be {staleness} updates old, and nothing weighs that with the "
        'loss {loss} and no mismatch weight; set algorithm.old = "recompute" with '
        'algorithm.loss.use = "decoupled" or algorithm.mismatch.use = "tis", or '
        "train.staleness = 0; train.uncorrected = true does without",
    ),
    Rule(
        lambda p: p.stale and p.corrected and p.run.train.uncorrected,
        "train.uncorrected: has no effect: the loss {loss} with the mismatch weight {mismatch} "
        "corrects; remove it",
    ),
    Rule(
        lambda p: p.stale and p.chooses_by_value,
        'sampler.selector.predictor: "value" reads the policy while it is being changed; set '
        "train.staleness = 0, or choose another predictor",
    ),
    Rule(
        lambda p: p.run.algorithm.mismatch.use != "none" and p.behind,
        "algorithm.mismatch: {loss} already weighs what the sampler and the trainer disagree "
        "about; {mismatch} would count it twice; remove it",
    ),
    Rule(
        lambda p: p.run.algorithm.mismatch.use != "none" and p.run.algorithm.old == "sampler",
        "algorithm.mismatch: with ratios against the sampler (bypass) {mismatch} would count the "
        'difference twice; set algorithm.old = "recompute"',
    ),
    Rule(
        lambda p: "behaviour" in p.wants.columns and p.run.algorithm.old == "sampler",
        "algorithm.old: {loss} compares the sampler with the policy at the start of the update; "
        'set it to "recompute"',
    ),
    Rule(
        lambda p: "staleness" in p.wants.columns and p.run.algorithm.old == "recompute",
        "algorithm.old: {loss} guesses what this recomputes; remove it, or set "
        'algorithm.loss.proximal = "recompute"',
    ),
    Rule(
        lambda p: p.run.algorithm.tokens.use != "all" and p.wants.whole != "row",
        "algorithm.tokens: {tokens} drops single tokens, and the loss {loss} is of whole "
        "trajectories; remove one",
    ),
    Rule(
        lambda p: p.run.algorithm.zero == "skip" and _skip_changes(p),
        'algorithm.zero: "skip" is exact only where the loss is 0 without credit, which it is not '
        'with these parts (loss {loss}, KL {kl}, entropy bonus); use "keep"',
    ),
    Rule(
        lambda p: p.run.algorithm.zero == "exclude" and p.wants.credit == "label",
        'algorithm.zero: {loss} learns from failures too; use "keep"',
    ),
    Rule(
        lambda p: p.run.replay.use == "remix" and not p.behind,
        "replay.use: {replay} brings samples of earlier policies, which {loss} would treat as "
        'fresh; use the loss "mix_ppg", "remix" or "decoupled"',
    ),
    Rule(
        lambda p: p.run.algorithm.loss.use in ("mix_ppg", "remix") and p.run.replay.use != "remix",
        'algorithm.loss: without replay.use = "remix" every sample is fresh and {loss} is '
        "ppo_clip; add [replay], or use ppo_clip",
    ),
    Rule(
        _until_differs,
        "replay.until: must be algorithm.loss.reincarnate, the step at which ReMix goes on-policy",
    ),
    Rule(
        lambda p: p.run.replay.use == "spear" and (p.behind or p.run.algorithm.old == "recompute"),
        "replay.use: {replay} takes ratios against the policy that stored a trajectory, which "
        'recomputing would overwrite; use algorithm.old = "sampler" and another loss than the '
        "decoupled ones",
    ),
    Rule(
        lambda p: p.run.value.use != "none" and "value" not in p.asks and not p.chooses_by_value,
        "value.use: has no effect: the advantage {advantage} asks for no value head and the "
        'sampler reads none; remove it, or use "gae" or "egae", or pcl with predictor = "value"',
    ),
    Rule(
        lambda p: p.run.value.use == "none" and p.chooses_by_value,
        'sampler.selector.predictor: "value" reads a value head, and nothing provides one; set '
        'value.use = "linear"',
    ),
    Rule(
        lambda p: _gated_by_length(p.run) is not None,
        "reward.terms: the gate {gate} of {term} looks at a length; gates (G-RA) come before any "
        "length penalty, or brevity would decide what counts: gate by an outcome",
    ),
    Rule(
        lambda p: _gated_overlong(p.run) is not None,
        "reward.terms: {term} has the gate {gate}, but an overlong penalty is no level of G-RA: "
        "behind a closed gate an episode could run on for nothing; remove its gate",
    ),
    Rule(
        lambda p: p.run.value.use == "none" and "value" in p.asks,
        "algorithm.advantage: {advantage} needs a value head, and nothing provides one; set "
        'value.use = "linear"',
    ),
)
