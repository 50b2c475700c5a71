import pytest

from foldgym.config import TrainRun, parse
from foldgym.errors import ConfigError
from foldgym.trainers.compose import RULES, check, learner_options, parts_of, replay_of
from foldgym.trainers.replay import RecentPolicies, SelfImitation

REMIX = (
    "algorithm.loss.use=remix",
    "algorithm.old=recompute",
    "replay.use=remix",
)


def run(*overrides: str) -> TrainRun:
    text = """
    output = "runs/x"
    [policy]
    path = "p"
    [[envs]]
    name = "foldgym/GuessNumber-v0"
    """
    return parse(TrainRun, text, overrides)


BY_VALUE = (
    "sampler.use=curriculum",
    "sampler.selector={use = 'pcl', predictor = 'value'}",
)


def terms(*names: str) -> tuple[str, ...]:
    return tuple(f"reward.terms.{place}.name={name}" for place, name in enumerate(names))


def keys(*pairs: str) -> tuple[str, ...]:
    return tuple(f"algorithm.{pair}" for pair in pairs)


DECOUPLED = keys("loss.use=decoupled", "old=recompute")
BAD = [
    (keys("loss.use=pacs", "aggregation=seq-mean-token-mean"), "replaces 'grpo'.*use = \"none\""),
    (keys("advantage.use=none"), "'ppo_clip' needs one"),
    (
        (
            *keys("loss.use=pacs", "advantage.use=none", "aggregation=seq-mean-token-mean"),
            "replay.use=spear",
        ),
        "replays advantages, and 'pacs' has none",
    ),
    (
        keys("loss.use=gspo", "advantage.use=igpo", "aggregation=seq-mean-token-mean"),
        "'igpo' gives one per turn or token; set algorithm.loss.level",
    ),
    (
        keys("loss.use=gspo", "advantage.use=gigpo", "aggregation=seq-mean-token-mean"),
        "'gigpo' gives one per turn",
    ),
    (
        keys("loss.use=gspo", "advantage.use=toolpo", "aggregation=seq-mean-token-mean"),
        "'toolpo' gives one per turn",
    ),
    (
        keys("loss.use=pacs", "advantage.use=igpo", "aggregation=seq-mean-token-mean"),
        "replaces 'igpo'",
    ),
    (keys("loss.use=gspo"), "'token-mean' changes what 'gspo' optimises; it must be 'seq-mean"),
    (keys("advantage.use=dr_grpo"), "both parts are needed"),
    (
        keys("advantage.use=reinforce_pp_kl", "kl.use=k2", "kl.coef=0.1"),
        "KL in its reward already; remove 'k2'",
    ),
    ((*REMIX, *keys("kl.use=k2", "kl.coef=0.1")), "its own KL"),
    (
        (*keys("kl.use=k3", "kl.coef=0.1"), "replay.use=spear"),
        "k3 explodes on stale samples.*use k2",
    ),
    (keys("mismatch.use=tis"), 'bypass.*set algorithm.old = "recompute"'),
    (keys("mismatch.use=tis", "old=recompute", "loss.use=decoupled"), "count it twice"),
    (keys("loss.use=decoupled"), 'set it to "recompute"'),
    (
        keys("loss.use=decoupled", "loss.proximal=loglinear", "old=recompute"),
        "guesses what this recomputes",
    ),
    (
        keys(
            "tokens.use=d3s", "tokens.steps=9", "loss.use=gspo", "aggregation=seq-mean-token-mean"
        ),
        "drops single tokens",
    ),
    (keys("zero=skip", "entropy=0.01"), 'entropy bonus\\); use "keep"'),
    (keys("zero=skip", "loss.use=clip_cov"), "exact only where the loss is 0"),
    (
        keys(
            "zero=exclude", "loss.use=pacs", "advantage.use=none", "aggregation=seq-mean-token-mean"
        ),
        "learns from failures too",
    ),
    (("replay.use=remix",), "would treat as fresh"),
    ((*REMIX, "lora.rank=2"), "'remix' moves its reference along"),
    (keys("loss.use=mix_ppg", "old=recompute"), "every sample is fresh"),
    ((*REMIX, "replay.until=100"), "must be algorithm.loss.reincarnate"),
    ((*keys("old=recompute"), "replay.use=spear"), "which recomputing would overwrite"),
    (("value.use=linear",), "asks for no value head"),
    (BY_VALUE, 'nothing provides one; set value.use = "linear"'),
    (
        (*terms("env_score", "overlong", "step_rewards"), "reward.terms.2.gate=overlong>-0.5"),
        "the gate 'overlong>-0.5' of 'step_rewards' looks at a length.*before any length penalty",
    ),
    (
        (*terms("short", "env_score"), "reward.terms.0.use=budget", "reward.terms.1.gate=short"),
        "the gate 'short' of 'env_score' looks at a length",
    ),
    (
        (*terms("env_score", "overlong"), "reward.terms.1.gate=env_score>0"),
        "'overlong' has the gate 'env_score>0', but an overlong penalty is no level of G-RA",
    ),
    (keys("advantage.use=gae"), "nothing provides one; set value.use"),
    (("train.mode=async",), 'may be 1 updates old.*"decoupled".*train.uncorrected = true does'),
    (
        ("train.mode=async", "train.staleness=3", *keys("loss.use=cispo")),
        "may be 3 updates old, and nothing weighs that with the loss 'cispo'",
    ),
    (
        ("train.mode=async", "train.uncorrected=true", *DECOUPLED),
        "train.uncorrected: has no effect: the loss 'decoupled' .* corrects; remove it",
    ),
    (
        ("train.mode=async", *DECOUPLED, *keys("kl.use=k3", "kl.coef=0.1")),
        "k3 explodes on stale samples, and train.staleness is 1; use k2",
    ),
    (
        ("train.mode=async", *DECOUPLED, *BY_VALUE, "value.use=linear"),
        "reads the policy while it is being changed",
    ),
    (keys("loss.use=cispo", "loss.eps_hi=1"), "did you mean 'eps_high'"),
]


