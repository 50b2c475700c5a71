"""vLLM in this very process, for one GPU that learner and sampler have in turn.

One thread owns vLLM's engine: it takes in requests between two steps, so all that ask at once share
a batch. The calls are those of `vllm_client.Client`.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count
from typing import Any, TypeVar

from foldgym.agents.engines.vllm_client import Said, Unreachable
from foldgym.errors import EngineError
from foldgym.types import Finish, Ids, Sampling

T = TypeVar("T")


@dataclass(slots=True)
class _Asked:
    """A request under way: who waits for it, and what was said so far."""

    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    newest: Any = None

    def answer(self, value: Any = None, problem: Exception | None = None) -> None:
        """From the engine's thread."""

        def settle() -> None:
            if not self.future.done():
                if problem is None:
                    self.future.set_result(value)
                else:
                    self.future.set_exception(problem)

        self.loop.call_soon_threadsafe(settle)


class Resident:
    """vLLM's `LLM` made with `settings` and `variables`; `start` before, `close` after all else."""

    def __init__(self, settings: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self.url = "vLLM in this process"
        self._settings, self._variables = dict(settings), dict(variables)
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._asked: dict[str, _Asked] = {}
        self._names = map(str, count())
        self._thread: threading.Thread | None = None
        self._llm: Any = None
        self._params: Any = None

    async def start(self) -> None:
        """Loads the model. Raises `EngineError`."""
        self._thread = threading.Thread(target=self._live, name="vllm", daemon=True)
        self._thread.start()
        await self._do(self._make)

    async def complete(
        self, prompt: Ids, sampling: Sampling, stop_ids: Ids, seed: int, seconds: float = 0.0
    ) -> Said:
        """As `Client.complete`; `seconds` are not counted."""
        found = await self._ask(
            prompt,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            seed=seed,
            stop=list(sampling.stops),
            stop_token_ids=list(stop_ids),
            include_stop_str_in_output=True,
            logprobs=0,
            ignore_eos=True,
            skip_special_tokens=False,
        )
        if found is None:
            return Said((), (), None)
        said = found.outputs[0]
        ids = tuple(said.token_ids)
        rows = zip(said.logprobs or (), ids, strict=True)
        logprobs = tuple(float(row[token].logprob) for row, token in rows)
        if not sampling.temperature:
            logprobs = (0.0,) * len(ids)
        if said.finish_reason is None or said.finish_reason == "abort":
            return Said(ids, logprobs, None)
        if said.finish_reason == "length":
            return Said(ids, logprobs, Finish.LENGTH)
        marked = isinstance(said.stop_reason, str)
        return Said(ids, logprobs, Finish.MARKER if marked else Finish.STOP)

    async def read(self, ids: Ids) -> tuple[float, ...]:
        """As `Client.read`."""
        found = await self._ask(ids, max_tokens=1, temperature=1.0, prompt_logprobs=0)
        rows = zip(found.prompt_logprobs[1:], ids[1:], strict=True)
        return tuple(float(row[token].logprob) for row, token in rows)

    async def pause(self) -> None:
        """Ends all completions where they are."""
        await self._do(self._interrupt)

    async def call(self, method: str, **kwargs: Any) -> None:
        """Has the worker run a method of its own."""
        await self._do(lambda: self._llm.collective_rpc(method, kwargs=kwargs))

    async def forget(self) -> None:
        """Forgets keys and values, which old weights computed."""
        await self._do(lambda: self._llm.reset_prefix_cache())

    async def resume(self) -> None:
        """Nothing waits inside: the engine's thread runs what it is given."""

    async def sleep(self) -> None:
        """Gives the memory of weights and cache back to the GPU."""
        await self._do(self._interrupt)
        await self._do(lambda: self._llm.sleep(level=2))

    async def wake(self, part: str) -> None:
        """Takes the memory of `weights` or `kv_cache` again."""
        await self._do(lambda: self._llm.wake_up(tags=[part]))

    async def length(self) -> int:
        """How many ids a prompt and its completion may have together."""
        return int(self._llm.llm_engine.model_config.max_model_len)

    async def answers(self, prompt: Ids, seconds: float) -> bool:
        """Whether the engine's thread is there and has not failed."""
        try:
            await self.complete(prompt, Sampling(max_tokens=1), (), 0)
        except EngineError:
            return False
        return True

    async def close(self) -> None:
        """Ends the thread, and vLLM with it."""
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    # ------------------------------------------------------------ in the loop

    async def _ask(self, prompt: Ids, **params: Any) -> Any:
        loop = asyncio.get_running_loop()
        name, asked = next(self._names), _Asked(loop.create_future(), loop)
        self._jobs.put(partial(self._add, name, asked, prompt, params))
        try:
            return await asked.future
        except asyncio.CancelledError:
            self._jobs.put(partial(self._drop, name))
            raise

    async def _do(self, act: Callable[[], T]) -> T:
        """Runs `act` in the engine's thread, between two steps."""
        loop = asyncio.get_running_loop()
        asked = _Asked(loop.create_future(), loop)

        def job() -> None:
            try:
                asked.answer(act())
            except Exception as problem:  # vLLM raises all kinds
                asked.answer(problem=Unreachable(f"{self.url} failed: {_line(problem)}"))

        self._jobs.put(job)
        return await asked.future

    # ------------------------------------------------------------ in the engine's thread

    def _live(self) -> None:
        while True:
            try:
                job = self._jobs.get(block=not self._asked)
            except queue.Empty:
                self._step()
                continue
            if job is None:
                break
            job()
        self._interrupt()
        self._llm = None

    def _make(self) -> None:
        os.environ.update(self._variables)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        module = import_module("vllm")
        self._params = module.SamplingParams
        self._llm = module.LLM(**self._settings)

    def _add(self, name: str, asked: _Asked, prompt: Ids, params: Mapping[str, Any]) -> None:
        try:
            question = {"prompt_token_ids": list(prompt)}
            self._llm.llm_engine.add_request(name, question, self._params(**params))
        except Exception as problem:
            asked.answer(problem=EngineError(f"{self.url} refused: {_line(problem)}"))
        else:
            self._asked[name] = asked

    def _drop(self, name: str) -> None:
        if self._asked.pop(name, None) is not None:
            self._llm.llm_engine.abort_request([name])

    def _interrupt(self) -> None:
        """Everybody gets what there is."""
        asked, self._asked = self._asked, {}
        if asked:
            self._llm.llm_engine.abort_request(list(asked))
        for each in asked.values():
            each.answer(each.newest)

    def _step(self) -> None:
        try:
            outputs = self._llm.llm_engine.step()
        except Exception as problem:
            asked, self._asked = self._asked, {}
            for each in asked.values():
                each.answer(problem=Unreachable(f"{self.url} failed: {_line(problem)}"))
            return
        for output in outputs:
            each = self._asked.get(output.request_id)
            if each is not None:
                each.newest = output
                if output.finished:
                    del self._asked[output.request_id]
                    each.answer(output)


def _line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
