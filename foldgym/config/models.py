"""What may stand in a run file: the sections of `foldgym train` and `foldgym sft`.

Sections are strict and frozen; a section with `use` names a plug-in and hands it every other key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

WHOLE = "foldgym"  # error type of a message that already names its key

Count: TypeAlias = Annotated[int, Field(ge=0)]
Positive: TypeAlias = Annotated[int, Field(ge=1)]
Rate: TypeAlias = Annotated[float, Field(gt=0)]
NonNegative: TypeAlias = Annotated[float, Field(ge=0)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Beta: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Name: TypeAlias = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of every section: unknown keys and loose types are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Use(Section):
    """A plug-in: `use` is a short name or "module:attr"; `kwargs` are all the other keys.

    A text alone is its `use`.
    """

    model_config = ConfigDict(extra="allow")

    use: Name

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keys for the plug-in itself, as written in the run file."""
        return dict(self.model_extra or {})


def refuse(message: str) -> PydanticCustomError:
    """An error whose one line is already complete."""
    return PydanticCustomError(WHOLE, "{message}", {"message": message})


class PolicySection(Section):
    """Which weights act and how. `renderer` "auto" takes what the checkpoint was trained with."""

    path: Name
    renderer: Name = "auto"
    device: Name = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: Count = 0  # 0 leaves torch's own choice
    batching: Literal["rounds", "dynamic"] = "rounds"  # rounds: results do not depend on timing


class TransformSection(Use):
    """One transform of a world, see `foldgym.envs.transforms`."""


class EnvSection(Section):
    """One world of the mix; `isolation` and `budget` (seconds per call) default to its spec's.

    `transforms` make it longer or harder, the first one nearest to the world.
    """

    name: Name
    weight: Rate = 1.0
    kwargs: dict[str, Any] = Field(default_factory=dict[str, Any])
    transforms: tuple[TransformSection, ...] = ()
    isolation: Literal["thread", "process", "inline"] | None = None
    budget: Rate | None = None

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The transforms as `registry.maker` takes them."""
        return [{"use": each.use, **each.kwargs} for each in self.transforms]


class MemorySection(Use):
    """The memory policy and the context it must live in, in tokens."""

    use: Name = "full"
    max_context: Positive = 2048
    reserve: Count = 64
    soft: Fraction = 0.8
    overflow: Literal["stop", "squeeze"] = "stop"


class StoreSection(Section):
    """What a memory keeps from episode to episode, from `path` on ("": from nothing).

    `writers` are those of a group whose proposals are carried out; beyond `max_items` items or
    `max_chars` characters `retire` says which go. A `frozen` store is only read.
    """

    path: str = ""
    writers: Literal["all", "best", "majority"] = "all"
    retire: Literal["oldest", "unused"] = "oldest"
    max_items: Positive = 256
    max_chars: Positive = 16000
    frozen: bool = False


class ScaffoldSection(Use):
    """Who speaks when in an episode.

    `roles` says how much the tokens of a role weigh in the loss against those of the others (1 if
    it is not named); 0 leaves a role as it is.
    """

    use: Name = "react"
    roles: dict[str, NonNegative] = Field(default_factory=dict[str, NonNegative])


class RolloutSection(Section):
    """Sampling and limits of an episode. `max_turns` 0 takes the environment's own limit."""

    temperature: NonNegative = 1.0
    max_tokens: Positive = 64
    max_turns: Count = 0
    max_seconds: Rate = 300.0
    max_parse_errors: Positive = 3
    retries: Count = 2
    concurrency: Positive = 64


class TermSection(Use):
    """One reward term; `use` defaults to `name`, `gate` names an earlier term."""

    name: Name
    use: str = ""
    weight: float = 1.0
    gate: str = ""


class RewardSection(Section):
    """The rubric; without terms the environment's own score is the reward."""

    terms: tuple[TermSection, ...] = ()


class SamplerSection(Use):
    """What is played, and which groups are kept."""

    use: Name = "uniform"


class AdvantageSection(Use):
    """How a group's rewards become credit."""

    use: Name = "grpo"


class LossSection(Use):
    """The policy loss."""

    use: Name = "ppo_clip"


class KlSection(Section):
    """A penalty that keeps the policy near the one it started from."""

    use: Literal["none", "k1", "k2", "k3", "k3+"] = "none"
    coef: NonNegative = 0.0


class MismatchSection(Use):
    """Weights for what sampler and trainer disagree about; needs `old = "recompute"`."""

    use: Name = "none"


