"""Beside TRL's GRPOTrainer with `environment_factory`: latency, trouble, a step, learning.

    python -m benchmarks.suites.trl            # all of it, some ten minutes on a quiet machine
    python -m benchmarks.suites.trl --quick    # small numbers, to see that it runs

Both run on the same machine in alternation, so what else is at work hits both; only ratios within a
run mean something. Processor seconds are of the process, one thread each.

B1  what is timed: from N tasks to padded, scored arrays. TRL: `_generate_and_score_completions`,
    which is reset, chat template, generation, tool calls, reward, advantage. foldgym: `rollout`,
    rubric, advantage, `make_batch`. Sampling is scripted in both (4 calls, then "done"): it costs
    nothing, so what is left is the loop. Ideal: (1 reset + 4 calls) * latency.
B2  16 episodes of the same, one of which hangs for ever and one raises, 0.1 s a call.
B4  one whole update: 16 rows of 64 sampled ids at most, one turn, a model of 1 layer and 32 units.
B5  see `suites.trl_learning`.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.suites.trl_worlds import TURNS, TrlWaits, Waits

ROOT = Path(__file__).parents[2]
BUDGET = 1.0  # seconds a call in B2
PATIENCE = 20.0  # seconds after which a run that hangs is killed
Found = dict[str, Any]


# ---------------------------------------------------------------- a tiny model and its words


def folder_of(where: Path, positions: int = 4096) -> str:
    """A policy folder: one layer, 32 units, random weights, ChatML."""
    from foldgym.agents.engines.models import init_model, write_policy
    from foldgym.agents.engines.tokenizer import CHATML_CONTROLS, CONTROLS, train_tokenizer

    text = '<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call> who rules Ada and Bo done'
    tokenizer = train_tokenizer([text] * 50, 320, (CONTROLS[0], *CHATML_CONTROLS))
    model = init_model(
        vocab_size=tokenizer.vocab_size,
        hidden=32,
        layers=1,
        heads=2,
        max_positions=positions,
        pad_id=0,
        stop_id=tokenizer.control("<|im_end|>"),
    )
    write_policy(where / "tiny", model, tokenizer, "chatml")
    return str(where / "tiny")


def theirs() -> Any:
    return import_module("trl")


def config(where: str, n: int, **more: Any) -> Any:
    options: Found = {
        "output_dir": where,
        "per_device_train_batch_size": n,
        "num_generations": n,
        "max_steps": 1,
        "max_completion_length": 2000,
        "gradient_checkpointing": False,
        "pad_to_multiple_of": None,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        **more,
    }
    return theirs().GRPOConfig(**options)


# ---------------------------------------------------------------- B1 and B2: the loop alone


def scripted_trainer(folder: str, n: int, kind: Any, reward: Any = None) -> Any:
    """A GRPOTrainer whose model always says the same: four calls, then "done"."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    call = '<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call><|im_end|>'
    said = [tokenizer(text)["input_ids"] for text in (call, "done<|im_end|>")]

    class Scripted(theirs().GRPOTrainer):
        turn = 0

        def _generate(self, prompts: Any) -> Any:
            self.turn = 0
            return super()._generate(prompts)

        def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
            ids = said[self.turn >= TURNS]
            self.turn += 1
            return [list(ids) for _ in prompt_ids], None

    prompt = [{"role": "user", "content": "wait four times"}]
    rows = Dataset.from_list([{"prompt": prompt, "task_seed": 0}] * n)
    return Scripted(folder, reward, config(folder + "-out", n), rows, environment_factory=kind)


def trl_rollout(trainer: Any, n: int) -> tuple[float, Any]:
    """Seconds of one generation with its scores, and what came of it."""
    rows = [dict(trainer.train_dataset[0]) for _ in range(n)]
    trainer.model.train()
    started = time.perf_counter()
    output = trainer._generate_and_score_completions(rows)
    seconds = time.perf_counter() - started
    assert output["tool_mask"].shape[0] == n
    return seconds, output


