"""Random models of a few thousand weights; no number here depends on time."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from foldgym.agents.engines.decoding import draw, shared_prefix
from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.slots import SlotDecoder, stages
from foldgym.agents.engines.solo import SoloDecoder
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.errors import Bug, ConfigError, EngineError
from foldgym.types import Completion, Finish, Ids, Prompt, Sampling

VOCAB = 61
STOPS = (1, 2, 3, 4)
BATCHING = ("rounds", "dynamic")
SIX = Sampling(1.0, 6)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sharp(model: nn.Module, by: float = 6.0) -> Any:
    """Fresh weights give nearly even odds; larger ones make every prefix matter."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= by
    return model


def qwen(seed: int = 0, kv_heads: int = 1, max_positions: int = 256) -> Any:
    model = init_model(
        vocab_size=VOCAB,
        hidden=32,
        layers=2,
        heads=2,
        kv_heads=kv_heads,
        mlp=48,
        max_positions=max_positions,
        seed=seed,
    )
    return sharp(model)


def windowed() -> Any:
    """Its first layer sees three tokens only, the others everything."""
    return sharp(init_model(vocab_size=VOCAB, hidden=32, heads=2, mlp=48, window=3))


def mistral() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MistralConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=8,
            max_position_embeddings=256,
        )
        return sharp(MistralForCausalLM(config))


def gpt2() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=256)
        return sharp(GPT2LMHeadModel(config), 3.0).eval()


