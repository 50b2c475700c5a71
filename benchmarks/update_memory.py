"""What an update of the learner holds in memory at its peak, traced without memory or compute.

    python -m benchmarks.update_memory              # one row of 32,768 ids, Qwen 2.5 0.5 B's shape
    python -m benchmarks.update_memory --check      # the same trace beside real memory, at sizes
                                                    # that a CPU carries (some minutes, 9 GiB)

The learner's own code runs, whole updates with AdamW, on fake tensors (shapes without numbers); a
ledger below autograd sees every storage that an operation makes, until nobody holds it any more.
Figures are those of the second update, when the optimiser has its state. All ids are trained,
which is the worst case. `--check` runs the same ledger over real tensors, and reads the process's
own peak.

What no trace sees is what a kernel takes for itself while it runs; docs/scaling.md says how much
that is, and what is assumed of a GPU.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import import_utils

from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.console import note, table
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import LOSSES
from foldgym.trainers.optim import Optim
from foldgym.types import Batch

RESULTS = Path(__file__).parent / "results" / "update_memory.json"
GIB = 2**30
QWEN = {  # 2.5 0.5 B, which has 24 layers and 151,936 ids
    "hidden_size": 896,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32_768,
}
_ATEN = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Case:
    """One update: of what model, over a row of how many ids, with which options."""

    ids: int = 32_768
    dtype: str = "bfloat16"
    checkpointing: bool = True
    chunk: int = 2048
    rank: int = 0  # of adapters; 0: all weights train
    entropy: float = 0.0
    layers: int = 24
    vocab: int = 151_936
    foreach: bool = True  # AdamW's steps over all tensors at once, as on a GPU


TRACED = {
    "bf16": Case(),
    "fp32": Case(dtype="float32"),
    "bf16, lora.rank = 16": Case(rank=16),
    "bf16, with an entropy bonus": Case(entropy=0.01),
    "bf16, without checkpointing": Case(checkpointing=False),
    "bf16, all logits at once": Case(chunk=0),
}
_SMALL = Case(2048, "float32", chunk=512, vocab=32_768, layers=4, foreach=False)
CHECKED = {
    "fp32, 0.5 B, 512 ids": Case(512, "float32", chunk=128, foreach=False),
    "fp32, 4 layers, 2,048 ids": _SMALL,
    "the same without checkpointing": replace(_SMALL, checkpointing=False),
    "the same in bf16": replace(_SMALL, dtype="bfloat16"),
}

# ---------------------------------------------------------------- the ledger


@dataclass(slots=True)
class _Held:
    size: int
    kind: str
    watch: Any  # a weak reference must live to call back


class Ledger(TorchDispatchMode):
    """Every storage that operations made and somebody still holds, and the peaks of their sum.

    `peaks` are, by phase of the update that it was told to look at, the bytes by kind at its
    highest. Raises `RuntimeError` where attention writes its scores down.
    """

    def __init__(self, vocab: int, ids: int) -> None:
        super().__init__()
        self.vocab, self.ids = vocab, ids
        self.gradients: Callable[[], Iterable[Tensor]] | None = None
        self._differentiated = False
        self.peaks: dict[str, dict[str, int]] = {}
        self._held: dict[int, _Held] = {}
        self._sums: dict[str, int] = {}
        self._total, self._highest = 0, dict[str, int]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in pytree.tree_leaves(out):
            if isinstance(each, Tensor):
                self._see(each)
        return out

    def own(self, kind: str, tensors: Iterable[Tensor]) -> None:
        """These are of this kind from now on."""
        for each in tensors:
            held = self._held[each.untyped_storage()._cdata]
            self._add(held.kind, -held.size)
            self._add(kind, held.size)
            held.kind = kind

    def look(self, gradients: Callable[[], Iterable[Tensor]] | None) -> None:
        """Keep peaks from now on, of an update that begins; with None no more."""
        self.gradients, self._differentiated = gradients, False

    def _phase(self) -> str:
        """Forward, backward (activations computed again included) or what comes afterwards."""
        if torch._C._current_graph_task_id() != -1:
            self._differentiated = True
            return "backward"
        return "step" if self._differentiated else "forward"

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return
        if tensor.shape[-2:] == (self.ids, self.ids):
            raise RuntimeError(f"{self.ids} x {self.ids} scores of attention were written down")
        phase = self._phase()
        kind = self._kind(tensor, phase)
        self._held[key] = _Held(size, kind, weakref.ref(storage, lambda _: self._gone(key)))
        self._add(kind, size)
        if self.gradients is not None and self._total > self._highest.get(phase, 0):
            self._highest[phase] = self._total
            self.peaks[phase] = self._kinds(self.gradients())

    def _gone(self, key: int) -> None:
        held = self._held.pop(key)
        self._add(held.kind, -held.size)

    def _add(self, kind: str, size: int) -> None:
        self._total += size
        self._sums[kind] = self._sums.get(kind, 0) + size

    def _kinds(self, gradients: Iterable[Tensor]) -> dict[str, int]:
        found = self._sums | {"gradients": 0}
        for each in gradients:
            held = self._held[each.untyped_storage()._cdata]
            found[held.kind] -= held.size
            found["gradients"] += held.size
        return {kind: size for kind, size in found.items() if size}

    def _kind(self, tensor: Tensor, phase: str) -> str:
        if tensor.shape[-1:] == (self.vocab,):
            return "logits"
        if phase == "backward" and tensor.shape[:1] == (self.vocab,):
            return "gradient of the output matrix"
        return "kept by the forward pass" if phase == "forward" else "at work"


class _Answers(TorchDispatchMode):
    """Answers what code asks of numbers that are not there: they are finite, equal and true."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is _ATEN._local_scalar_dense.default:
            return (
                (1.0 if args[0].is_floating_point() else 1) if args[0].dtype != torch.bool else True
            )
        if func is _ATEN.allclose.default:
            return True
        if func is _ATEN.nonzero.default:  # of what is not finite
            return args[0].new_empty((0, args[0].ndim), dtype=torch.int64)
        if func is _ATEN.index.Tensor and args[1][0].dtype == torch.bool:  # of what was sampled
            args = (args[0], [torch.arange(args[1][0].numel())])
        return func(*args, **(kwargs or {}))