def our_rollout(
    n: int, latency: float, budget: float = 30.0, troubles: tuple[str, ...] = ()
) -> tuple[float, Any]:
    """The same with foldgym; the ids are those of a ChatML renderer over bytes."""
    from foldgym.agents.engines.scripted import FunctionPolicy
    from foldgym.agents.renderers import ChatMLRenderer
    from foldgym.agents.rollout import Rollout, rollout
    from foldgym.agents.tasks import run_to_end
    from foldgym.envs.worker import open_worker
    from foldgym.memory import FullHistory
    from foldgym.rewards import make_rubric
    from foldgym.testing.doubles import ByteTokenizer
    from foldgym.tools import call
    from foldgym.trainers.advantages.grpo import grpo
    from foldgym.trainers.batch import make_batch
    from foldgym.types import Budget, EnvHandle, Message, Prompt, Request

    places = iter(range(n))

    def open_env(request: Request) -> EnvHandle:
        place = next(places)
        trouble = troubles[place] if place < len(troubles) else ""
        return open_worker(lambda: Waits(latency, trouble), "thread", budget)

    def speak(prompt: Prompt, rng: Any) -> Message:
        return call("wait") if prompt.turn < TURNS else Message("assistant", "done")

    how = Rollout(ChatMLRenderer(ByteTokenizer()), FullHistory, budget=Budget(4096, 64), retries=0)
    request, policy, rubric = Request("waits", 0, n), FunctionPolicy(speak), make_rubric()
    started = time.perf_counter()
    groups = run_to_end(rollout([request], open_env, policy, how, 0, rubric.score))
    make_batch(groups, grpo(groups))
    return time.perf_counter() - started, groups[0]


def latencies(folder: str, cases: list[tuple[int, float, int]]) -> Found:
    """Seconds by N and latency: (N, latency, repeats), both systems in alternation."""
    found: Found = {}
    for n, latency, repeats in cases:
        trainer = waiting_trainer(folder, n, latency)
        our_rollout(n, 0.0)
        settle()
        mine, theirs = list[float](), list[float]()
        for _ in range(repeats):
            mine.append(our_rollout(n, latency)[0])
            theirs.append(their_wait(trainer, n))
        found[case(n, latency)] = side_by_side(latency, mine, theirs)
    return found


def waiting_trainer(folder: str, n: int, latency: float) -> Any:
    """A scripted trainer, warm: its templates are compiled, its environments made."""
    TrlWaits.latency = latency
    trainer = scripted_trainer(folder, n, TrlWaits)
    TrlWaits.latency = 0.0
    trl_rollout(trainer, n)
    TrlWaits.latency = latency
    return trainer


def their_wait(trainer: Any, n: int) -> float:
    """Seconds of one generation; every call must have been made."""
    seconds = trl_rollout(trainer, n)[0]
    assert all(each._calls == TURNS for each in trainer.environments)
    return seconds


def settle() -> None:
    """What was imported is looked at by no collection of garbage from now on, in either system."""
    gc.collect()
    gc.freeze()


def case(n: int, latency: float) -> str:
    return f"N={n}, {latency:g} s"


def side_by_side(latency: float, mine: list[float], theirs: list[float]) -> Found:
    """The seconds of both, and what they are of the ideal."""
    ideal = (TURNS + 1) * latency
    row: Found = {
        "ideal_seconds": ideal,
        "foldgym_seconds": spread(mine),
        "trl_seconds": spread(theirs),
        "trl_over_foldgym": round(statistics.median(theirs) / statistics.median(mine), 2),
    }
    if latency:
        row["foldgym_of_ideal"] = round(statistics.median(mine) / ideal, 3)
        row["trl_of_ideal"] = round(statistics.median(theirs) / ideal, 2)
    return row


def spread(values: list[float]) -> Found:
    """Median and range."""
    return {
        "median": float(f"{statistics.median(values):.4g}"),
        "least": float(f"{min(values):.4g}"),
        "most": float(f"{max(values):.4g}"),
        "repeats": len(values),
    }


def trl_with_trouble(folder: str, troubles: tuple[str, ...], when: str = "step") -> Found:
    """TRL alone with troubled environments; for a process of its own."""
    TrlWaits.latency, TrlWaits.troubles, TrlWaits.when = 0.1, troubles, when
    trainer = scripted_trainer(folder, 16, TrlWaits)
    print("ready", flush=True)
    try:
        seconds, output = trl_rollout(trainer, 16)
    except Exception as problem:
        return {"step": f"{type(problem).__name__}: {problem}"}
    assert len(trainer.environments) == 16
    advantages = [round(value, 2) for value in output["advantages"].tolist()]
    return {"seconds": round(seconds, 2), "advantage_of_the_failed": min(advantages)}


