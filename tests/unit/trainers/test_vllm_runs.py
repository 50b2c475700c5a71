"""vLLM itself: a GRPO run whose weights are pushed every step, and updates in mid-sentence.

One server for all of these tests, and one at a time on this machine: it is slow to start.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import vllm_resident_play

from foldgym.agents.engines.engine import Trainee
from foldgym.agents.engines.models import init_model, save_policy
from foldgym.agents.engines.tokenizer import train_tokenizer
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.engines.vllm import VllmEngine, vllm
from foldgym.agents.engines.vllm_python import find_python
from foldgym.cli.main import main
from foldgym.config import PolicySection
from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.wiring import Actor, load_actor
from foldgym.types import Completion, Finish, Prompt, Sampling, Trajectory

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
WORLD = "foldgym/GuessNumber-v0"
HEAT = 0.7
RUN = """
[policy]
path = "{policy}"
[[envs]]
name = "foldgym/GuessNumber-v0"
[rollout]
max_tokens = 12
max_turns = 3
temperature = 0.7
[reward]
terms = [{{name = "odd", use = "{odd}:odd"}}]
[memory]
max_context = 256
[optim]
lr = 1e-2
warmup = 1
[train]
steps = 3
groups = 2
group_size = 4
checkpoint_every = 0
eval_every = 3
eval_episodes = 2
"""
LONG = 1500
PATIENCE = 60.0  # seconds for a server that is gone; nobody starts it again
ODD = '''
def odd(trajectory):
    """The share of odd ids."""
    ids = [i for s in trajectory.segments for i, k in zip(s.token_ids, s.turn_ids) if k >= 0]
    return sum(i % 2 for i in ids) / len(ids)
'''


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    """A model of random weights; its head is tied, which vLLM gets wrong on a CPU (`renew`)."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = train_tokenizer(["guess 12", "higher", "lower", "correct"], 290)
    model = init_model(
        vocab_size=tokenizer.vocab_size,
        hidden=64,
        layers=2,
        heads=2,
        head_dim=32,
        mlp=96,
        max_positions=2048,
        seed=3,
    )
    (folder / "odd.py").write_text(ODD)
    return save_policy(folder / "policy", model, tokenizer, "compact")


@pytest.fixture(scope="module")
def started(policy: Path, tmp_path_factory) -> Generator[tuple[Actor, VllmEngine, asyncio.Runner]]:
    """A server, and the engine that started it, with the loop that it lives in."""
    folder = tmp_path_factory.mktemp("server")
    with alone():
        actor, engine = engine_of(policy, folder, transfer="gloo")
        with asyncio.Runner() as runner:
            runner.run(engine.start())
            try:
                yield actor, engine, runner
            finally:
                runner.run(engine.stop())


@pytest.fixture(scope="module")
def server(started: tuple[Actor, VllmEngine, asyncio.Runner]) -> str:
    """Its address, for engines that attach to it and push through files."""
    assert started[1].server is not None
    return started[1].server.url


