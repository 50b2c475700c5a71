"""The two run files as a whole, and which of their options would have no effect.

An option given without effect is refused; `dump` leaves such options out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from foldgym.config.chat import AuxSection
from foldgym.config.engines import SAMPLES_ELSEWHERE, EngineSection
from foldgym.config.models import (
    AlgorithmSection,
    Count,
    EnvSection,
    MemorySection,
    ModelSection,
    Name,
    Optimiser,
    OptimSection,
    PolicySection,
    ReplaySection,
    RewardSection,
    RolloutSection,
    SamplerSection,
    ScaffoldSection,
    Section,
    SftSection,
    StoreSection,
    TokenizerSection,
    TrainSection,
    Use,
    ValueSection,
    refuse,
)
from foldgym.config.scaling import LogSection, LoraSection

NEVER_FOLDS = frozenset(
    {"full", "window", "omit", "errors", "mem1", "notes", "edit", "hiagent", "reseek"}
)
WRAPPERS = frozenset(
    {"delethink", "drop_thinking", "reminder", "cheatsheet", "cheatsheet_rs"}
    | {"keys", "vectors", "recursive"}
)
STORED = WRAPPERS - {"delethink", "drop_thinking", "reminder"}
DIVIDED = ("dr-grpo", "seq-mean-token-sum-norm")
GROUP_ADVANTAGES = frozenset(
    {"grpo", "dr_grpo", "rloo", "dcpo", "turn_loo", "toolpo", "hicra", "odsw", "clpo"}
)

Inert = Iterator[tuple[str, str]]  # dotted key, why it has no effect


class Run(Section):
    """What both run files share."""

    seed: Count = 0
    output: Name
    envs: Annotated[tuple[EnvSection, ...], Field(min_length=1)]
    log: LogSection = LogSection()

    def inert(self) -> Inert:
        """Options that have no effect with the chosen parts, each with its reason."""
        if len(self.envs) == 1:
            yield "envs.0.weight", "there is only one environment"

    @model_validator(mode="after")
    def _refuse_no_effect(self) -> Self:
        for key, reason in self.inert():
            if given(self, key):
                raise refuse(f"{key}: has no effect: {reason}; remove it")
        return self


class TrainRun(Run):
    """`foldgym train`: a policy, worlds, and how the one learns from the others."""

    policy: PolicySection
    engine: EngineSection = EngineSection()
    memory: MemorySection = MemorySection()
    store: StoreSection = StoreSection()
    scaffold: ScaffoldSection = ScaffoldSection()
    aux: AuxSection | None = None  # who answers by = "aux"; never trained
    rollout: RolloutSection = RolloutSection()
    reward: RewardSection = RewardSection()
    sampler: SamplerSection = SamplerSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    lora: LoraSection = LoraSection()
    replay: ReplaySection = ReplaySection()
    value: ValueSection = ValueSection()
    optim: OptimSection = OptimSection()
    train: TrainSection = TrainSection()

    def inert(self) -> Inert:
        """Options that have no effect with the chosen parts, each with its reason."""
        yield from super().inert()
        yield from _memory_inert(self.memory)
        yield from _store_inert(self.store, self.memory, self.scaffold)
        yield from _optimiser_inert("optim", self.optim, self.policy)
        yield from _lora_inert(self.lora)
        if self.engine.use in SAMPLES_ELSEWHERE:
            yield "policy.batching", f"engine.use = {self.engine.use!r} samples in its own process"
        if self.aux is not None:
            yield "aux.renderer", "the auxiliary policy reads what the policy's renderer writes"
            yield from _aux_inert(self.aux)
            own = any(":" in section.use for section in (self.memory, self.scaffold))
            if not own and not asks_aux(self.memory) and not asks_aux(self.scaffold):
                yield "aux", 'no option of [memory] or [scaffold] is "aux"'
        kl, train = self.algorithm.kl, self.train
        if kl.coef == 0:
            if kl.use != "none":
                yield "algorithm.kl.use", "algorithm.kl.coef is 0"
        elif kl.use == "none":
            yield "algorithm.kl.coef", 'algorithm.kl.use is "none"'
        if self.algorithm.aggregation not in DIVIDED:
            used = " or ".join(DIVIDED)
            yield "algorithm.norm", f"only algorithm.aggregation = {used} divides by it"
        yield from _unused("algorithm.mismatch", self.algorithm.mismatch, "none")
        yield from _unused("algorithm.tokens", self.algorithm.tokens, "all")
        yield from _unused("replay", self.replay, "none")
        if self.value.use == "none":
            for key in ("lr", "epochs", "warmup"):
                yield f"value.{key}", 'value.use is "none"'
        if train.mode == "sync":
            yield "train.staleness", 'train.mode is "sync"'
        if train.ahead == 0:
            why = 'train.mode is "sync"' if train.mode == "sync" else "train.staleness is 0"
            yield "train.order", why
            yield "train.uncorrected", why
        if train.checkpoint_every == 0:
            yield "train.keep", "train.checkpoint_every is 0"
        elif train.checkpoint_every > train.steps:
            reason = f"it is larger than train.steps = {train.steps}"
            yield "train.checkpoint_every", f"{reason} (the last step is always saved)"
        if train.eval_every == 0:
            yield "train.eval_episodes", "train.eval_every is 0"
        elif train.eval_every > train.steps:
            yield "train.eval_every", f"it is larger than train.steps = {train.steps}"
        gates = {gate_name(term.gate) for term in self.reward.terms}
        for index, term in enumerate(self.reward.terms):
            if term.weight == 0 and term.name not in gates:
                yield f"reward.terms.{index}.weight", "it is 0 and no later term is gated by it"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_room(self.memory)
        if self.store.frozen and not self.store.path:
            raise refuse("store.frozen: an empty store stays empty; give store.path too")
        for name, section in (("memory", self.memory), ("scaffold", self.scaffold)):
            if self.aux is None and asks_aux(section):
                raise refuse(
                    f'{name}: an option is "aux", but there is no auxiliary policy; add [aux] with '
                    "the path of one"
                )
        if self.rollout.temperature == 0:
            raise refuse(
                "rollout.temperature: 0 plays every member of a group alike, so nothing can be "
                "learned; it must be above 0"
            )
        _check_dtype(self.policy)
        if self.train.ahead and self.engine.kwargs.get("sleep"):
            raise refuse(
                "engine.sleep: has no effect: above train.staleness = 0 rollouts go on while the "
                "policy learns; remove it"
            )
        if self.train.mode == "async" and self.engine.use == "scripted":
            raise refuse(
                'train.mode: "async" samples while the policy learns, and engine.use = "scripted" '
                'reads the weights that are being changed; use "sync"'
            )
        advantage = self.algorithm.advantage
        alone = advantage.kwargs.get("singleton") != "raw"
        if self.train.group_size == 1 and advantage.use in GROUP_ADVANTAGES and alone:
            raise refuse(
                f"train.group_size: 1 has no effect with algorithm.advantage.use = "
                f"{advantage.use!r}: a group of one has no one to compare with; "
                "it must be at least 2"
            )
        kl = self.algorithm.kl
        if self.algorithm.zero == "skip" and kl.use in ("k2", "k3") and kl.coef > 0:
            raise refuse(
                f'algorithm.zero: "skip" leaves out rows that algorithm.kl.use = {kl.use!r} must '
                'see; use "keep", or "exclude" to leave their tasks out altogether'
            )
        _check_terms(self.reward)
        return self


class SftRun(Run):
    """`foldgym sft`: behaviour cloning into a new `[model]`, or on from a `[policy]`."""

    model: ModelSection | None = None
    policy: PolicySection | None = None
    lora: LoraSection = LoraSection()
    tokenizer: TokenizerSection = TokenizerSection()
    renderer: Name = "auto"
    memory: MemorySection | None = None  # none: everything, up to the model's own positions
    sft: SftSection = SftSection()

    def inert(self) -> Inert:
        """Options that have no effect with the chosen parts, each with its reason."""
        yield from super().inert()
        yield from _optimiser_inert("sft", self.sft, self.policy)
        yield from _trainer_inert(self.sft)
        yield from _lora_inert(self.lora)
        if self.memory is not None:
            yield from _memory_inert(self.memory)
        if not self.sft.trajectories:
            yield "sft.min_reward", "sft.trajectories names no recorded file"
        elif self.policy is not None:
            yield "sft.expert", "recorded trajectories are cloned"
        if self.sft.trajectories:
            yield "memory", "recorded trajectories are cloned, in the views they were sampled on"
        if self.policy is not None:
            yield "tokenizer", "the policy to continue brings its own"
            yield "renderer", "it is policy.renderer when a policy is continued"
            yield "policy.batching", "cloning samples nothing"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.model is not None and self.policy is not None:
            raise refuse(
                "model: has no effect: [policy] continues from an existing model; remove one"
            )
        _check_dtype(self.policy)
        if self.lora.rank and self.policy is None:
            raise refuse("lora.rank: adapters need a trained base; give a [policy] to continue")
        if self.sft.trainer == "trl":
            if self.lora.rank:
                raise refuse('lora.rank: adapters are for sft.trainer = "foldgym"')
            if self.sft.batch % self.sft.accumulate:
                raise refuse(
                    f"sft.accumulate: {self.sft.accumulate} does not divide sft.batch = "
                    f"{self.sft.batch}"
                )
        shape = self.model
        if shape is not None and shape.heads % (shape.kv_heads or shape.heads):
            raise refuse(
                f"model.kv_heads: {shape.kv_heads} does not divide model.heads = {shape.heads}"
            )
        if self.memory is not None:
            _check_room(self.memory)
        return self

    @property
    def new_model(self) -> ModelSection:
        """The shape of the model to make when no policy is continued."""
        return self.model or ModelSection()


def _aux_inert(aux: AuxSection) -> Inert:
    if aux.model:
        for key in ("device", "dtype", "threads", "batching"):
            yield f"aux.{key}", f"{aux.path} runs elsewhere"
        yield "aux.chat.max_context", "[memory] says how much is shown"
        return
    yield "aux.chat", "aux.path is no chat:MODEL"


def asks_aux(section: Use) -> bool:
    """Whether an option of a plug-in asks for the auxiliary policy."""

    def holds(value: Any) -> bool:
        inside = value.values() if isinstance(value, dict) else value
        if isinstance(inside, str):
            return inside == "aux"
        return isinstance(value, (dict, list, tuple)) and any(map(holds, inside))

    return holds(section.kwargs)


def gate_name(gate: str) -> str:
    """The term that a gate such as "found" or "found>0.5" looks at."""
    return gate.partition(">")[0].strip()


def given(run: BaseModel, key: str) -> bool:
    """Whether the dotted key was written down, not merely a default."""
    here: Any = run
    for part in key.split("."):
        if isinstance(here, tuple):
            here = here[int(part)]
            continue
        if not isinstance(here, BaseModel) or part not in here.model_fields_set:
            return False
        here = getattr(here, part)
    return True


def _memory_inert(memory: MemorySection) -> Inert:
    use, kwargs = _layers(memory)[-1]
    if use in NEVER_FOLDS:
        yield "memory.soft", f"the memory {use!r} never folds"
    elif use == "summarise" and kwargs.get("trigger") == "turns":
        yield "memory.soft", 'memory.trigger = "turns" counts turns, not tokens'
    elif use == "deepagent" and kwargs.get("trigger") == "marker":
        yield "memory.soft", 'memory.trigger = "marker" folds when the policy says so'


def _store_inert(store: StoreSection, memory: MemorySection, scaffold: ScaffoldSection) -> Inert:
    names = [scaffold.use, *(use for use, _ in _layers(memory))]
    own = ":" in names[0] + names[-1]  # of a user's own nothing is known
    if not own and not (STORED | {"egur"}) & {*names}:
        known = ", ".join(sorted(STORED))
        for key in StoreSection.model_fields:
            yield (
                f"store.{key}",
                (
                    f"memory.use = {memory.use!r} keeps nothing; these do: {known}, "
                    'and scaffold.use = "egur"'
                ),
            )
    elif store.frozen:
        for key in ("writers", "retire", "max_items", "max_chars"):
            yield f"store.{key}", "store.frozen is true, so nothing is written"


def _layers(memory: MemorySection) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and options from the outermost memory to the innermost, as far as they are known."""
    use, kwargs = memory.use, memory.kwargs
    layers: list[tuple[str, Mapping[str, Any]]] = [(use, kwargs)]
    while use in WRAPPERS and isinstance(kwargs.get("inner", "full"), str):
        use, kwargs = kwargs.get("inner", "full"), kwargs.get("options")
        kwargs = kwargs if isinstance(kwargs, Mapping) else {}
        layers.append((use, kwargs))
    return layers


