"""The calls of a vLLM server that rollouts and weight updates need, each with its failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from foldgym.agents.engines.vllm_server import NAME
from foldgym.errors import EngineError
from foldgym.types import Finish, Ids, Sampling

_CONTROL_SECONDS = 120.0
_REST_SECONDS = 2.0  # of a connection before it is closed; vLLM would close it after 5, as we ask


@dataclass(frozen=True, slots=True)
class Said:
    """Ids and their log-probs; `finish` is None where the server was told to stop in between."""

    ids: Ids
    logprobs: tuple[float, ...]
    finish: Finish | None


class Unreachable(EngineError):
    """The server did not answer, or with an error of its own: it may be dead."""


class Calls(Protocol):
    """What an engine asks of a vLLM, in another process or in this one."""

    url: str

    async def complete(  # noqa: D102
        self, prompt: Ids, sampling: Sampling, stop_ids: Ids, seed: int, seconds: float = 0.0
    ) -> Said: ...
    async def read(self, ids: Ids) -> tuple[float, ...]: ...  # noqa: D102
    async def pause(self) -> None: ...  # noqa: D102
    async def call(self, method: str, **kwargs: Any) -> None: ...  # noqa: D102
    async def forget(self) -> None: ...  # noqa: D102
    async def resume(self) -> None: ...  # noqa: D102
    async def sleep(self) -> None: ...  # noqa: D102
    async def wake(self, part: str) -> None: ...  # noqa: D102
    async def length(self) -> int: ...  # noqa: D102
    async def answers(self, prompt: Ids, seconds: float) -> bool: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102


class Client:
    """`complete` and `read` for log-probs; the rest is for an update of weights.

    Every call raises `Unreachable` where the server may be dead, `EngineError` where it refuses.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.seconds = url.rstrip("/").removesuffix("/v1"), seconds
        endless = httpx.Limits(
            max_connections=None, max_keepalive_connections=None, keepalive_expiry=_REST_SECONDS
        )
        self._http = httpx.AsyncClient(
            base_url=self.url, timeout=httpx.Timeout(seconds), limits=endless, trust_env=False
        )

    async def complete(
        self, prompt: Ids, sampling: Sampling, stop_ids: Ids, seed: int, seconds: float = 0.0
    ) -> Said:
        """Continues `prompt`; log-probs are those of the tempered distribution.

        Greedy ids were certain: their log-probs are 0.
        """
        question = {
            "model": NAME,
            "prompt": list(prompt),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": seed,
            "stop": list(sampling.stops),
            "stop_token_ids": list(stop_ids),
            "logprobs": 0,
            "return_token_ids": True,
            "ignore_eos": True,  # the renderer's stop ids end a turn, nothing else
            "skip_special_tokens": False,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        return _said(await self._post("/v1/completions", question, seconds), sampling)

    async def read(self, ids: Ids) -> tuple[float, ...]:
        """log p of every id but the first, at temperature 1."""
        question = {
            "model": NAME,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
        }
        answer = await self._post("/v1/completions", question)
        try:
            rows = answer["choices"][0]["prompt_logprobs"][1:]
            pairs = zip(rows, ids[1:], strict=True)
            return tuple(float(row[str(token)]["logprob"]) for row, token in pairs)
        except (LookupError, TypeError, ValueError) as problem:
            raise EngineError(f"{self.url} gave no log-probs of its prompt: {problem!r}") from None

    async def pause(self) -> None:
        """Ends all completions where they are; those that come in wait."""
        await self._post("/pause", params={"mode": "abort"}, seconds=_CONTROL_SECONDS)

    async def call(self, method: str, **kwargs: Any) -> None:
        """Has every worker run a method of its own."""
        question = {"method": method, "kwargs": kwargs}
        await self._post("/collective_rpc", question, seconds=_CONTROL_SECONDS)

    async def forget(self) -> None:
        """Forgets keys and values, which old weights computed."""
        await self._post("/reset_prefix_cache", seconds=_CONTROL_SECONDS)

    async def resume(self) -> None:
        """Goes on."""
        await self._post("/resume", seconds=_CONTROL_SECONDS)

    async def sleep(self) -> None:
        """Gives the memory of weights and cache back to the GPU."""
        await self._post("/sleep", params={"level": "2"}, seconds=_CONTROL_SECONDS)

    async def wake(self, part: str) -> None:
        """Takes the memory of `weights` or `kv_cache` again; what was in it is gone."""
        await self._post("/wake_up", params={"tags": part}, seconds=_CONTROL_SECONDS)

    async def length(self) -> int:
        """How many ids a prompt and its completion may have together; -1 if it does not tell."""
        answer = await self._call("GET", "/v1/models")
        models = answer.get("data") or [{}]
        mine = next((each for each in models if each.get("id") == NAME), None)
        if mine is None:
            names = ", ".join(str(each.get("id")) for each in models)
            raise EngineError(
                f"{self.url} serves {names}, not {NAME!r}; start it with --served-model-name {NAME}"
            )
        return int(mine.get("max_model_len") or -1)

    async def answers(self, prompt: Ids, seconds: float) -> bool:
        """Whether it samples one id within `seconds`."""
        try:
            await self.complete(prompt, Sampling(max_tokens=1), (), 0, seconds)
        except EngineError:
            return False
        return True

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        return await self._call("POST", path, body, seconds, params)

    async def _call(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        try:
            answer = await self._http.request(
                verb, path, json=body, params=params, timeout=seconds or self.seconds
            )
        except httpx.TimeoutException:
            limit = seconds or self.seconds
            raise Unreachable(f"{self.url}{path} did not answer in {limit:g} seconds") from None
        except httpx.HTTPError as problem:
            what = str(problem) or type(problem).__name__
            raise Unreachable(f"{self.url}{path} is out of reach: {what}") from None
        if answer.status_code == 404:
            raise EngineError(
                f"{self.url} does not know {path}; weights can only be pushed to a server that was "
                "started with VLLM_SERVER_DEV_MODE=1 in its environment"
                if path != "/v1/completions"
                else f"{self.url} does not know {path}, or no model {NAME!r}: {_reason(answer)}"
            )
        if answer.status_code >= 500:
            raise Unreachable(f"{self.url}{path} failed: {_reason(answer)}")
        if answer.status_code >= 400:
            raise EngineError(f"{self.url}{path} refused: {_reason(answer)}")
        try:
            return answer.json() if answer.content else {}
        except ValueError:
            raise Unreachable(f"{self.url}{path} answered something else than JSON") from None


def _said(answer: Any, sampling: Sampling) -> Said:
    try:
        [choice] = answer["choices"]
        ids = tuple(map(int, choice["token_ids"]))
        scores = choice["logprobs"]["token_logprobs"] if choice["logprobs"] else ()
        logprobs = tuple(map(float, scores))
        why, by = choice["finish_reason"], choice.get("stop_reason")
    except (LookupError, TypeError, ValueError) as problem:
        raise EngineError(f"vLLM answered without ids and log-probs: {problem!r}") from None
    if len(ids) != len(logprobs):
        raise EngineError(f"vLLM answered {len(ids)} ids with {len(logprobs)} log-probs")
    if not sampling.temperature:
        logprobs = (0.0,) * len(ids)
    if why == "abort":
        return Said(ids, logprobs, None)
    if why == "length":
        return Said(ids, logprobs, Finish.LENGTH)
    return Said(ids, logprobs, Finish.MARKER if isinstance(by, str) else Finish.STOP)


def _reason(answer: httpx.Response) -> str:
    """What the server says went wrong, in one line."""
    try:
        told = answer.json()
        text = (told.get("error") or told)["message"] if isinstance(told, dict) else str(told)
    except (ValueError, LookupError, TypeError, AttributeError):
        text = answer.text
    return f"{answer.status_code} {' '.join(str(text).split())[:300]}"
