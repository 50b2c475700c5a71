"""Tokens per second, MFU and memory of rollouts and updates on one device, beside TRL on the same.

    python -m benchmarks.gpu.throughput --size 0.6b --contexts 4096 32768
    python -m benchmarks.gpu.throughput --size tiny --contexts 64 --device cpu    # does it run?

Random weights of Qwen3's shape in bf16 (fp32 on a CPU), recomputed activations, log-probs in
chunks. A row is a conversation: three parts that the world said, one that the policy did, in turns
of `TURN` ids; a step has `--rows` rows of every length in `--contexts`. Rollouts continue prompts
of that length. TRL's GRPOTrainer gets rows of as many ids through its `rollout_func` and is timed
between two steps; without the package its figures are null. The first round of each is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import gc
import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.console import note, table
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import LOSSES
from foldgym.trainers.optim import Optim
from foldgym.types import Batch, Prompt, Sampling

HERE = Path(__file__).parents[1]
TURN = 256
_SHAPE = ("vocab_size", "hidden", "layers", "heads", "kv_heads", "head_dim", "mlp")
SIZES = {
    name: dict(zip(_SHAPE, shape, strict=True))
    for name, shape in {
        "tiny": (512, 32, 2, 2, 2, 16, 64),
        "0.1b": (32768, 768, 12, 12, 4, 64, 2304),
        "0.3b": (65536, 1024, 20, 16, 8, 64, 3072),
        "0.6b": (151936, 1024, 28, 16, 8, 128, 3072),
    }.items()
}
Found = dict[str, Any]


def new_model(size: str, device: str, longest: int) -> Any:
    """Random weights; bf16 on a GPU."""
    model = init_model(**SIZES[size], rope_theta=1e6, max_positions=longest)  # pyright: ignore[reportArgumentType]
    return model.to(device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16)


def new_batch(rows: int, length: int, vocab: int) -> Batch:
    """Rows of random ids, a quarter of them sampled, in turns."""
    rng = np.random.default_rng(0)
    turn = min(TURN, max(1, length // 8))
    place_T = np.arange(length)
    said_T = (place_T // turn % 4 == 3) & (place_T > 0)
    turn_BT = np.tile(np.where(said_T, place_T // (4 * turn), -1), (rows, 1))
    return Batch(
        ids_BT=rng.integers(0, vocab, (rows, length)),
        turn_BT=turn_BT,
        logprob_BT=np.where(turn_BT >= 0, -np.log(vocab), 0.0),
        version_BT=np.where(turn_BT >= 0, 0, -1),
        advantage_BT=np.where(turn_BT >= 0, np.resize((1.0, -1.0), rows)[:, None], 0.0),
        weight_BT=(turn_BT >= 0) / (turn_BT >= 0).sum(),
        length_B=np.full(rows, length),
        row_trajectory_B=np.arange(rows),
        row_group_B=np.zeros(rows, np.int64),
        names=tuple(map(str, range(rows))),
    )


def updates(model: Any, rows: int, length: int, rounds: int) -> Found:
    """Whole updates of our learner: log-probs, gradients, AdamW."""
    policy = TorchPolicy(model, (1,), pad_id=0)
    plan = Optim(lr=1e-6, microbatch_tokens=max(length, 16384), checkpointing=True)
    learner = TorchLearner(policy, LOSSES["ppo_clip"], plan)
    meter = learner.meter()
    batch = new_batch(rows, length, model.config.vocab_size)
    taken: list[Found] = []
    for _ in range(rounds + 1):
        seconds = clocked(lambda: learner.update(batch), model.device)
        taken.append({"seconds": seconds, **meter(0, {"update": seconds})})
    best = min(taken[1:], key=lambda each: each["seconds"])
    return {
        "seconds": best["seconds"],
        "tokens_per_second": rows * length / best["seconds"],
        "mfu": best["mfu"],
        "memory_gib": best["memory_gib"],
    }


def rollouts(model: Any, sessions: int, length: int, count: int, rounds: int) -> Found:
    """Sampled ids per second of the engine in this process: all sessions continue a prompt."""
    policy = TorchPolicy(model, (1,), pad_id=0, batching="dynamic", max_batch=sessions)
    rng = np.random.default_rng(1)
    room = max(1, length - count)
    prompts = [tuple(rng.integers(2, model.config.vocab_size, room).tolist()) for _ in range(8)]

    async def one(number: int) -> int:
        session = policy.open(number)
        said = await session.sample(Prompt(prompts[number % 8]), Sampling(1.0, count))
        session.close()
        return len(said.ids)

    async def every() -> int:
        return sum(await asyncio.gather(*map(one, range(sessions))))

    rates: list[float] = []
    for _ in range(rounds + 1):
        sampled = 0

        def play() -> None:
            nonlocal sampled
            sampled = asyncio.run(every())

        rates.append(clocked(play, model.device) and sampled / clocked.last)
    return {"sessions": sessions, "sampled_per_second": max(rates[1:])}


class _Clock:
    """Seconds of a call, the device's work included."""

    last = 0.0

    def __call__(self, work: Callable[[], Any], device: torch.device) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        self.last = time.perf_counter() - begun
        return self.last


