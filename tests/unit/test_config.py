"""Run files: what is read, what is refused, and that the refusal helps."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from foldgym.config import (
    MemorySection,
    SftRun,
    TrainRun,
    bind,
    build,
    dump,
    load,
    load_module,
    parse,
    plug,
    resolve,
)
from foldgym.errors import ConfigError, DataError, UnknownName

TRAIN = """
output = "runs/x"
[policy]
path = "runs/sft"
[[envs]]
name = "foldgym/GuessNumber-v0"
"""
SFT = """
output = "runs/sft"
[[envs]]
name = "foldgym/GuessNumber-v0"
"""


def refused(kind: Any, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(kind, text, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


# ---------------------------------------------------------------- what is read


def test_defaults_are_those_of_the_demo() -> None:
    run = parse(TrainRun, TRAIN)
    assert (run.train.groups, run.train.group_size, run.optim.lr) == (16, 8, 5e-4)
    assert (run.reward.terms, run.memory.use, run.algorithm.advantage.use) == ((), "full", "grpo")
    sft = parse(SftRun, SFT)
    assert (sft.new_model.hidden, sft.tokenizer.vocab_size, sft.sft.steps) == (128, 420, 450)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optim.lr=1e-4", lambda run: run.optim.lr == 1e-4),
        ("train.steps = 7", lambda run: run.train.steps == 7),
        ("train.trajectories=false", lambda run: run.train.trajectories is False),
        ("policy.path=runs/a b", lambda run: run.policy.path == "runs/a b"),
        ('policy.path="7"', lambda run: run.policy.path == "7"),
        ("optim.betas=[0.5, 0.25]", lambda run: run.optim.betas == (0.5, 0.25)),
        ("envs.0.name=other", lambda run: run.envs[0].name == "other"),
        ("envs.0.kwargs.hops=[1, 2]", lambda run: run.envs[0].kwargs == {"hops": [1, 2]}),
        ("envs.1.name=second", lambda run: run.envs[1].name == "second"),
        ("algorithm.loss.clip=0.28", lambda run: run.algorithm.loss.kwargs["clip"] == 0.28),
        ("reward.terms.0.name=exact_match", lambda run: run.reward.terms[0].name == "exact_match"),
        ("memory.turns=3", lambda run: run.memory.kwargs == {"turns": 3}),
        ("engine=vllm", lambda run: (run.engine.use, run.engine.kwargs) == ("vllm", {})),
        ("engine.use=vllm", lambda run: (run.engine.use, run.engine.kwargs) == ("vllm", {})),
    ],
)  # fmt: skip
def test_overrides(override: str, read: Any) -> None:
    assert read(parse(TrainRun, TRAIN, [override]))


def test_later_overrides_win_and_lists_may_be_indexed() -> None:
    overrides = ["envs.1.name=b", "envs.1.weight=2", "envs.0.weight=0.5", "envs.1.weight=3"]
    run = parse(TrainRun, TRAIN, overrides)
    assert [(env.name, env.weight) for env in run.envs] == [
        ("foldgym/GuessNumber-v0", 0.5),
        ("b", 3.0),
    ]


def test_a_text_for_a_plug_in_is_its_name_and_leaves_its_options() -> None:
    named = parse(TrainRun, TRAIN, ["memory=window", "memory.turns=3"])
    assert (named.memory.use, named.memory.kwargs) == ("window", {"turns": 3})
    assert parse(TrainRun, TRAIN, ["memory.turns=3", "memory=window"]) == named
    assert parse(TrainRun, 'algorithm.loss = "gspo"' + TRAIN).algorithm.loss.use == "gspo"
    assert "envs" in refused(TrainRun, TRAIN, "policy.path=a", "policy.path.use=b", "envs=3")


def test_load_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    with pytest.raises(DataError, match=r"cannot read run file .*run\.toml: No such file"):
        load(TrainRun, path)
    path.write_text(TRAIN)
    assert load(TrainRun, path, ["seed=3"]).seed == 3
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text at byte 0"):
        load(TrainRun, path)


def test_runs_are_frozen() -> None:
    run = parse(TrainRun, TRAIN)
    with pytest.raises(ValueError, match="frozen"):
        run.optim.lr = 1.0  # pyright: ignore[reportAttributeAccessIssue]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a =", 1, 4), ("a = 1\nb = [1,", 2, 8), ("a = 1\na = 2\n", 2, 6), ("x y", 1, 3)],
)
def test_bad_toml_names_file_line_and_column(text: str, line: int, column: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TrainRun, text, source="my.toml")
    assert str(caught.value).startswith("my.toml: not valid TOML: ")
    assert f"line {line}, column {column}" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.group_sise=3", ["train.group_sise", "did you mean 'group_size'?", "keep"]),
        ("trian.steps=3", ["trian", "did you mean 'train'?"]),
        ("envs.0.wieght=3", ["envs.0.wieght", "did you mean 'weight'?"]),
        ("algorithm.kl.coeff=3", ["algorithm.kl.coeff", "did you mean 'coef'?"]),
        ("optim.lr=fast", ["optim.lr", '"fast"', "valid number"]),
        ("optim.lr=0", ["optim.lr", "0", "greater than 0"]),
        ("optim.lr=inf", ["optim.lr", "Infinity", "finite"]),
        ("optim.betas=[0.9]", ["optim.betas"]),
        ("optim.betas=[0.9, 1.0]", ["optim.betas.1", "1.0", "less than 1"]),
        ("train.steps=1.5", ["train.steps", "1.5", "integer"]),
        ("seed=true", ["seed", "true", "integer"]),
        ("seed=-1", ["seed", "-1", "greater than or equal to 0"]),
        ("policy.device=3", ["policy.device", "3", "string"]),
        ("algorithm.kl.use=k9", ["algorithm.kl.use", '"k9"', "'k2'"]),
        ("envs=[]", ["envs", "at least 1"]),
        ("memory.reserve=2048", ["memory.reserve", "2048", "smaller"]),
        ("rollout.temperature=0", ["rollout.temperature", "above 0"]),
        ("reward.terms=[{name='a', gate='b'}]", ["reward.terms.0.gate", "'b'", "terms: none"]),
        ("reward.terms=[{name='a'},{name='a'}]", ["reward.terms.1.name", "'a'", "taken"]),
    ],
)  # fmt: skip
def test_wrong_values_name_key_value_and_mend(override: str, parts: list[str]) -> None:
    line = refused(TrainRun, TRAIN, override)
    for part in parts:
        assert part in line


def test_a_required_key_that_is_absent() -> None:
    assert "policy: is required and not given" in refused(TrainRun, SFT)
    assert "(and 1 more)" in refused(TrainRun, "output = 'x'")


@pytest.mark.parametrize(
    ("kind", "overrides", "key", "why"),
    [
        (TrainRun, ["algorithm.kl.use=k3"], "algorithm.kl.use", "coef is 0"),
        (TrainRun, ["algorithm.kl.use=k3", "algorithm.kl.coef=0"], "algorithm.kl.use", "coef is 0"),
        (TrainRun, ["algorithm.kl.coef=0.1"], "algorithm.kl.coef", '"none"'),
        (TrainRun, ["optim.floor=0.1"], "optim.floor", '"constant"'),
        (TrainRun, ["algorithm.norm=64.0"], "algorithm.norm", "dr-grpo"),
        (TrainRun, ["train.group_size=1"], "train.group_size", "no one to compare with"),
        (TrainRun, ["memory.soft=0.8"], "memory.soft", "never folds"),
        (TrainRun, ["memory.use=summarise", "memory.trigger=turns", "memory.every=2",
                    "memory.soft=0.5"], "memory.soft", "counts turns"),
        (TrainRun, ["train.steps=10", "train.checkpoint_every=11"], "train.checkpoint_every", "10"),
        (TrainRun, ["train.eval_every=101"], "train.eval_every", "100"),
        (TrainRun, ["train.eval_episodes=9"], "train.eval_episodes", "eval_every is 0"),
        (TrainRun, ["train.checkpoint_every=0", "train.keep=1"], "train.keep", "is 0"),
        (TrainRun, ["envs.0.weight=2"], "envs.0.weight", "only one environment"),
        (TrainRun, ["reward.terms=[{name='a', weight=0}]"], "reward.terms.0.weight", "gated by it"),
        (SftRun, ["sft.schedule=constant", "sft.floor=0.1"], "sft.floor", '"constant"'),
        (SftRun, ["policy.path=p", "tokenizer.vocab_size=99"], "tokenizer", "brings its own"),
        (SftRun, ["sft.min_reward=1.0"], "sft.min_reward", "no recorded file"),
        (SftRun, ["policy.path=p", "sft.trajectories=t", "sft.expert=x"], "sft.expert", "cloned"),
        (SftRun, ["policy.path=p", "policy.batching=dynamic"], "policy.batching", "samples"),
        (SftRun, ["policy.path=p", "renderer=chatml"], "renderer", "policy.renderer"),
        (SftRun, ["policy.path=p", "model.hidden=64"], "model", "remove one"),
        (SftRun, ["policy.path=p", "sft.trajectories=t", "memory.use=full"], "memory", "sampled"),
        (SftRun, ["memory.soft=0.8"], "memory.soft", "never folds"),
    ],
)  # fmt: skip
def test_options_without_effect_are_refused(
    kind: Any, overrides: list[str], key: str, why: str
) -> None:
    line = refused(kind, TRAIN if kind is TrainRun else SFT, *overrides)
    assert line.startswith(f"run file: {key}:")
    assert "has no effect" in line
    assert why in line


def test_the_same_options_are_welcome_where_they_matter() -> None:
    overrides = [
        "algorithm.kl.use=k3", "algorithm.kl.coef=0.1", "optim.schedule=cosine", "optim.floor=0.1",
        "memory.use=summarise", "memory.soft=0.5", "train.steps=10", "train.checkpoint_every=10",
        "train.eval_every=5", "train.eval_episodes=9", "envs.0.weight=2", "envs.1.name=b",
        "reward.terms=[{name='a', weight=0}, {name='b', gate='a>0.5'}]",
    ]  # fmt: skip
    run = parse(TrainRun, TRAIN, overrides)
    assert (run.memory.soft, run.algorithm.kl.coef, run.envs[0].weight) == (0.5, 0.1, 2.0)


def test_a_group_of_one_may_keep_its_raw_reward() -> None:
    run = parse(TrainRun, TRAIN, ["train.group_size=1", "algorithm.advantage.singleton=raw"])
    assert run.train.group_size == 1


def test_names_that_the_checks_know_exist() -> None:
    from foldgym.config import runs
    from foldgym.memory import MEMORIES
    from foldgym.trainers.advantages import ADVANTAGES
    from foldgym.trainers.losses import AGGREGATIONS, KLS

    assert set(MEMORIES) >= runs.NEVER_FOLDS
    assert set(ADVANTAGES) >= runs.GROUP_ADVANTAGES
    assert set(runs.DIVIDED) <= set(AGGREGATIONS)
    for name in KLS:
        parse(TrainRun, TRAIN, [f"algorithm.kl.use={name}", "algorithm.kl.coef=0.1"])


def test_a_memory_needs_room() -> None:
    for kind, text in ((TrainRun, TRAIN), (SftRun, SFT)):
        line = refused(kind, text, "memory.max_context=64", "memory.reserve=64")
        assert "memory.reserve: 64 leaves nothing of memory.max_context = 64" in line


def test_kv_heads_must_divide_heads() -> None:
    assert "3 does not divide model.heads = 4" in refused(SftRun, SFT, "model.kv_heads=3")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("steps", "key=value"),
        ("=3", "key=value"),
        ("a..b=3", "key=value"),
        ("envs.5.name=x", "'5' is no index; the list has 1 items"),
        ("envs.x.name=x", "'x' is no index"),
        ("output.deep.er=3", "output is 'runs/x', not a section"),
    ],
)
def test_overrides_that_cannot_be_applied(override: str, part: str) -> None:
    line = refused(TrainRun, TRAIN, override)
    assert repr(override) in line
    assert part in line


# ---------------------------------------------------------------- back to TOML


def test_dump_writes_every_option_that_matters_and_no_other() -> None:
    run = parse(TrainRun, TRAIN, ["envs.0.kwargs.world.people=3", "memory.turns=2"])
    table = tomllib.loads(dump(run))
    assert table["train"]["groups"] == 16
    assert table["envs"][0]["kwargs"] == {"world": {"people": 3}}
    assert table["memory"]["turns"] == 2
    assert "soft" not in table["memory"]
    assert "floor" not in table["optim"]
    assert "weight" not in table["envs"][0]
    assert parse(TrainRun, dump(run)) == run


_TEXT = st.text(max_size=12)
_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | _TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@hypothesis_given(
    kwargs=st.dictionaries(_TEXT, _VALUES, max_size=4),
    lr=st.floats(1e-9, 1.0),
    path=st.text(min_size=1, max_size=9).filter(lambda text: text.isprintable()),
)
def test_dump_parses_to_an_equal_run(kwargs: dict[str, Any], lr: float, path: str) -> None:
    table: dict[str, Any] = tomllib.loads(TRAIN) | {"optim": {"lr": lr}, "output": path}
    table["envs"][0]["kwargs"] = kwargs
    run = parse(TrainRun, table)
    assert parse(TrainRun, dump(run)) == run


# ---------------------------------------------------------------- plug-ins


@dataclasses.dataclass
class Window:
    turns: int
    keep: Literal["first", "last"] = "last"
    sizes: tuple[int, ...] = ()


def advantage(group: object, *, scale: float = 1.0, clip: float | None = None) -> float:
    return scale if clip is None else min(scale, clip)


TABLE = {"window": Window, "advantage": advantage, "lazy": "json:dumps"}


def test_resolve_by_short_name_and_import_path(tmp_path: Path) -> None:
    import json

    assert resolve("memory", "window", TABLE) is Window
    assert resolve("memory", "lazy", TABLE) is json.dumps
    assert resolve("memory", "json:decoder.JSONDecoder", TABLE) is json.decoder.JSONDecoder
    (tmp_path / "mine.py").write_text("class Mine:\n    pass\n")
    found = resolve("memory", f"{tmp_path}/mine.py:Mine", TABLE)
    assert found.__name__ == "Mine"
    assert resolve("memory", f"{tmp_path}/../{tmp_path.name}/mine.py:Mine", TABLE) is found


def test_resolve_lists_what_exists() -> None:
    with pytest.raises(UnknownName) as caught:
        resolve("memory", "windw", TABLE)
    assert "did you mean 'window'?" in str(caught.value)
    assert "known: advantage, lazy, window" in str(caught.value)
    with pytest.raises(UnknownName, match="did you mean 'scanner'"):
        resolve("memory", "json:scaner", TABLE)


def test_modules_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"memory: there is no module 'no_such'"):
        resolve("memory", "no_such.thing:X", TABLE)
    with pytest.raises(ConfigError, match=r"there is no file 'nowhere/x\.py'"):
        resolve("memory", "nowhere/x.py:X", TABLE)
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"bad\.py failed: ZeroDivisionError"):
        load_module(f"{tmp_path}/bad.py")
    (tmp_path / "needs.py").write_text("import no_such_library\n")
    with pytest.raises(ConfigError, match="needs 'no_such_library', which is not installed"):
        load_module(f"{tmp_path}/needs.py")


def test_bind_fills_a_class_and_a_function() -> None:
    window = bind("memory", Window, {"turns": 2, "sizes": [1, 2]})()
    assert window == Window(2, "last", (1, 2))
    assert bind("advantage", advantage, {"scale": 3, "clip": 2.0})(None) == 2.0


@pytest.mark.parametrize(
    ("fn", "kwargs", "parts"),
    [
        (Window, {"turn": 2}, ["memory.turn", "did you mean 'turns'?", "keep"]),
        (Window, {"turns": "2"}, ["memory.turns", "'2'", "integer"]),
        (Window, {"turns": 2, "keep": "all"}, ["memory.keep", "'all'", "'first' or 'last'"]),
        (Window, {"turns": 2, "sizes": [1, "x"]}, ["memory.sizes.1", "integer"]),
        (Window, {}, ["memory.turns", "required by Window"]),
        (advantage, {"group": 1}, ["memory.group", "unknown option of advantage", "scale, clip"]),
    ],
)
def test_bind_refuses(fn: Any, kwargs: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        bind("memory", fn, kwargs)
    for part in parts:
        assert part in str(caught.value)


def test_plug_hints_at_the_sections_own_keys_too() -> None:
    section = MemorySection.model_validate({"use": "window", "turns": 2, "max_contxt": 5})
    with pytest.raises(ConfigError, match=r"memory\.max_contxt: .*did you mean 'max_context'\?"):
        plug("memory", section, TABLE, "memory")
    assert plug("memory", MemorySection.model_validate({"use": "window", "turns": 2}), TABLE)() == (
        Window(2)
    )


def test_what_a_plug_in_itself_refuses_is_a_config_error() -> None:
    def picky(turns: int = 4) -> int:
        if turns < 1:
            raise ValueError(f"turns must be at least 1, not {turns}")
        return turns

    section = MemorySection.model_validate({"use": "picky", "turns": 0})
    with pytest.raises(ConfigError, match="memory: turns must be at least 1, not 0"):
        build("memory", section, {"picky": picky}, "memory")
    assert build("memory", MemorySection(use="picky"), {"picky": picky}) == 4