@contextmanager
def without_numbers() -> Generator[None]:
    """Inside, tensors have shapes alone.

    Transformers writes a mask of ids x ids for what it takes for a trace; a run's one row has none.
    """
    asks, import_utils.is_fake_tensor = import_utils.is_fake_tensor, lambda tensor: False
    try:
        with FakeTensorMode(), _Answers():
            yield
    finally:
        import_utils.is_fake_tensor = asks


# ---------------------------------------------------------------- updates


def one_row(ids: int, vocab: int) -> Batch:
    """A row of which all is trained that can be."""
    said_T = np.arange(ids) > 0
    return Batch(
        ids_BT=np.random.default_rng(0).integers(0, vocab, (1, ids)),
        turn_BT=np.where(said_T, 0, -1)[None],
        logprob_BT=np.where(said_T, -np.log(vocab), 0.0)[None],
        version_BT=np.where(said_T, 0, -1)[None],
        advantage_BT=np.where(said_T, 1.0, 0.0)[None],
        weight_BT=(said_T / (ids - 1))[None],
        length_B=np.array([ids]),
        row_trajectory_B=np.zeros(1, np.int64),
        row_group_B=np.zeros(1, np.int64),
    )


def new_model(case: Case) -> Any:
    """Random weights, made where torch's default device says."""
    shape = {**QWEN, "num_hidden_layers": case.layers, "vocab_size": case.vocab}
    config = AutoConfig.for_model("qwen2", **shape)
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, case.dtype))
    if case.rank:
        from foldgym.agents.engines import lora

        lora.attach(model, lora.config_of(case.rank))
    return model