clocked = _Clock()


def with_trl(model: Any, rows: int, length: int, rounds: int) -> Found | None:
    """Steps of TRL's GRPOTrainer on as many ids, its rollouts given; None without the package."""
    try:
        from datasets import Dataset
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast, TrainerCallback
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.grpo_trainer import GRPOTrainer
    except ImportError:
        return None
    words = {"<e>": 0, **{f"w{number}": number for number in range(1, 64)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<e>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>", pad_token="<e>")
    batch = new_batch(rows, length, model.config.vocab_size)
    first = int((batch.turn_BT[0] >= 0).argmax())

    def given(prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        count = len(prompts)
        ids, said = batch.ids_BT[:count], batch.turn_BT[:count] >= 0
        return {
            "prompt_ids": ids[:, :first].tolist(),
            "completion_ids": ids[:, first:].tolist(),
            "logprobs": batch.logprob_BT[:count, first:].tolist(),
            "env_mask": said[:, first:].astype(int).tolist(),
        }

    def every_other(prompts: Sequence[Any], **_: Any) -> list[float | None]:
        return [float(number % 2) for number in range(len(prompts))]

    marks: list[float] = []

    class Marks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder,
            max_steps=rounds + 2,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=rows,
            num_generations=rows,
            max_completion_length=length,
            beta=0.0,
            learning_rate=1e-6,
            gradient_checkpointing=True,
            bf16=model.device.type == "cuda",
            use_cpu=model.device.type == "cpu",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=model,
            args=args,
            processing_class=tokenizer,
            reward_funcs=every_other,
            train_dataset=Dataset.from_dict({"prompt": ["w1 w2"] * rows}),
            rollout_func=given,
            callbacks=[Marks()],
        )
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    seconds = min(b - a for a, b in pairwise(marks[1:]))
    peak = torch.cuda.max_memory_allocated() / 2**30 if model.device.type == "cuda" else None
    return {
        "seconds": seconds,
        "tokens_per_second": rows * length / seconds,
        "memory_gib": peak,
    }


def device_of(name: str) -> str:
    """What the figures were taken on."""
    return torch.cuda.get_device_name(0) if name != "cpu" else platform.processor() or "cpu"


def measure(args: argparse.Namespace) -> Found:
    """Everything, one part after the other with nothing of the last one left on the device."""
    found: Found = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "device": device_of(args.device),
        "torch": torch.__version__,
        "size": args.size,
    }
    for length in args.contexts:
        parts: dict[str, Callable[[Any], Any]] = {
            "rollout": lambda m: rollouts(m, args.sessions, length, args.sample, args.rounds),  # noqa: B023
            "update": lambda m: updates(m, args.rows, length, args.rounds),  # noqa: B023
            "trl": lambda m: with_trl(m, args.rows, length, args.rounds),  # noqa: B023
        }
        here: Found = {}
        for name, part in parts.items():
            note(f"{args.size}, context {length}: {name} ...")
            model = new_model(args.size, args.device, length + TURN)
            found["parameters"] = model.num_parameters()
            try:
                here[name] = part(model)
            except torch.OutOfMemoryError as problem:
                here[name] = {"failed": str(problem).splitlines()[0]}
            del model
            gc.collect()
            if args.device != "cpu":
                torch.cuda.empty_cache()
        if here.get("trl") and "seconds" in here["trl"] and "seconds" in here["update"]:
            here["seconds_trl_over_ours"] = here["trl"]["seconds"] / here["update"]["seconds"]
        found[str(length)] = here
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.gpu.throughput")
    parser.add_argument("--size", choices=SIZES, default="0.6b")
    parser.add_argument("--contexts", type=int, nargs="+", default=[4096, 32768])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=8, help="of an update")
    parser.add_argument("--sessions", type=int, default=64, help="that sample together")
    parser.add_argument("--sample", type=int, default=256, help="ids per session")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="")
    args = parser.parse_args(words)
    if args.device != "cpu" and not torch.cuda.is_available():
        note("error: torch sees no GPU; try --device cpu --size tiny --contexts 64")
        return 2
    found = measure(args)
    path = Path(args.output or HERE / "results" / f"gpu_throughput_{args.size}.json")
    path.write_text(json.dumps(found, indent=1) + "\n")
    rows = [
        (length, part, name, value)
        for length in map(str, args.contexts)
        for part, figures in found[length].items()
        if isinstance(figures, dict)
        for name, value in figures.items()
    ]
    table(f"{args.size} on {found['device']}", ("context", "part", "what", "figure"), rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