def foldgym_inside_trl(folder: str, troubles: tuple[str, ...]) -> Found:
    """TRL's loop over our `environment_factory`; for a process of its own."""
    import warnings

    from foldgym.envs.worker import open_worker
    from foldgym.integrations import trl as fold

    warnings.simplefilter("ignore")
    kind = fold.environment_factory(f"{Path(__file__).parent / 'trl_worlds.py'}:Waits")
    made = iter(range(1 << 30))

    class Troubled(kind):
        _plan: Any

        def __init__(self) -> None:
            super().__init__()
            number = next(made)
            trouble = troubles[number] if number < len(troubles) else ""
            plan = kind._plan
            self._plan = type(plan)(
                plan.label,
                lambda: open_worker(lambda: Waits(0.1, trouble), "thread", BUDGET),
                plan.tools,
                plan.max_turns,
                plan.retries,
            )

    trainer = scripted_trainer(folder, 16, Troubled, fold.reward())
    print("ready", flush=True)
    seconds, output = trl_rollout(trainer, 16)
    failed = output["advantages"].tolist()
    return {
        "seconds": round(seconds, 2),
        "failures": trainer._metrics["train"]["foldgym/failures"][-1],
        "advantage_of_the_failed": max(abs(failed[2]), abs(failed[5])),
    }


def trouble(folder: str) -> Found:
    """B2."""
    both = tuple({2: "hang", 5: "raise"}.get(place, "") for place in range(16))
    seconds, group = our_rollout(16, 0.1, BUDGET, both)
    return {
        "budget_seconds": BUDGET,
        "foldgym, one hangs, one raises": {
            "seconds": round(seconds, 2),
            "finished": len(group.trajectories),
            "failures": sorted(each.error.partition(":")[0] for each in group.failures),
        },
        "TRL, one hangs": in_process("trouble", folder, "hang", "step", patience=PATIENCE),
        "TRL, one raises in a tool": in_process("trouble", folder, "raise", "step"),
        "TRL, one raises in reset": in_process("trouble", folder, "raise", "reset"),
        "TRL with foldgym's environment_factory, one hangs, one raises": in_process(
            "inside", folder, patience=120
        ),
    }


def in_process(*words: str, patience: float = 600.0) -> Found:
    """What a process of its own printed last; see `lines_of`."""
    return lines_of(*words, patience=patience)[-1]


def lines_of(*words: str, patience: float = 600.0, module: str = "trl") -> list[Found]:
    """The JSON that a process of its own printed; killed `patience` seconds after it was ready."""
    command = [sys.executable, "-m", f"benchmarks.suites.{module}", *words]
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env=environment()
        )
        lines: list[str] = []
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line.strip())
            if line.strip() == "ready":
                timer = threading.Timer(patience, child.kill)
                timer.daemon = True
                timer.start()
        code = child.wait()
        if code == -9:
            return [{"step": f"still hung when killed after {patience:g} s"}]
        if code:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(words)}: {errors.read()[-2000:]}")
    return [json.loads(line) for line in lines if line.startswith('{"')]