@contextmanager
def alone() -> Generator[None]:
    """Holds back other workers of this machine."""
    with (Path(tempfile.gettempdir()) / "foldgym-vllm-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def engine_of(policy: Path, folder: Path, **options: Any) -> tuple[Actor, VllmEngine]:
    actor = load_actor(PolicySection(path=str(policy)))
    trainee = Trainee(
        actor.policy, actor.renderer, actor.write, folder / "engine", HEAT, tensors=actor.tensors
    )
    engine = vllm(trainee, **options)
    assert isinstance(engine, VllmEngine)
    return actor, engine


def shake(actor: Actor, seed: int) -> None:
    """An update."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in actor.policy.model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    actor.policy.advance()


def test_a_run_pushes_its_weights_every_step(policy, server, tmp_path):
    """The command itself; sampler and learner agree as in one process."""
    (tmp_path / "run.toml").write_text(
        f'output = "{tmp_path / "run"}"\n' + RUN.format(policy=policy, odd=policy.parent / "odd.py")
    )
    words = [str(tmp_path / "run.toml"), "engine=vllm", f"engine.url={server}"]
    words.append(f"engine.start_seconds={PATIENCE}")
    assert main(["train", *words]) == 0
    rows = list(JsonlReader(tmp_path / "run" / "metrics.jsonl"))
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert max(row["push_gap_max"] for row in rows) < 1e-4
    assert max(row["logprob_gap_max"] for row in rows) < 1e-4
    assert f"eval/{WORLD}/success" in rows[-1]
    played = played_in(tmp_path / "run" / "trajectories.jsonl")
    found = [{v for s in t.segments for v in s.versions if v >= 0} for t in played]
    assert found == [{step} for step in range(3) for _ in range(8)]
    assert not any(trajectory.failed for trajectory in played)


def test_an_evaluation_has_the_ids_of_the_policy_and_its_log_probs(
    policy, server, tmp_path, capsys
):
    """Of two checkpoints by turns, on one server: each is played with its own weights."""
    actor = load_actor(PolicySection(path=str(policy)))
    shake(actor, 8)
    actor.write(tmp_path / "other")
    play = ["--env", WORLD, "--episodes", "4", "--max-tokens", "12", "--max-turns", "3"]
    hired = ["--engine", "vllm", f"url={server}", f"start_seconds={PATIENCE}"]
    said: list[list[tuple[int, ...]]] = []
    for path in (policy, tmp_path / "other"):
        words = ["eval", "--policy", str(path), *play, "--temperature", "0", "--trajectories"]
        for file, more in (("torch", ()), ("vllm", hired)):
            assert main([*words, str(tmp_path / file), *more]) == 0
            said.append([s.token_ids for t in played_in(tmp_path / file) for s in t.segments])
    assert said[0] == said[1] != said[2] == said[3]
    capsys.readouterr()
    heat = ["--temperature", "0.7", "--trajectories", str(tmp_path / "hot"), "--json"]
    assert main(["eval", "--policy", str(tmp_path / "other"), *play, *heat, *hired]) == 0
    found = json.loads(capsys.readouterr().out)["engine"]
    assert (found["use"], found["engine_restarts"]) == ("vllm", 0.0)
    assert found["push_gap_max"] < 1e-4
    for segment in [s for t in played_in(tmp_path / "hot") for s in t.segments]:
        ids, theirs = segment.token_ids, segment.logprobs
        [own] = actor.policy.score([(ids[:1], ids[1:])], HEAT)
        gaps = [
            abs(a - b)
            for a, b, k in zip(own, theirs[1:], segment.turn_ids[1:], strict=True)
            if k >= 0
        ]
        assert gaps
        assert max(gaps) < 1e-4


def played_in(file: Path) -> list[Trajectory]:
    """The trajectories of a file."""
    return [record.trajectory for record in RecordReader(file)]


async def talk(engine: VllmEngine, seed: int, prompt: Prompt, sampling: Sampling) -> Completion:
    session = engine.sampler.open(seed, None)  # pyright: ignore[reportArgumentType]
    try:
        return await session.sample(prompt, sampling)
    finally:
        session.close()


def test_ids_are_those_of_the_weights_that_their_versions_name(policy, server, tmp_path):
    actor, engine = engine_of(policy, tmp_path, url=server, start_seconds=PATIENCE)
    with torch.no_grad():  # nobody stops: on a busy machine an update takes long to get through
        table = actor.policy.model.get_input_embeddings().weight
        table += 0.1
        table[list(actor.renderer.stop_ids)] -= 0.2
    models = [actor.policy]

    async def live() -> list[Completion]:
        said: list[Completion] = []
        await engine.start()
        try:
            while not any(each.versions for each in said) and len(models) < 25:
                prompts = [Prompt((9, 10, 11 + n)) for n in range(4)]
                talks = [
                    asyncio.create_task(talk(engine, n, prompt, Sampling(HEAT, LONG)))
                    for n, prompt in enumerate(prompts)
                ]
                for seed in range(5):
                    await asyncio.sleep(0.1 + 0.1 * seed)
                    if all(each.done() for each in talks):
                        break
                    models.insert(-1, copy_of(actor, tmp_path / str(len(models))))
                    shake(actor, len(models))
                    await engine.publish()
                said = await asyncio.gather(*talks)
            return said
        finally:
            await engine.stop()

    said = asyncio.run(live())
    assert any(each.versions for each in said)
    gaps: list[float] = []
    for n, each in enumerate(said):
        assert len(each.ids) == LONG or each.ids[-1] in actor.renderer.stop_ids
        versions = each.versions or (each.version,) * len(each.ids)
        for version in set(versions):
            [own] = models[version].score([((9, 10, 11 + n), each.ids)], HEAT)
            pairs = zip(own, each.logprobs, versions, strict=True)
            gaps += [abs(a - b) for a, b, v in pairs if v == version]
    assert max(gaps) < 1e-4


def copy_of(actor: Actor, folder: Path) -> TorchPolicy:
    """The policy as it is."""
    actor.write(folder)
    return load_actor(PolicySection(path=str(folder))).policy


def test_stops_seeds_and_greedy_after_a_rest(policy, server, tmp_path):
    actor, engine = engine_of(policy, tmp_path, url=server, sleep=True, start_seconds=PATIENCE)
    end = actor.renderer.stop_ids[0]
    decode = actor.tokenizer.decode

    async def live() -> None:
        await engine.start()
        try:
            await engine.rest()
            shake(actor, 5)
            assert (await engine.publish())["push_gap_max"] < 1e-4
            prompt = Prompt((9, 10, 11))
            first, again, other = [
                await talk(engine, seed, prompt, Sampling(1.0, 40)) for seed in (5, 5, 6)
            ]
            assert first.ids == again.ids != other.ids
            greedy = await talk(engine, 5, prompt, Sampling(0.0, 8))
            assert greedy.logprobs == (0.0,) * len(greedy.ids)
            ended = [await talk(engine, n, prompt, Sampling(1.0, 400)) for n in range(6)]
            stopped = [each for each in ended if each.finish is Finish.STOP]
            assert stopped
            assert all(each.ids[-1] == end for each in stopped)
            assert all(end not in each.ids[:-1] for each in ended)
            letter = next(text for text in map(decode, ([i] for i in first.ids)) if text.isalpha())
            cut = await talk(engine, 5, prompt, Sampling(1.0, 40, (letter,)))
            assert cut.finish is Finish.MARKER
            assert cut.ids == first.ids[: len(cut.ids)]
            assert letter in decode(cut.ids)
            assert letter not in decode(cut.ids[:-1])
        finally:
            await engine.stop()

    asyncio.run(live())


def test_weights_are_sent_without_files(started):
    """Into the middle of completions, and the whole model: no file changes."""
    actor, engine, runner = started
    files = vllm_resident_play.stamps(engine.trainee.folder)

    async def live() -> list[tuple[int, Completion]]:
        said: list[tuple[int, Completion]] = []
        for seed in (11, 12):
            talks = [
                asyncio.create_task(talk(engine, n, Prompt((9, 10, 11)), Sampling(HEAT, 200)))
                for n in range(4)
            ]
            await asyncio.sleep(0.2)
            shake(actor, seed)
            assert (await engine.publish())["push_gap_max"] < 1e-4
            await asyncio.gather(*talks)
            new = await talk(engine, seed, Prompt((9, 10, 11)), Sampling(HEAT, 30))
            [own] = actor.policy.score([((9, 10, 11), new.ids)], HEAT)
            gaps = [abs(a - b) for a, b in zip(own, new.logprobs, strict=True)]
            assert max(gaps) < 1e-4
            said.append((actor.policy.version, new))
        return said

    said = runner.run(live())
    assert [new.version for _, new in said] == [version for version, _ in said]
    assert engine.restarts == 0
    assert vllm_resident_play.stamps(engine.trainee.folder) == files


def test_prompts_that_fit_no_batch_together(started):
    """vLLM cuts such prompts, and on a CPU it ends when it cuts one that has a seed."""
    actor, engine, runner = started
    prompts = [Prompt((9 + n, *range(10, 210)) * 7) for n in range(8)]

    async def live() -> list[Completion]:
        [node] = engine.nodes
        await node.client.pause()
        talks = [
            asyncio.create_task(talk(engine, n, prompt, Sampling(HEAT, 4)))
            for n, prompt in enumerate(prompts)
        ]
        await asyncio.sleep(2)  # all wait for the server, so it finds all of them at once
        await node.client.resume()
        return await asyncio.gather(*talks)

    for prompt, said in zip(prompts, runner.run(live()), strict=True):
        [own] = actor.policy.score([(prompt.ids, said.ids)], HEAT)
        gaps = [abs(a - b) for a, b in zip(own, said.logprobs, strict=True)]
        assert max(gaps) < 1e-4
    assert engine.restarts == 0


def test_its_processes_sleep_to_wait(started):
    """Yielding, they left others on their cores without a turn for up to 16 s (docs/log.md)."""
    _, engine, _ = started
    assert engine.server is not None
    log = engine.server.log.read_text(encoding="utf-8", errors="replace")
    found = set(re.findall(r"\((?:Vllm)?(EngineCore|Worker)[^()]*\).*sleeps to wait", log))
    assert found == {"EngineCore", "Worker"}, log[-2000:]


def test_vllm_in_the_process_of_the_policy_itself(policy, tmp_path):
    """One GPU in turn; here a CPU, in the interpreter that has vLLM."""
    root = Path(__file__).parents[3]
    command = [find_python(), vllm_resident_play.__file__, str(policy), str(tmp_path / "engine")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["gap"] < 1e-4
    assert found["push_gap"] < 1e-4
    assert found["mixed"] > 0
    assert (found["same"], found["version"]) == (True, 2)
    assert found["silent"], "weights in memory were written to files"
    assert "RuntimeError: out of memory; vLLM cannot be started again" in found["down"]