@pytest.mark.parametrize(
    ("overrides", "reason"), BAD, ids=lambda x: " ".join(x) if type(x) is tuple else ""
)
def test_what_cannot_mean_what_it_says_is_refused(overrides: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        check(run(*overrides))
    assert "\n" not in str(caught.value)


def test_every_rule_is_broken_by_some_case() -> None:
    broken: set[int] = set()
    for overrides, _ in BAD[:-1]:
        parts = parts_of(run(*overrides))
        broken |= {i for i, rule in enumerate(RULES) if rule.broken(parts)}
    assert broken == set(range(len(RULES)))


GOOD = [
    (),
    ("train.mode=async", "train.staleness=0"),
    ("train.mode=async", "train.uncorrected=true", *keys("loss.use=cispo")),
    ("train.mode=async", "train.staleness=4", *DECOUPLED, *keys("kl.use=k2", "kl.coef=0.1")),
    ("train.mode=async", *keys("loss.use=decoupled", "loss.proximal=loglinear")),
    ("train.mode=async", *keys("loss.use=cispo", "mismatch.use=tis", "old=recompute")),
    keys(
        "loss.use=gspo", "advantage.use=igpo", "aggregation=seq-mean-token-mean", "loss.level=token"
    ),
    keys("loss.use=gspo", "aggregation=seq-mean-token-mean"),
    keys("loss.use=pacs", "advantage.use=none", "aggregation=seq-mean-token-mean"),
    keys("advantage.use=dr_grpo", "aggregation=dr-grpo", "norm=64"),
    keys("mismatch.use=tis", "mismatch.high=3", "old=recompute", "entropy=0.01"),
    keys("tokens.use=d3s", "tokens.steps=50"),
    keys("loss.use=decoupled", "loss.proximal=loglinear"),
    (*keys("advantage.use=gae"), "value.use=linear"),
    (*BY_VALUE, "value.use=linear", "value.warmup=1"),
    (*BY_VALUE, *keys("advantage.use=gae"), "value.use=linear"),
    (*terms("env_score", "step_rewards", "overlong"), "reward.terms.1.gate=env_score>0"),
    (*terms("env_score", "budget"), "reward.terms.1.gate=env_score>0"),
    (*REMIX, "algorithm.loss.reincarnate=100", "replay.until=100"),
    (*keys("kl.use=k2", "kl.coef=0.1"), "replay.use=spear"),
    keys("advantage.use=reinforce_pp_kl"),
]


@pytest.mark.parametrize("overrides", GOOD, ids=" ".join)
def test_what_goes_together_is_accepted(overrides: tuple[str, ...]) -> None:
    check(run(*overrides))


@pytest.mark.parametrize(
    ("overrides", "zero"),
    [
        ((), "skip"),
        (keys("kl.use=k1", "kl.coef=0.1"), "skip"),
        (keys("kl.use=k2", "kl.coef=0.1"), "keep"),
        (keys("entropy=0.1"), "keep"),
        (keys("loss.use=bapo"), "keep"),
        (keys("loss.use=gppo"), "skip"),
        (keys("zero=exclude"), "exclude"),
    ],
)
def test_rows_without_credit_are_skipped_only_where_it_changes_nothing(
    overrides: tuple[str, ...], zero: str
) -> None:
    assert parts_of(run(*overrides)).zero == zero


def test_options_become_parts() -> None:
    options = learner_options(
        parts_of(run(*keys("mismatch.use=tis", "mismatch.high=3", "old=recompute", "entropy=0.01")))
    )
    assert options["entropy"] == 0.01
    assert options["recompute"]
    assert options["mismatch"].keywords == {"high": 3}
    assert "select" not in options
    assert replay_of(run()) is None
    assert isinstance(replay_of(run("replay.use=spear")), SelfImitation)
    buffer = replay_of(run("replay.use=remix", "seed=7"))
    assert isinstance(buffer, RecentPolicies)
    assert buffer.seed == 7


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (keys("mismatch.high=2"), "algorithm.mismatch.high: has no effect"),
        (keys("tokens.steps=2"), "algorithm.tokens.steps: has no effect"),
        (("replay.size=4",), "replay.size: has no effect"),
        (("value.lr=0.1",), "value.lr: has no effect"),
    ],
)
def test_options_of_parts_that_are_off_are_refused(overrides: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        run(*overrides)