def environment() -> dict[str, str]:
    quiet = {"TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


# ---------------------------------------------------------------- B4: one whole update


def whole_step(folder: str, steps: int, rounds: int) -> Found:
    """B4, in processes of their own and in alternation."""
    found: dict[str, list[Found]] = {"foldgym": [], "trl": []}
    for _ in range(rounds):
        for system, runs in found.items():
            runs.append(in_process("step", system, folder, str(steps)))
    return {
        system: {
            name: spread([value for run in runs for value in run[name]])
            for name in ("seconds", "processor_seconds")
        }
        | {
            "tokens_a_step": round(statistics.fmean(run["tokens"] for run in runs)),
            "peak_mb": max(run["peak_mb"] for run in runs),
        }
        for system, runs in found.items()
    }


# ---------------------------------------------------------------- B5: learning


def learning(seeds: int, steps: int, threshold: float, start: str = "") -> Found:
    """B5; the two systems run at the same time, so what else is at work hits both alike."""
    from benchmarks.suites.trl_learning import clone, same_prompt

    with tempfile.TemporaryDirectory() as folder:
        start = start or str(clone(Path(folder) / "start"))
        assert same_prompt(start)
        words = (str(seeds), str(steps), str(threshold))
        with ThreadPoolExecutor(2) as both:
            waiting = {
                system: both.submit(lines_of, start, system, *words, module="trl_learning")
                for system in ("foldgym", "trl")
            }
    found: Found = {"threshold": threshold, "most_steps": steps, "seeds": seeds}
    for system, future in waiting.items():
        runs = future.result()
        found[system] = {
            "reached": f"{sum(each['reached'] for each in runs)} of {seeds}",
            **{
                name: spread([float(each[name]) for each in runs])
                for name in ("steps", "seconds", "processor_seconds", "seconds_a_step", "peak_mb")
            },
            "curves": [each["curve"] for each in runs],
        }
    return found


def run(quick: bool = False) -> Found:
    os.environ.update(environment())
    with tempfile.TemporaryDirectory() as where:
        folder = folder_of(Path(where))
        short = (
            [(16, 0.0, 3)] if quick else [(16, 0.0, 9), (64, 0.0, 9), (16, 0.1, 5), (64, 0.1, 3)]
        )
        long = [(4, 0.1)] if quick else [(16, 1.0), (64, 1.0)]
        first = latencies(folder, short)
        note("B1", first)
        mine = {(n, wait): [our_rollout(n, wait)[0] for _ in range(3)] for n, wait in long}
        # TRL sleeps here for minutes, which costs nothing: the rest is measured meanwhile
        later: dict[tuple[int, float], list[float]] = {}
        sleeps = threading.Thread(target=lambda: later.update(their_long_waits(folder, long)))
        sleeps.start()
        found: Found = {"B1 rollout": first}
        steps: dict[str, Callable[[], Found]] = {
            "B2 trouble": lambda: trouble(folder),
            "B4 step": lambda: whole_step(folder, 4 if quick else 8, 1 if quick else 2),
            "B5 learning": lambda: learning(1 if quick else 5, 3 if quick else 80, 0.7),
        }
        for name, measure in steps.items():
            found[name] = measure()
            note(name, found[name])
        sleeps.join()
        for n, wait in long:
            first[case(n, wait)] = side_by_side(wait, mine[n, wait], later[n, wait])
        note("B1", first)
    return found


def their_long_waits(
    folder: str, cases: list[tuple[int, float]]
) -> dict[tuple[int, float], list[float]]:
    """TRL alone, once each, in processes of their own."""
    return {
        (n, wait): [in_process("sleep", folder, str(n), str(wait))["seconds"]] for n, wait in cases
    }


def note(name: str, found: Found) -> None:
    print(f"{name} {json.dumps(found)}", flush=True)


def main(words: list[str]) -> None:
    match words:
        case ["trouble", folder, kind, when]:
            troubles = tuple(kind if place == 5 else "" for place in range(16))
            result = trl_with_trouble(folder, troubles, when)
        case ["inside", folder]:
            both = tuple({2: "hang", 5: "raise"}.get(place, "") for place in range(16))
            result = foldgym_inside_trl(folder, both)
        case ["sleep", folder, n, latency]:
            trainer = waiting_trainer(folder, int(n), float(latency))
            result = {"seconds": their_wait(trainer, int(n))}
        case ["learning", start, seeds, steps]:
            result = learning(int(seeds), int(steps), 0.7, start)
        case ["step", system, folder, steps]:
            from benchmarks.suites.trl_step import SYSTEMS

            result = SYSTEMS[system](folder, int(steps))
        case _:
            result = run("--quick" in words)
            if "--quick" not in words:
                from benchmarks.run import HERE, machine

                table = {"machine": machine(), **result}
                (HERE / "results" / "trl.json").write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(result), flush=True)
    sys.stdout.flush()
    os._exit(0)  # a thread that hangs must not keep the process


if __name__ == "__main__":
    main(sys.argv[1:])