def moved_in(model: Any) -> None:
    """Gives a model of the meta device tensors of the current mode, tied ones once."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for old in (module._parameters, module._buffers):
            for name, each in old.items():
                if each is not None and id(each) not in made:
                    new = torch.empty(each.shape, dtype=each.dtype)
                    trained = isinstance(each, nn.Parameter)
                    made[id(each)] = nn.Parameter(new, each.requires_grad) if trained else new
                if each is not None:
                    old[name] = made[id(each)]


def second_update(
    model: Any, case: Case, ledger: Ledger, mark: Callable[[], None] = lambda: None
) -> None:
    """Two updates under the ledger, which looks at the second; `mark` comes in between."""
    plan = Optim(
        lr=1e-6,
        microbatch_tokens=case.ids,
        checkpointing=case.checkpointing,
        logprob_chunk=case.chunk,
    )
    policy = TorchPolicy(model, (1,), pad_id=0)
    learner = TorchLearner(policy, LOSSES["ppo_clip"], plan, entropy=case.entropy)
    optimizer = learner.optimizer
    for group in optimizer.param_groups:
        group["foreach"] = case.foreach

    batch = one_row(case.ids, case.vocab)
    learner.update(batch)
    ledger.own("weights", (*model.parameters(), *model.buffers()))
    ledger.own("masters", [] if learner.masters is None else learner.masters.params)
    ledger.own("moments", (x for slot in optimizer.state.values() for x in slot.values()))
    mark()
    trained = {id(p): p for p in (*model.parameters(), *learner.params)}
    ledger.look(lambda: [p.grad for p in trained.values() if p.grad is not None])
    learner.update(batch)
    ledger.look(None)


def traced(case: Case) -> dict[str, dict[str, float]]:
    """GiB by phase and kind; nothing is computed."""
    with torch.device("meta"):
        model = new_model(case)
    with without_numbers(), Ledger(case.vocab, case.ids) as ledger:
        moved_in(model)
        second_update(model, case, ledger)
    return in_gib(ledger)


def in_gib(ledger: Ledger) -> dict[str, dict[str, float]]:
    return {
        phase: {kind: size / GIB for kind, size in kinds.items()}
        | {"sum": sum(kinds.values()) / GIB}
        for phase, kinds in ledger.peaks.items()
    }


# ---------------------------------------------------------------- beside real memory


def measured(case: Case) -> dict[str, float]:
    """The ledger's peak over real tensors, and GiB that the process grew by."""
    torch.set_num_threads(1)
    small = replace(case, ids=16, chunk=8, layers=1)
    with Ledger(small.vocab, small.ids) as ledger:  # whatever a first time brings along
        second_update(new_model(small), small, ledger)
    del ledger
    gc.collect()
    before = resident("VmRSS")
    with Ledger(case.vocab, case.ids) as ledger:
        second_update(new_model(case), case, ledger, forget_peak)
    return {"ledger": peak(in_gib(ledger)), "process": resident("VmHWM") - before}


def forget_peak() -> None:
    """The process's peak is from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(name: str) -> float:
    """GiB of this process in memory now (`VmRSS`), or at its peak (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 2**20


def checked(name: str) -> dict[str, Any]:
    """What is traced without numbers, with them, and what a process of its own took."""
    command = [sys.executable, "-m", "benchmarks.update_memory", "--real", name]
    # what malloc keeps for later is nobody's
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env)
    return {"fake": peak(traced(CHECKED[name])), **json.loads(done.stdout)}


def peak(phases: Mapping[str, Mapping[str, float]]) -> float:
    return max(kinds["sum"] for kinds in phases.values())


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.update_memory")
    parser.add_argument("--check", action="store_true", help="beside real memory")
    parser.add_argument("--real", choices=CHECKED, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.real:
        print(json.dumps(measured(CHECKED[args.real])))
        return 0
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    found: dict[str, Any] = {"date": today, "torch": torch.__version__}
    if args.check:
        found["checked"] = {
            name: {"case": asdict(CHECKED[name]), **checked(name)} for name in CHECKED
        }
        rows = [
            (name, each["fake"], each["ledger"], each["process"])
            for name, each in found["checked"].items()
        ]
        table("GiB at the peak", ("case", "fake", "real", "process"), rows)
    else:
        found["traced"] = {}
        for name, case in TRACED.items():
            note(f"{name} ...")
            found["traced"][name] = {"case": asdict(case), **traced(case)}
        kinds = [
            "weights",
            "masters",
            "moments",
            "gradients",
            "kept by the forward pass",
            "at work",
        ]
        kinds += ["logits", "gradient of the output matrix", "sum"]
        rows = [
            (name, phase, *(each[phase].get(kind, 0.0) for kind in kinds))
            for name, each in found["traced"].items()
            for phase in ("forward", "backward", "step")
        ]
        table("GiB at the peak", ("case", "in", *kinds), rows)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(before | found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
