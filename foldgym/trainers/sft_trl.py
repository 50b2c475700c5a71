"""Cloning by TRL's `SFTTrainer`, for what surrounds it: `accelerate launch` over several processes.

TRL is handed our rows: the very ids, and which of them count. Nothing is rendered or tokenised
again, optimiser and schedule are ours, and a step is a step of ours on the same demonstrations with
`context_weight = 0`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from foldgym.config import SftRun
from foldgym.errors import ConfigError, MissingExtra, NotFinite
from foldgym.trainers.batch import make_batch
from foldgym.trainers.optim import Optim, adamw
from foldgym.trainers.wiring import Actor
from foldgym.types import Group

IGNORED = -100  # the label of an id that does not count
_LOGGED = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "lr", "entropy": "entropy"}
Told = Callable[[int, dict[str, float]], None]


def rows_of(groups: Sequence[Group]) -> list[dict[str, list[int]]]:
    """Rows as TRL takes them: `input_ids`, and `labels`, the ids where they were sampled."""
    batch = make_batch(groups)
    found: list[dict[str, list[int]]] = []
    for ids_T, turn_T, length in zip(batch.ids_BT, batch.turn_BT, batch.length_B, strict=True):
        ids = ids_T[:length].tolist()
        labels = [i if turn >= 0 else IGNORED for i, turn in zip(ids, turn_T, strict=False)]
        found.append({"input_ids": ids, "labels": labels})
    return found


@dataclass(slots=True)
class Cloning:
    """A cloning run in TRL's hands. Raises `MissingExtra`, or `ConfigError` for the processes."""

    run: SftRun
    actor: Actor
    optim: Optim
    state: Any = field(init=False)  # accelerate's: who we are among the processes

    def __post_init__(self) -> None:
        try:
            import trl
        except ModuleNotFoundError as problem:
            raise MissingExtra('sft.trainer = "trl"', "trl") from problem
        from accelerate import PartialState

        del trl
        self.state = PartialState(cpu=self.actor.policy.model.device.type == "cpu")
        kind = str(self.state.distributed_type).rpartition(".")[2]
        if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
            raise ConfigError(
                f"sft.trainer: one process writes the checkpoint and must hold all weights, which "
                f"none does under {kind}; launch plain data parallel processes"
            )
        share = self.state.num_processes * self.run.sft.accumulate
        if self.run.sft.batch % share:
            raise ConfigError(
                f"sft.batch: {self.run.sft.batch} demonstrations cannot be shared out evenly among "
                f"{self.state.num_processes} processes with sft.accumulate = "
                f"{self.run.sft.accumulate}"
            )

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return bool(self.state.is_main_process)

    def train(self, show: Callable[[int], list[Group]], folder: Path, told: Told) -> None:
        """Trains the actor's model in place; `told` hears of every step.

        All demonstrations are made first, in every process the same. Raises `ConfigError` if one
        folded into several rows, and `NotFinite` for a loss that is not finite.
        """
        import trl
        from datasets import Dataset

        sft = self.run.sft
        rows = [row for step in range(1, sft.steps + 1) for row in rows_of(show(step))]
        if len(rows) != sft.steps * sft.batch:
            raise ConfigError(
                f"sft.trainer: {sft.steps * sft.batch} demonstrations are {len(rows)} rows, and "
                'TRL takes sft.batch rows a step; set sft.trainer = "foldgym" for demonstrations '
                "that fold or fail"
            )
        model, theirs = self.actor.policy.model, _untyped(trl)
        args = theirs.SFTConfig(
            output_dir=str(folder / "trl"),
            max_steps=sft.steps,
            per_device_train_batch_size=sft.batch // (self.state.num_processes * sft.accumulate),
            gradient_accumulation_steps=sft.accumulate,
            max_grad_norm=sft.clip,
            max_length=None,
            train_sampling_strategy="sequential",
            gradient_checkpointing=sft.checkpointing,
            seed=self.run.seed % 2**32,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            bf16=False,  # the weights have the dtype that the run file says
            use_cpu=model.device.type == "cpu",
            dataloader_pin_memory=False,
        )
        optimiser = adamw([p for p in model.parameters() if p.requires_grad], self.optim)
        rate = self.optim.rate
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate(step) / self.optim.lr
        )
        trainer = theirs.SFTTrainer(
            model,
            args,
            train_dataset=Dataset.from_list(rows),
            processing_class=_words(self.actor),
            optimizers=(optimiser, schedule),
            callbacks=[_listener(told)],
        )
        trainer.train()
        model.eval()
        self.actor.policy.advance()


def _untyped(module: Any) -> Any:
    return module


def _words(actor: Actor) -> Any:
    """The tokenizer as transformers wants it; TRL looks up nothing but the padding id in it."""
    import json
    import tempfile

    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        actor.tokenizer.save(folder)
        settings = json.loads((Path(folder) / "tokenizer_config.json").read_text("utf-8"))
        file = str(Path(folder) / "tokenizer.json")
        words: Any = PreTrainedTokenizerFast(tokenizer_file=file, **_tokens(settings))
    if words.pad_token is None:
        words.pad_token = words.eos_token or words.convert_ids_to_tokens(actor.renderer.stop_ids[0])
    if words.eos_token is None:
        words.eos_token = words.convert_ids_to_tokens(actor.renderer.stop_ids[0])
    return words


def _tokens(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in ("pad_token", "eos_token") if key in settings}


def _listener(told: Told) -> Any:
    from transformers import TrainerCallback

    class Listener(TrainerCallback):
        """Hands what TRL logs of a step on."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """A step's line; the last one, about the whole run, has no loss."""
            if not logs or "loss" not in logs:
                return
            numbers = {ours: float(logs[name]) for name, ours in _LOGGED.items() if name in logs}
            if not all(map(torch.isfinite, map(torch.tensor, numbers.values()))):
                raise NotFinite(
                    f"step {state.global_step}: {numbers}; the checkpoint is not written"
                )
            told(int(state.global_step), numbers)

    return Listener()