class TokensSection(Use):
    """Which tokens enter the policy loss."""

    use: Name = "all"


class ReplaySection(Use):
    """Old trajectories in new updates."""

    use: Name = "none"


class ValueSection(Section):
    """The value head of an advantage, or of PCL; for `warmup` updates only the head learns."""

    use: Literal["none", "linear"] = "none"
    lr: Rate = 1e-2
    epochs: Positive = 8
    warmup: Count = 5


class AlgorithmSection(Section):
    """Advantage, loss, KL penalty, entropy bonus and how token losses are averaged.

    `old` is the policy that ratios are taken against: the sampler's log-probs as they came, or
    those of the same weights recomputed before the first optimiser step.
    """

    advantage: AdvantageSection = AdvantageSection()
    loss: LossSection = LossSection()
    kl: KlSection = KlSection()
    entropy: NonNegative = 0.0
    old: Literal["sampler", "recompute"] = "sampler"
    mismatch: MismatchSection = MismatchSection()
    tokens: TokensSection = TokensSection()
    without: tuple[Name, ...] = ()  # rules: episodes that count in statistics but train nothing
    aggregation: Name = "token-mean"
    norm: Rate | None = None  # the constant that some aggregations divide by
    zero: Literal["auto", "keep", "skip", "exclude"] = "auto"  # trajectories without credit


class Optimiser(Section):
    """AdamW and its schedule: `warmup` steps up, then constant, or down to `floor * lr`."""

    lr: Rate = 5e-4
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    weight_decay: NonNegative = 0.0
    warmup: Count = 5
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    floor: Fraction = 0.05
    clip: Rate = 1.0  # largest gradient norm
    layout: Literal["padded", "packed", "shared", "auto"] = "padded"  # of rows in a forward pass
    logprob_chunk: Count = 2048  # trained tokens whose logits are held at once; 0: all
    checkpointing: bool = False  # layers run again in the backward pass and keep no activations
    offload: bool = False  # the optimiser's state and fp32 weights stay in the CPU's memory


class OptimSection(Optimiser):
    """The optimiser of `foldgym train`: `epochs * minibatches` steps on every batch."""

    microbatch_tokens: Positive = 16384
    epochs: Positive = 1
    minibatches: Positive = 1


class TrainSection(Section):
    """How long to train, on how much, and what is written down. 0 means never (or keep all).

    With `mode` "async" rollouts go on while the policy learns, at most `staleness` updates ahead;
    the learner takes groups as they were `asked` for, or as they `finished`. `uncorrected` lets a
    loss do so that does not weigh how old its tokens are.
    """

    mode: Literal["sync", "async"] = "sync"
    staleness: Count = 1
    order: Literal["asked", "finished"] = "asked"
    uncorrected: bool = False
    steps: Positive = 100
    groups: Positive = 16
    group_size: Positive = 8
    checkpoint_every: Count = 20
    keep: Count = 2
    eval_every: Count = 0
    eval_episodes: Positive = 64
    trajectories: bool = True

    @property
    def ahead(self) -> int:
        """How many updates old a token may be when it is trained."""
        return self.staleness if self.mode == "async" else 0


class ModelSection(Section):
    """A new model's shape. `kv_heads` 0 means as many as `heads`."""

    family: Name = "qwen3"
    hidden: Positive = 128
    layers: Positive = 2
    heads: Positive = 4
    kv_heads: Count = 0
    head_dim: Positive = 32
    mlp: Positive = 384
    rope_theta: Rate = 100.0
    window: Count = 0
    max_positions: Positive = 2048
    tie: bool = True


class TokenizerSection(Section):
    """A new tokenizer, trained on `episodes` demonstrations."""

    vocab_size: Positive = 420
    episodes: Positive = 2000


class SftSection(Optimiser):
    """Behaviour cloning. `context_weight` is the loss weight of tokens the agent did not write.

    `trainer` "trl" hands the same rows to TRL's SFTTrainer, a batch in `accumulate` parts.
    """

    steps: Positive = 450
    batch: Positive = 32
    trainer: Literal["foldgym", "trl"] = "foldgym"
    accumulate: Positive = 1
    microbatch_tokens: Positive = 2048  # rows of like length together: less padding, same sum
    expert: Name = "optimal"
    trajectories: str = ""  # a recorded file to clone instead of the expert
    min_reward: float = 0.0  # of a recorded trajectory
    context_weight: NonNegative = 0.2
    lr: Rate = 3e-3
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    weight_decay: NonNegative = 0.01
    warmup: Count = 30
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
