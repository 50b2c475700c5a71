"""Crews of two, forked from one process that has imported everything; no launcher is involved.

`python crew_worker.py FOLDER` learns from a fixed batch, and rank 0 writes down what came of it;
`FOLDER WORDS -- WORDS ...` then runs each `foldgym WORDS` as two processes.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from torch.distributed.fsdp import FSDPModule

import foldgym.trainers.train  # noqa: F401  (once, for all that are forked)
from foldgym.agents.engines import lora
from foldgym.agents.engines.models import init_model
from foldgym.cli.main import main as foldgym_main
from foldgym.errors import NotFinite, ProcessLost
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.crew import Bystander, Crew, Trainee, join, leave, together
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import k3, ppo_clip
from foldgym.trainers.optim import Optim
from foldgym.types import Batch, Group, Request, Reward, Segment, Stop, Task, Trajectory

OPTIM = Optim(lr=1e-2, warmup=0, clip=0.5, epochs=2, microbatch_tokens=24, logprob_chunk=4)
CASES = {
    "plain": ("float32", 0, OPTIM),
    "bf16": ("bfloat16", 0, OPTIM),
    "lora": ("float32", 4, OPTIM),
    "shared": ("float32", 0, replace(OPTIM, layout="shared", checkpointing=True)),
}

LAUNCHED = {  # as `accelerate launch` would say it
    "shared": {"ACCELERATE_USE_FSDP": "true", "FSDP_RESHARD_AFTER_FORWARD": "false"},
    "lora": {"ACCELERATE_USE_FSDP": "true", "FSDP_AUTO_WRAP_POLICY": "NO_WRAP"},
}


def batch(rows: int = 7) -> Batch:
    """Rows of lengths that differ, so that no two ranks have the same work."""
    trajectories = [
        Trajectory(f"t{n}", "world", Task("q", ()), 0, (), (segment(n),), Stop.DONE)
        for n in range(rows)
    ]
    rewards = tuple(Reward(float(n % 3), float(n % 3)) for n in range(rows))
    groups = [Group(Request("world", 0, rows), tuple(trajectories), rewards)]
    return make_batch(groups, dr_grpo(groups))


def segment(n: int) -> Segment:
    """`5 + n` ids, the last four sampled."""
    turns = (-1,) * (n + 1) + (0,) * 4
    ids = tuple((7 * at + 5 * n) % 64 for at in range(len(turns)))
    return Segment(ids, turns, tuple(-0.1 * (t + 1) * 40 for t in turns), tuple(turns))


def model_of(dtype: str, rank: int) -> Any:
    """A tiny model, adapted if `rank` is not 0."""
    model = init_model(vocab_size=64, hidden=32, layers=2, heads=2, head_dim=16, mlp=48)
    model = model.to(getattr(torch, dtype))
    if rank:
        lora.attach(model, lora.config_of(rank))
    return model


def policy_of(model: Any) -> Any:
    """All that a learner needs of a policy."""
    made = SimpleNamespace(model=model, version=0)
    made.advance = lambda: setattr(made, "version", made.version + 1)
    return made


def learner_of(case: str, crew: Crew) -> tuple[TorchLearner, Any]:
    """The learner of a rank, and the policy that plays with what it learns (on rank 0)."""
    dtype, rank, optim = CASES[case]
    whole = policy_of(model_of(dtype, rank)) if crew.rank == 0 else Bystander()
    trainee: Any = whole if crew.alone else Trainee(crew, model_of(dtype, rank), whole)
    os.environ.update(LAUNCHED.get(case, {}))
    reference = trainee.model if rank else model_of(dtype, 0).requires_grad_(False)
    more: Any = {"reference": reference, "kl": k3, "kl_coef": 0.1, "entropy": 0.01}
    made = TorchLearner(trainee, ppo_clip, optim, **more, recompute=True, crew=crew)
    for name in LAUNCHED.get(case, {}):
        del os.environ[name]
    return made, whole


def units_of(model: Any) -> dict[str, bool]:
    """What is gathered at once, by name, and whether it is sharded again after its forward pass."""
    sharded = {n: m for n, m in model.named_modules() if isinstance(m, FSDPModule)}
    groups = {name: module._get_fsdp_state()._fsdp_param_group for name, module in sharded.items()}
    return {name: bool(group.post_forward_mesh_info) for name, group in groups.items()}


def outcome(case: str, crew: Crew) -> dict[str, Any]:
    """Numbers of three updates, weights after them, and of a fourth from the saved state."""
    learner, whole = learner_of(case, crew)
    metrics = [learner.update(batch()) for _ in range(3)]
    few = learner.update(batch(1))  # one row: somebody has none
    state = learner.state()
    weights = {name: x.clone() for name, x in whole.model.state_dict().items()}
    more = {"work": astuple(learner.work()), "units": units_of(learner.columns.reader.scorer)}
    return {"metrics": [*metrics, few], "weights": weights, "state": state, **more}


def bad_loss(tokens: Any) -> Any:
    """Not finite for one trajectory, which one rank sees."""
    out = ppo_clip(tokens)
    return out._replace(loss_N=torch.where(tokens.trajectory_N == 6, torch.nan, out.loss_N))


def main(folder: Path) -> None:
    """All cases, each with a learner of its own; the other ranks serve them in turn."""
    torch.set_num_threads(1)
    crew, _ = join("cpu")
    found: dict[str, Any] = {}
    for case in CASES:
        if crew.rank:
            learner, _ = learner_of(case, crew)
            for _ in range(4):
                learner.update(batch(7 if learner.updates < 3 else 1))
            learner.state()
        else:
            found[case] = outcome_led(case, crew)
    learner, _ = learner_of("plain", crew)
    learner.loss = bad_loss
    try:
        learner.update(batch())
    except NotFinite as problem:
        found["problem"] = str(problem)
        (folder / f"rank{crew.rank}.txt").write_text(str(problem))
    if crew.rank:
        leave()
    try:
        with together("continue with --resume it"):
            crew.gather("")
    except ProcessLost as problem:
        found["lost"] = str(problem)
    torch.save(found, folder / "found.pt")
    leave()


def outcome_led(case: str, crew: Crew) -> dict[str, Any]:
    """Rank 0's outcome; its orders are left out, since the others call by themselves."""
    crew.order = lambda name, *values: None  # pyright: ignore
    return outcome(case, crew)


def two(job: Callable[[], int | None]) -> None:
    """Runs a job in two new processes, the ranks of a crew; raises if one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [os.fork() or _run(job, rank, port) for rank in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]
    if any(codes):
        raise SystemExit(f"exit codes {codes}")


def _run(job: Callable[[], int | None], rank: int, port: int) -> NoReturn:
    here = {"WORLD_SIZE": 2, "RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in here.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    code = 1
    try:
        code = job() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    two(partial(main, Path(sys.argv[1])))
    for words in " ".join(sys.argv[2:]).split(" -- "):
        if words:
            two(partial(foldgym_main, words.split()))
