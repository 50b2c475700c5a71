"""Random models of a few thousand weights; no number here depends on time."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from engine_talk import (
    BATCHING,
    STOPS,
    VOCAB,
    engine,
    gpt2,
    ids_of,
    mistral,
    qwen,
    reference,
    together,
    windowed,
)
from hypothesis import given
from hypothesis import strategies as st

from foldgym.agents.counting import shared_prefix
from foldgym.agents.engines.decoding import draw
from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.slots import SlotDecoder, stages
from foldgym.agents.engines.solo import SoloDecoder
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Rollout, rollout
from foldgym.envs.registry import maker
from foldgym.envs.worker import open_worker
from foldgym.errors import Bug, ContextFull, EngineError
from foldgym.memory import FullHistory
from foldgym.rewards import make_rubric
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import Budget, Completion, Finish, Ids, Prompt, Request, Sampling, Stop


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---------------------------------------------------------------- exactness


@pytest.mark.parametrize("batching", BATCHING)
@pytest.mark.parametrize(
    ("make", "decoder"),
    [
        (qwen, SlotDecoder),
        (windowed, SlotDecoder),
        (gpt2, SlotDecoder),
        (mistral, SoloDecoder),
    ],
    ids=["qwen3", "windowed", "gpt2", "mistral"],
)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_plain_forward_pass(
    make: Callable[[], Any], decoder: type, temperature: float, batching: str
) -> None:
    policy = engine(make(), batching)
    assert type(policy._decoder) is decoder  # type: ignore[attr-defined]
    talks = together(policy, range(9), sampling=Sampling(temperature, 6))
    for talk in talks:
        for prompt, said in zip(talk.prompts, talk.completions, strict=True):
            want = reference(policy.model, prompt, said.ids, temperature)
            np.testing.assert_allclose(said.logprobs, want, atol=1e-5)
    assert policy.counters()["reused"] > 100


@pytest.mark.parametrize("make", [qwen, windowed, gpt2, mistral])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_kept_cache_changes_no_token(make: Callable[[], Any], temperature: float) -> None:
    kept, anew = engine(make()), engine(make())
    how = {"sampling": Sampling(temperature, 6), "turns": 6}
    talks = together(kept, range(12), **how)
    again = [together(anew, [number], fresh_sessions=True, **how)[0] for number in range(12)]
    assert ids_of(talks) == ids_of(again)
    assert anew.counters()["reused"] == 0 < kept.counters()["reused"]
    for talk, other in zip(talks, again, strict=True):
        for said, repeated in zip(talk.completions, other.completions, strict=True):
            np.testing.assert_allclose(said.logprobs, repeated.logprobs, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_rows_do_not_depend_on_who_shares_their_batch(kv_heads: int) -> None:
    model = qwen(kv_heads=kv_heads)
    crowd = together(engine(model), range(20))
    for number in (0, 7, 19):
        (alone,) = together(engine(model), [number])
        assert ids_of([alone]) == ids_of([crowd[number]])
        for said, other in zip(alone.completions, crowd[number].completions, strict=True):
            np.testing.assert_allclose(said.logprobs, other.logprobs, atol=1e-5)


def test_greedy_takes_the_likeliest_token_and_is_certain_of_it() -> None:
    policy = engine(qwen())
    (talk,) = together(policy, [3], sampling=Sampling(0.0, 6))
    for prompt, said in zip(talk.prompts, talk.completions, strict=True):
        grown = prompt
        for token in said.ids:
            with torch.no_grad():
                logits = policy.model(input_ids=torch.tensor([grown])).logits[0, -1]
            assert token == int(logits.argmax())
            grown += (token,)
        assert said.logprobs == (0.0,) * len(said.ids)


def test_a_completion_ends_with_its_stop_token_or_says_that_it_was_cut() -> None:
    talks = together(engine(qwen()), range(20))
    finishes = set()
    for said in (said for talk in talks for said in talk.completions):
        finishes.add(said.finish)
        assert not set(said.ids[:-1]) & set(STOPS)
        assert (said.ids[-1] in STOPS) == (said.finish is Finish.STOP)
        assert len(said.ids) == 6 or said.finish is Finish.STOP
        assert len(said.ids) == len(said.logprobs)
    assert finishes == {Finish.STOP, Finish.LENGTH}


def test_counters_count_what_was_computed_and_what_was_kept() -> None:
    policy = engine(qwen())

    async def two_turns() -> None:
        session = policy.open(0)
        first = await session.sample(Prompt((5, 6, 7, 8)), Sampling(1.0, 1))
        # of 4 + 1 + 2 ids, 4 are held: the sampled one was never fed
        await session.sample(Prompt((5, 6, 7, 8, *first.ids, 9, 10)), Sampling(1.0, 1))
        # a fold: the first two ids agree
        await session.sample(Prompt((5, 6, 20)), Sampling(1.0, 1))
        session.close()

    asyncio.run(two_turns())
    counters = policy.counters()
    assert (counters["prefilled"], counters["reused"]) == (4 + 3 + 1, 0 + 4 + 2)
    assert (counters["decoded"], counters["forwards"], counters["padded"]) == (3, 3, 0)


# ---------------------------------------------------------------- drawing


def test_draw_inverts_the_distribution_function() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(5, 1)
    # the running sums are .1 .3 .6 1: each number falls into one of the four stretches
    ids, logprobs = draw(logits, [1.0] * 5, [0.0, 0.099, 0.1001, 0.59, 0.999999])
    assert ids == [0, 0, 1, 2, 3]
    np.testing.assert_allclose(np.exp(logprobs), [0.1, 0.1, 0.2, 0.3, 0.4], atol=1e-7)


def test_draw_never_takes_an_impossible_token_and_tempers_before_it_draws() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, np.log(4.0), -torch.inf]]).repeat(3, 1)
    # at temperature 0.5 the odds of 1 : 4 become 1 : 16
    ids, logprobs = draw(logits, [1.0, 0.5, 0.0], [0.0, 1 - 2**-53, 0.0])
    assert ids == [1, 3, 3]
    np.testing.assert_allclose(np.exp(logprobs), [1 / 5, 16 / 17, 1.0], atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_draw_shows_broken_logits_as_nan(bad: float, temperature: float) -> None:
    logits = torch.zeros(2, 4)
    logits[0, 2] = bad
    _, logprobs = draw(logits, [temperature] * 2, [0.5, 0.5])
    assert np.isnan(logprobs[0])
    assert np.isfinite(logprobs[1])


def test_sampled_frequencies_are_the_models() -> None:
    """2000 draws: a share is off by more than 5 standard deviations once in a million runs."""
    policy = engine(qwen(), max_batch=500)

    async def many() -> list[Completion]:
        sessions = [policy.open(seed) for seed in range(2000)]
        prompt, sampling = Prompt((9, 10, 11)), Sampling(1.0, 1)
        return await asyncio.gather(*(session.sample(prompt, sampling) for session in sessions))

    drawn = [said.ids[0] for said in asyncio.run(many())]
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[9, 10, 11]])).logits[0, -1]
    for token, chance in enumerate(torch.softmax(logits, -1).tolist()):
        spread = (chance * (1 - chance) / 2000) ** 0.5
        assert abs(drawn.count(token) / 2000 - chance) <= 5 * spread + 1 / 2000


# ---------------------------------------------------------------- weights change


@pytest.mark.parametrize("make", [qwen, mistral])
def test_advance_counts_and_forgets_what_the_old_weights_computed(make: Callable[[], Any]) -> None:
    policy = engine(make())
    prompt = tuple(range(5, 25))

    async def before_and_after() -> tuple[Completion, Completion]:
        session = policy.open(0)
        old = await session.sample(Prompt(prompt), Sampling(1.0, 6))
        with torch.no_grad():
            for weight in policy.model.parameters():
                weight *= 1.1
        policy.advance()
        new = await session.sample(Prompt(prompt), Sampling(1.0, 6))
        session.close()
        return old, new

    old, new = asyncio.run(before_and_after())
    assert (old.version, new.version, policy.version) == (0, 1, 1)
    assert policy.counters()["reused"] == 0
    want = reference(policy.model, prompt, new.ids, 1.0)
    np.testing.assert_allclose(new.logprobs, want, atol=1e-5)
    policy.advance(7)
    assert policy.version == 7


def test_weights_must_not_change_while_rows_are_sampled() -> None:
    policy = engine(qwen(), "dynamic")

    async def interfere() -> None:
        session = policy.open(0)
        sampling = asyncio.create_task(session.sample(Prompt((5,)), Sampling(1.0, 250)))
        while not policy.counters()["forwards"]:
            await asyncio.sleep(0)
        with pytest.raises(Bug, match="while 1 sessions are sampling"):
            policy.advance()
        sampling.cancel()
        session.close()

    policy._decoder._stops = frozenset()  # type: ignore[attr-defined]
    asyncio.run(interfere())
    assert policy.version == 0


@pytest.mark.parametrize("batching", BATCHING)
@pytest.mark.parametrize("make", [qwen, windowed, mistral], ids=["slots", "windowed", "solo"])
def test_weights_swapped_half_way_sample_what_their_version_says(
    make: Callable[[], Any], batching: str
) -> None:
    """Every log-prob is that of the weights named beside it, on all ids before it."""
    policy = engine(make(), batching)
    policy._decoder._stops = frozenset()  # type: ignore[attr-defined]
    kept = [copy.deepcopy(policy.model)]

    def change() -> None:
        with torch.no_grad():
            for weight in policy.model.parameters():
                weight *= 0.9
        kept.append(copy.deepcopy(policy.model))

    async def talk(seed: int) -> list[tuple[Ids, Completion]]:
        session = policy.open(seed)
        prompt, said = tuple(range(5, 25 + seed)), list[tuple[Ids, Completion]]()
        for turn in range(3):
            completion = await session.sample(Prompt(prompt), Sampling(1.0, 12 + seed))
            said.append((prompt, completion))
            prompt = (*prompt, *completion.ids, 7, 8 + turn)
        session.close()
        return said

    async def play() -> list[list[tuple[Ids, Completion]]]:
        talks = [asyncio.create_task(talk(seed)) for seed in range(4)]
        for version in (1, 2, 3):
            goal = policy.counters()["decoded"] + 20
            while policy.counters()["decoded"] < goal and not all(task.done() for task in talks):
                await asyncio.sleep(0)
            policy.swap(change, version)
        return await asyncio.gather(*talks)

    spoken = [pair for talk in asyncio.run(play()) for pair in talk]
    assert policy.version == 3
    for prompt, said in spoken:
        versions = said.versions or (said.version,) * len(said.ids)
        assert list(versions) == sorted(versions)
        assert versions[-1] == said.version
        for version in set(versions):
            want = reference(kept[version], prompt, said.ids, 1.0)
            at = np.array(versions) == version
            np.testing.assert_allclose(np.array(said.logprobs)[at], want[at], atol=1e-5)
    seen = {version for _, said in spoken for version in (*said.versions, said.version)}
    assert len(seen) > 1
    if batching == "rounds":  # a round is over before anybody can change weights
        assert not any(said.versions for _, said in spoken)
    else:
        assert any(said.versions for _, said in spoken)


def test_a_model_in_training_samples_without_dropout_and_trains_on() -> None:
    model = gpt2().train()
    model.transformer.h[1].eval()
    flags = [module.training for module in model.modules()]
    assert not all(flags)
    talks = together(engine(model), range(3))
    assert [module.training for module in model.modules()] == flags
    model.eval()
    for talk in talks:
        for prompt, said in zip(talk.prompts, talk.completions, strict=True):
            want = reference(model, prompt, said.ids, 1.0)
            np.testing.assert_allclose(said.logprobs, want, atol=1e-5)
    loss = model.train()(input_ids=torch.tensor([[5, 6]])).logits.sum()
    loss.backward()  # nothing of inference mode is left in the model


# ---------------------------------------------------------------- scoring


@pytest.mark.parametrize("make", [qwen, mistral])
def test_scores_are_the_log_probs_of_each_target_id(make: Callable[[], Any]) -> None:
    policy = engine(make())
    rng = random.Random(0)

    def some(low: int) -> Ids:
        return tuple(rng.randrange(VOCAB) for _ in range(rng.randrange(low, 30)))

    pairs = [(some(1), some(0)) for _ in range(20)]
    scores = policy.score(pairs)
    assert policy.logprobs(*pairs[3]) == pytest.approx(scores[3], abs=1e-5)
    for (prompt, target), got in zip(pairs, scores, strict=True):
        if target:
            np.testing.assert_allclose(got, reference(policy.model, prompt, target, 1.0), atol=1e-5)
        else:
            assert got == ()


def test_scoring_in_small_batches_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = engine(qwen())
    pairs = [((5, 6, 7)[: 1 + n % 3], (8, 9, 10, 11)[: n % 5]) for n in range(12)]
    whole = policy.score(pairs)
    monkeypatch.setattr("foldgym.agents.engines.scoring._LOGITS", VOCAB * 9)
    for got, want in zip(policy.score(pairs), whole, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_scoring_refuses_what_has_no_meaning() -> None:
    policy = engine(qwen(max_positions=16))
    with pytest.raises(ValueError, match="at least one id"):
        policy.logprobs((), (5,))
    with pytest.raises(EngineError, match="17 ids to score, but the model has 16"):
        policy.logprobs((5,) * 10, (6,) * 7)
    assert policy.score([]) == []


def test_a_prompt_without_room_is_the_end_of_an_episode_and_an_empty_one_a_failure() -> None:
    async def ask(length: int) -> Completion:
        session = engine(qwen(max_positions=16)).open(0)
        try:
            return await session.sample(Prompt((5,) * length), Sampling(max_tokens=8))
        finally:
            session.close()

    assert len(asyncio.run(ask(15)).ids) == 1
    with pytest.raises(ContextFull, match=r"a prompt of 16 ids leaves nothing .* 16 positions"):
        asyncio.run(ask(16))
    with pytest.raises(EngineError, match="an empty prompt") as caught:
        asyncio.run(ask(0))
    assert not isinstance(caught.value, ContextFull)


def test_a_prompt_too_long_for_the_model_ends_the_episode_and_it_is_graded() -> None:
    renderer = CompactRenderer(ByteTokenizer())
    model = init_model(vocab_size=264, hidden=16, layers=1, heads=2, max_positions=300)
    policy = TorchPolicy(model, renderer.stop_ids, pad_id=256)
    # the budget allows more than the model has
    how = Rollout(renderer, FullHistory, Sampling(max_tokens=40), Budget(4096, 40), retries=0)
    world = "foldgym/KeyDoor-v0"
    (group,) = asyncio.run(
        rollout(
            [Request(world, 3, 2)],
            lambda request: open_worker(maker(world), "inline"),
            policy,
            how,
            0,
            make_rubric().score,
        )
    )
    assert not group.failures
    for trajectory in group.trajectories:
        assert trajectory.stop is Stop.MAX_CONTEXT
        assert "score" in trajectory.facts
        assert all(len(segment.token_ids) <= 300 for segment in trajectory.segments)
        assert sum(turn.sampled_tokens > 0 for turn in trajectory.turns) == len(trajectory.turns)


# ---------------------------------------------------------------- small parts


@given(st.lists(st.integers(0, 2), max_size=8), st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_the_shared_prefix_is_the_longest_one_that_leaves_an_id_to_feed(
    held: list[int], prompt: list[int]
) -> None:
    kept = shared_prefix(held, tuple(prompt))
    assert held[:kept] == prompt[:kept]
    assert kept < len(prompt)
    at_end = kept in (len(held), len(prompt) - 1)
    assert at_end or held[kept] != prompt[kept]


def test_one_long_chunk_does_not_make_all_others_pad() -> None:
    # one pass would compute 32 * 200 ids, two compute 1 * 180 + 32 * 20
    assert stages([20] * 31 + [200]) == [180, 20]
    assert stages([20, 19, 18]) == [20]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_stages_cover_the_longest_chunk_and_never_cost_more_than_one_pass(
    chunks: list[int],
) -> None:
    widths = stages(chunks)
    assert min(widths) >= 1
    assert sum(widths) == max(chunks)
    left, cost = sum(widths), 0
    for width in widths:
        left -= width
        cost += width * sum(chunk > left for chunk in chunks)
    assert cost <= max(chunks) * len(chunks)
