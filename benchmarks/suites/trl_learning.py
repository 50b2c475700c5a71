"""Seconds and steps to a success threshold, foldgym and TRL from the same start; see `suites.trl`.

    python -m benchmarks.suites.trl_learning START SYSTEM SEEDS STEPS THRESHOLD   # one system

START is made by `clone`. Both sample 8 episodes of each of 8 tasks a step at temperature 1, make
one AdamW step on the token mean of the policy gradient with advantages (r - mean) / std, at the
same learning rate, without warm-up, decay or KL, gradients clipped at norm 1, one thread. Both see
the same ids: TRL is given our chat template without the list of tools. `gradient_checkpointing`, on
by default in TRL, is off; TRL's environments are a plain class called in its own thread.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.suites.trl_worlds import Bare, Lock, TrlLock

GROUPS, SIZE, LR = 8, 8, 1e-3
FIRST = 10  # smaller seeds were played while the task and the setting were chosen
WINDOW = 5  # steps whose mean success must reach the threshold
WORLD = f"{Path(__file__).parent / 'trl_worlds.py'}:Lock"
LONGEST = 40  # ids of a turn; a good one has 25
Found = dict[str, Any]


def clone(folder: Path, steps: int = 250) -> Path:
    """A policy that plays like the hasty expert, from random weights."""
    from foldgym.agents.renderers import RENDERERS
    from foldgym.config import SftRun, parse
    from foldgym.trainers.sft import sft

    RENDERERS["bare"] = Bare
    text = f"""
    output = "{folder}"
    renderer = "bare"
    [[envs]]
    name = "{WORLD}"
    [model]
    hidden = 32
    heads = 2
    head_dim = 16
    mlp = 96
    window = 4
    max_positions = 512
    [tokenizer]
    vocab_size = 420
    episodes = 50
    [sft]
    steps = {steps}
    batch = 16
    expert = "hasty"
    lr = 5e-3
    warmup = 10
    context_weight = 0.0
    """
    return sft(parse(SftRun, text))


def chat_tokenizer(path: str) -> Any:
    """The start's tokenizer as TRL wants it: our ChatML template, without the list of tools."""
    from transformers import AutoTokenizer

    from foldgym.agents.engines.templates import folder_settings
    from foldgym.agents.engines.tokenizer import load_tokenizer

    settings = folder_settings("chatml", load_tokenizer(path))
    tokenizer = AutoTokenizer.from_pretrained(path, eos_token=settings["eos_token"])
    template = settings["chat_template"]
    for place in ("{%- if tools -%}", "not (tools and "):
        assert place in template
        template = template.replace(place, place.replace("tools", "false"))
    tokenizer.chat_template = template
    tokenizer.response_template = settings["response_template"]
    return tokenizer


class Watch:
    """Success and seconds of every step, and whether the last steps reach the threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold, self.success = threshold, list[float]()
        self.wall, self.processor = list[float](), list[float]()
        self.begun = time.perf_counter(), time.process_time()

    def step(self, success: float) -> bool:
        self.success.append(success)
        self.wall.append(time.perf_counter() - self.begun[0])
        self.processor.append(time.process_time() - self.begun[1])
        return self.reached

    @property
    def reached(self) -> bool:
        last = self.success[-WINDOW:]
        return len(last) == WINDOW and sum(last) / WINDOW >= self.threshold

    def found(self) -> Found:
        return {
            "reached": self.reached,
            "steps": len(self.success),
            "seconds": round(self.wall[-1], 2),
            "processor_seconds": round(self.processor[-1], 2),
            "seconds_a_step": round(self.processor[-1] / len(self.success), 3),
            "first_success": round(self.success[0], 3),
            "curve": [round(value, 3) for value in self.success],
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }


def ours(start: str, seed: int, steps: int, threshold: float) -> Found:
    """A run of `foldgym train`, ended at the threshold."""
    from foldgym.agents.renderers import RENDERERS
    from foldgym.config import TrainRun, parse
    from foldgym.trainers.train import train

    RENDERERS["bare"] = Bare
    with tempfile.TemporaryDirectory() as folder:
        text = f"""
        output = "{folder}/run"
        seed = {seed}
        [policy]
        path = "{start}"
        threads = 1
        [[envs]]
        name = "{WORLD}"
        [memory]
        max_context = 512
        reserve = {LONGEST}
        [rollout]
        max_tokens = {LONGEST}
        [optim]
        lr = {LR}
        betas = [0.9, 0.999]
        warmup = 0
        [train]
        steps = {steps}
        groups = {GROUPS}
        group_size = {SIZE}
        checkpoint_every = 0
        trajectories = false
        """
        watch: Watch | None = None

        class Enough(Exception):
            """The threshold is reached."""

        def progress(step: int, of: int, numbers: str) -> None:
            lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
            assert watch is not None
            if watch.step(json.loads(lines[-1])["success"]):
                raise Enough

        run = parse(TrainRun, text)
        watch = Watch(threshold)
        with contextlib.suppress(Enough):
            train(run, progress)
        return watch.found()


def theirs(start: str, seed: int, steps: int, threshold: float) -> Found:
    """The same with TRL's GRPOTrainer and `environment_factory`."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback

    from foldgym.seeding import derive_seed

    torch.set_num_threads(1)
    tokenizer = chat_tokenizer(start)
    prompt = [{"role": "user", "content": "open"}]
    rows = [
        {"prompt": prompt, "task_seed": derive_seed(seed, "task", number)}
        for number in range(GROUPS * steps)
    ]
    with tempfile.TemporaryDirectory() as folder:
        trl: Any = import_module("trl")
        args = trl.GRPOConfig(
            output_dir=folder,
            seed=seed,
            per_device_train_batch_size=GROUPS * SIZE,
            num_generations=SIZE,
            max_steps=steps,
            learning_rate=LR,
            lr_scheduler_type="constant",
            max_completion_length=200,
            max_tool_calling_iterations=4,
            gradient_checkpointing=False,
            pad_to_multiple_of=None,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        )
        watch = Watch(threshold)

        class Listen(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                watch.begun = time.perf_counter(), time.process_time()

            def on_log(
                self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any
            ) -> None:
                if logs and "reward" in logs and watch.step(float(logs["reward"])):
                    control.should_training_stop = True

        model = AutoModelForCausalLM.from_pretrained(start)
        trainer = trl.GRPOTrainer(
            model,
            None,
            args,
            Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Listen()],
            environment_factory=TrlLock,
        )
        trainer.train()
        return watch.found()


SYSTEMS = {"foldgym": ours, "trl": theirs}


def same_prompt(start: str) -> bool:
    """Whether both show the model the same ids at first."""
    from foldgym.agents.engines.tokenizer import load_tokenizer
    from foldgym.types import Message

    renderer = Bare(load_tokenizer(start))
    mine = (*renderer.open([Message("user", "open")], Lock().tools), *renderer.header())
    written = chat_tokenizer(start).apply_chat_template(
        [{"role": "user", "content": "open"}],
        tools=[TrlLock().turn_to],
        add_generation_prompt=True,
        return_dict=False,
    )
    return mine == tuple(written)


if __name__ == "__main__":
    path, system, numbers, most, least = sys.argv[1:]
    for seed in range(FIRST, FIRST + int(numbers)):
        result = SYSTEMS[system](path, seed, int(most), float(least))
        print(json.dumps(result), flush=True)