def engine(model: Any, batching: str = "rounds", **more: Any) -> TorchPolicy:
    return TorchPolicy(model, STOPS, pad_id=0, batching=batching, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Talk:
    """A conversation: what was shown and what came back, turn by turn."""

    prompts: tuple[Ids, ...]
    completions: tuple[Completion, ...]


async def converse(
    policy: TorchPolicy,
    number: int,
    *,
    turns: int = 5,
    sampling: Sampling = SIX,
    delay: Callable[[], float] | None = None,
    fresh_sessions: bool = False,
) -> Talk:
    """Random observations; now and then the past is folded away, cut in the middle or repeated."""
    rng = random.Random(number)

    def some(low: int, high: int) -> Ids:
        return tuple(rng.randrange(5, VOCAB) for _ in range(rng.randrange(low, high)))

    ids = some(1, 30)
    session = policy.open(number)
    prompts, completions = [], []
    for _ in range(turns):
        if delay is not None:
            await asyncio.sleep(delay())
        said = await session.sample(Prompt(ids), sampling)
        prompts.append(ids)
        completions.append(said)
        kind = rng.random()
        if kind < 0.6:
            ids = ids + said.ids + some(1, 12)
        elif kind < 0.75:
            ids = ids[: rng.randrange(1, len(ids) + 1)] + some(0, 4)
        elif kind < 0.9:
            ids = some(1, 40)
        if fresh_sessions:
            policy.advance()
    if delay is not None:
        await asyncio.sleep(delay())  # an episode is measured before its session closes
    session.close()
    return Talk(tuple(prompts), tuple(completions))


def together(policy: TorchPolicy, numbers: Sequence[int], **how: Any) -> list[Talk]:
    async def all_of_them() -> list[Talk]:
        return await asyncio.gather(*(converse(policy, number, **how) for number in numbers))

    return asyncio.run(asyncio.wait_for(all_of_them(), 60))


def ids_of(talks: Sequence[Talk]) -> list[list[Ids]]:
    return [[said.ids for said in talk.completions] for talk in talks]


def reference(model: Any, prompt: Ids, ids: Ids, temperature: float) -> np.ndarray:
    """Log-probs from one plain forward pass over prompt and completion."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + ids])).logits[0].double()
    logprobs = torch.log_softmax(logits / temperature, dim=-1)[len(prompt) - 1 : -1]
    return logprobs.gather(1, torch.tensor(ids)[:, None]).squeeze(1).numpy()


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
    assert type(policy._decoder) is decoder
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


# ---------------------------------------------------------------- scheduling


def test_rounds_give_equal_bits_however_slow_the_environments_are() -> None:
    model = qwen()
    runs = []
    for run in range(3):
        rng = random.Random(run)
        runs.append(together(engine(model), range(10), delay=lambda rng=rng: rng.random() * 0.01))
    assert runs[0] == runs[1] == runs[2]


def test_a_used_engine_gives_the_same_bits_as_a_new_one() -> None:
    model = qwen()
    used = engine(model)
    together(used, range(30), turns=8)
    used.advance(0)
    assert together(used, range(10)) == together(engine(model), range(10))


def test_rounds_are_the_same_when_places_are_handed_on() -> None:
    """A limit on concurrency: an episode starts when another has ended, whichever that is."""
    model = qwen()

    def run(seed: int) -> tuple[list[Talk], list[float]]:
        policy, rng = engine(model), random.Random(seed)

        async def all_of_them() -> list[Talk]:
            places = asyncio.Semaphore(4)

            async def one(number: int) -> Talk:
                async with places:
                    turns = 1 + number % 4
                    return await converse(
                        policy, number, turns=turns, delay=lambda: rng.random() * 0.005
                    )

            return await asyncio.gather(*(one(number) for number in range(14)))

        talks = asyncio.run(asyncio.wait_for(all_of_them(), 60))
        counters = policy.counters()
        return talks, [counters[name] for name in ("forwards", "padded", "reused")]

    assert run(0) == run(1) == run(2)


@pytest.mark.parametrize("batching", BATCHING)
def test_more_rows_than_fit_a_batch(batching: str) -> None:
    model = qwen()
    wide = together(engine(model, batching), range(13))
    narrow = together(engine(model, batching, max_batch=3), range(13))
    assert ids_of(wide) == ids_of(narrow)


@pytest.mark.parametrize("batching", BATCHING)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_pattern_of_opening_closing_and_cancelling_blocks_the_others(
    batching: str, data: st.DataObject
) -> None:
    policy = engine(SMALL, batching, max_batch=data.draw(st.integers(1, 5)))
    fate = st.sampled_from(["play", "fail", "cancel", "idle", "late"])
    fates = data.draw(st.lists(fate, min_size=1, max_size=6))

    async def one(number: int, fate: str) -> None:
        if fate == "late":
            await asyncio.sleep(0.002)
        session = policy.open(1000 + number)
        try:
            if fate == "idle":
                await asyncio.sleep(0.004)
            elif fate == "cancel":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(session.sample(Prompt((5,)), Sampling(1.0, 200)), 0.0)
            elif fate == "fail":
                with pytest.raises(EngineError):
                    await session.sample(Prompt((5,) * 300), SIX)
        finally:
            session.close()
        if fate in ("play", "late"):
            talk = await converse(policy, number, turns=2)
            assert len(talk.completions) == 2

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number, fate) for number, fate in enumerate(fates)))

    async def abandon() -> None:
        policy.open(99)

    asyncio.run(asyncio.wait_for(all_of_them(), 30))
    asyncio.run(abandon())  # the session of a loop that is gone blocks nobody in the next
    assert len(together(policy, [50, 51], turns=2)) == 2


SMALL = qwen(seed=5)


def test_dynamic_batching_lets_a_slow_environment_delay_only_itself() -> None:
    policy = engine(qwen(), "dynamic")

    async def race() -> list[int]:
        finished: list[int] = []
        release = asyncio.Event()

        async def slow() -> None:
            session = policy.open(0)
            await release.wait()  # an environment that answers when all others are done
            await session.sample(Prompt((5,)), Sampling(1.0, 3))
            session.close()
            finished.append(0)

        async def quick(number: int) -> None:
            await converse(policy, number)
            finished.append(number)

        slowly = asyncio.create_task(slow())
        await asyncio.wait_for(asyncio.gather(quick(1), quick(2)), 30)
        release.set()
        await asyncio.wait_for(slowly, 30)
        return finished

    assert asyncio.run(race())[-1] == 0


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "abandoned"])
def test_the_thread_of_dynamic_batching_ends_with_the_last_session(closed: bool) -> None:
    policy = engine(qwen(), "dynamic")
    before = set(threading.enumerate())

    async def play() -> list[threading.Thread]:
        session = policy.open(0)
        started = [thread for thread in threading.enumerate() if thread not in before]
        await session.sample(Prompt((5,)), SIX)
        if closed:
            session.close()
        return started

    (thread,) = asyncio.run(play())
    assert thread.daemon
    thread.join(20)
    assert not thread.is_alive()
    assert len(together(policy, range(2), turns=1)) == 2


def test_closed_sessions_give_back_their_place_in_the_cache() -> None:
    policy = engine(qwen())
    for number in range(20):
        together(policy, [number, number + 100, number + 200], turns=1)
    assert len(policy._decoder._seats) == 3  # type: ignore[attr-defined]


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


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("batching", BATCHING)
def test_a_prompt_that_leaves_no_room_fails_with_both_numbers(batching: str) -> None:
    policy = engine(qwen(max_positions=16), batching)
    policy._decoder._stops = frozenset()  # type: ignore[attr-defined]

    async def try_it(length: int) -> Completion:
        session = policy.open(0)
        try:
            return await session.sample(Prompt((5,) * length), Sampling(1.0, 64))
        finally:
            session.close()

    for length in (16, 300):
        with pytest.raises(EngineError, match=rf"prompt of {length} ids .* 16 positions"):
            asyncio.run(try_it(length))
    cut = asyncio.run(try_it(12))
    assert (len(cut.ids), cut.finish) == (4, Finish.LENGTH)
    with pytest.raises(EngineError, match="empty prompt"):
        asyncio.run(try_it(0))


@pytest.mark.parametrize("batching", BATCHING)
def test_broken_numbers_fail_their_own_row_only(batching: str) -> None:
    """Token 60 has an infinite embedding; whoever reads it is lost, and nobody else."""
    model = qwen()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.model.embed_tokens.weight[60] = float("inf")
        model.lm_head.weight[60] = 0.0  # never the likeliest
    policy = engine(model, batching)

    async def one(number: int, prompt: Ids) -> Completion:
        session = policy.open(number)
        try:
            first = await session.sample(Prompt(prompt), Sampling(0.0, 4))
            again = await session.sample(Prompt((*prompt, *first.ids, 7)), Sampling(0.0, 4))
            want = reference(model, (*prompt, *first.ids, 7), again.ids, 1.0)
            assert np.isfinite(want).all()
            return again
        finally:
            session.close()

    async def all_of_them() -> list[Any]:
        prompts = [(5, 6), (5,) * 20 + (60, 7), (8,) * 9, (9,) * 25 + (60,)]
        rows = (one(number, prompt) for number, prompt in enumerate(prompts))
        first = await asyncio.gather(*rows, return_exceptions=True)
        # their places in the cache hold nothing harmful for whoever comes next
        rows = (one(4 + n, (5,) * length) for n, length in enumerate((3, 3, 3, 40)))
        return [*first, *await asyncio.gather(*rows, return_exceptions=True)]

    results = asyncio.run(asyncio.wait_for(all_of_them(), 30))
    for number, result in enumerate(results):
        if number in (1, 3):
            assert isinstance(result, EngineError)
            assert str(result).startswith(f"session {number}: the model's logits are not finite")
        else:
            assert isinstance(result, Completion)


@pytest.mark.parametrize("batching", BATCHING)
def test_a_forward_pass_that_raises_fails_its_rows_and_the_engine_goes_on(batching: str) -> None:
    model = qwen()
    policy = engine(model, batching)
    broken = model.lm_head.register_forward_hook(lambda *_: 1 / 0)

    async def both() -> list[Any]:
        return await asyncio.gather(
            *(converse(policy, number, turns=1) for number in range(3)), return_exceptions=True
        )

    failures = asyncio.run(asyncio.wait_for(both(), 30))
    assert all(isinstance(failure, EngineError) for failure in failures)
    assert "ZeroDivisionError: division by zero" in str(failures[0])
    assert isinstance(failures[0].__cause__, ZeroDivisionError)
    broken.remove()
    again = together(policy, [10, 11, 12])
    assert ids_of(again) == ids_of(together(engine(model), [10, 11, 12]))


def test_a_session_is_used_by_one_task_at_a_time_and_not_after_its_end() -> None:
    policy = engine(qwen())

    async def misuse() -> None:
        session = policy.open(0)
        first = asyncio.create_task(session.sample(Prompt((5,)), Sampling(1.0, 2)))
        await asyncio.sleep(0)
        with pytest.raises(Bug, match="session 0 already waits"):
            await session.sample(Prompt((5,)), Sampling())
        await first
        session.close()
        session.close()
        with pytest.raises(Bug, match="session 0 is closed"):
            await session.sample(Prompt((5,)), Sampling())

    asyncio.run(asyncio.wait_for(misuse(), 30))


def test_impossible_settings_are_refused() -> None:
    model = qwen()
    with pytest.raises(ConfigError, match="id 61 is outside the model's 61 ids"):
        TorchPolicy(model, (61,), pad_id=0)
    with pytest.raises(ConfigError, match="no stop ids"):
        TorchPolicy(model, (), pad_id=0)
    with pytest.raises(ConfigError, match="use one of rounds, dynamic"):
        engine(model, "sometimes")
    with pytest.raises(ConfigError, match="max_batch is 0"):
        engine(model, max_batch=0)


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