def _unused(where: str, section: Use, off: str) -> Inert:
    if section.use == off:
        for key in section.kwargs:
            yield f"{where}.{key}", f'{where}.use is "{off}"'


def _optimiser_inert(where: str, optim: Optimiser, policy: PolicySection | None) -> Inert:
    if optim.schedule == "constant":
        yield f"{where}.floor", f'{where}.schedule is "constant"'
    if policy is None or policy.device.startswith("cpu"):
        yield f"{where}.offload", "the policy is in the CPU's memory already"


def _trainer_inert(sft: SftSection) -> Inert:
    if sft.trainer == "foldgym":
        yield "sft.accumulate", "foldgym parts a batch by sft.microbatch_tokens"
        return
    yield "sft.microbatch_tokens", "TRL parts a batch into sft.accumulate"
    yield "sft.context_weight", "TRL counts an id in full or not at all, so only sampled ones are"
    for key in ("layout", "logprob_chunk", "offload"):
        yield f"sft.{key}", 'sft.trainer is "trl", which does not know it'


def _lora_inert(lora: LoraSection) -> Inert:
    if not lora.rank:
        for key in ("alpha", "targets", "rslora"):
            yield f"lora.{key}", "lora.rank is 0, so all weights are trained"


def _check_dtype(policy: PolicySection | None) -> None:
    if policy is not None and policy.dtype == "float16":
        raise refuse(
            "policy.dtype: float16 is for policies that only sample: without loss scaling small "
            'gradients vanish in it; train in "bfloat16" or "float32"'
        )


def _check_room(memory: MemorySection) -> None:
    if memory.reserve >= memory.max_context:
        raise refuse(
            f"memory.reserve: {memory.reserve} leaves nothing of memory.max_context = "
            f"{memory.max_context}; it must be smaller"
        )


def _check_terms(reward: RewardSection) -> None:
    earlier: list[str] = []
    for index, term in enumerate(reward.terms):
        where = f"reward.terms.{index}"
        if term.name in earlier:
            raise refuse(f"{where}.name: {term.name!r} is taken by an earlier term")
        if term.gate and gate_name(term.gate) not in earlier:
            names = ", ".join(earlier) or "none"
            raise refuse(
                f"{where}.gate: {term.gate!r} names no earlier term; earlier terms: {names}"
            )
        earlier.append(term.name)
