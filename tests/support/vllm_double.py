"""Stands where an interpreter with vLLM would: a server that answers like it, without a model.

`python vllm_double.py -m vllm.entrypoints... --model FOLDER --port N` is how engines start it.
Every id has the log-prob `-log(VOCAB) - shift`, the `shift` being in FOLDER/shift.json. It says one
id every few milliseconds and may be interrupted. POST /double {"ill": ...} makes it ill:
"dead" it ends, "deaf" it never answers, "failing" it answers 500, "stale" it reads no new weights,
"raw" log-probs know no temperature, "shy" it has no calls for weights, "endless" it says nothing,
"halting" in the middle of each completion it waits until it is interrupted.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

VOCAB = 50
STEP = 0.002
STOP = 7  # said as the last of LONG ids, if it is a stop id
LONG = 40


def main(words: list[str]) -> None:
    """Serves until it is killed."""
    flags = dict(zip(words[2::2], words[3::2], strict=False))
    folder, port = Path(flags["--model"]), int(flags["--port"])
    if "--crash" in words:
        print("ValueError: no such model is known", file=sys.stderr)
        raise SystemExit(1)
    child = subprocess.Popen(["sleep", "1000"])  # stands for vLLM's own processes
    print(f"pids {os.getpid()} {child.pid}", flush=True)
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", port), handler(State(folder))).serve_forever()


class State:
    """Weights, illness, and whether it is paused or asleep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ill = ""
        self.went: list[str] = []
        self.extended: Any = None
        self.pauses = self.busy = 0
        self.goes = threading.Event()
        self.goes.set()
        self.load(folder)

    def load(self, folder: Path) -> None:
        self.shift = float(json.loads((folder / "shift.json").read_text()))

    def reload_weights(self, weights_iterator: Iterable[tuple[str, Any]]) -> None:
        """What a worker of vLLM does with weights that were sent to it."""
        self.shift = float(dict(weights_iterator)["shift"])

    def worker(self) -> Any:
        """The worker that takes them, as vLLM would make it of `--worker-extension-cls`."""
        if self.extended is None:
            foldgym_receiver = import_module("foldgym_receiver")  # from PYTHONPATH, with torch
            self.extended = foldgym_receiver.Receiver()
            self.extended.rank, self.extended.device = 0, "cpu"
            self.extended.reload_weights = self.reload_weights
        return self.extended

    def logprob(self, temperature: float) -> float:
        """A uniform distribution stays one; the shift says whose weights they are."""
        raw = -math.log(VOCAB) - self.shift
        return raw if self.ill != "raw" else raw / (temperature or 1)


def handler(state: State) -> type[BaseHTTPRequestHandler]:
    """The calls of the server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self.reply({"data": [{"id": "policy", "max_model_len": 120}]})
            elif self.path == "/busy":
                self.reply(state.busy)
            elif self.path == "/went":
                self.reply(state.went)
            else:
                self.reply({})

        def do_POST(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            path = self.path
            if path == "/double":
                state.ill = body["ill"]
                self.reply({})
                if state.ill == "dead":
                    os._exit(1)
                return
            if path != "/v1/completions":
                state.went.append(path)
            while state.ill == "deaf":
                time.sleep(0.05)
            if state.ill == "failing":
                self.reply({"error": {"message": "EngineCore\nis dead"}}, 500)
            elif path == "/v1/completions":
                self.complete(body)
            elif state.ill == "shy":
                self.reply({"detail": "Not Found"}, 404)
            else:
                self.control(path, body)

        def control(self, path: str, body: dict) -> None:
            if path.startswith("/pause"):
                state.pauses += 1
                state.goes.clear()
                time.sleep(2 * STEP)
            elif path == "/resume":
                state.goes.set()
            elif path == "/collective_rpc" and body["method"].startswith("foldgym_"):
                getattr(state.worker(), body["method"])(**body["kwargs"])
            elif path == "/collective_rpc" and state.ill != "stale":
                state.load(Path(body["kwargs"].get("weights_path", state.folder)))
            self.reply({})

        def complete(self, body: dict) -> None:
            if "prompt_logprobs" in body:
                state.goes.wait()
                value = state.logprob(1)
                rows = [None, *({str(i): {"logprob": value}} for i in body["prompt"][1:])]
                self.reply({"choices": [{"prompt_logprobs": rows}]})
            elif len(body["prompt"]) + body["max_tokens"] > 120:
                self.reply({"error": {"message": "too long"}}, 400)
            else:
                self.say(body)

        def say(self, body: dict) -> None:
            state.goes.wait()
            pauses, ids, why, by = state.pauses, [], "length", None
            state.busy += 1
            while state.ill == "endless":
                time.sleep(STEP)
            seed = body["seed"]
            while len(ids) < body["max_tokens"] and why == "length":
                ids.append((seed + 3 * len(ids)) % 5 + 10)
                if len(ids) == LONG and STOP in body["stop_token_ids"]:
                    ids[-1], why, by = STOP, "stop", STOP
                if body["stop"] and len(ids) == 3:
                    why, by = "stop", body["stop"][0]
                time.sleep(STEP)
                halt = 2 * len(ids) >= body["max_tokens"]
                while halt and state.ill == "halting" and state.pauses == pauses:
                    time.sleep(STEP)
                if state.pauses > pauses and why == "length":
                    why = "abort"
            logprobs = [state.logprob(body["temperature"])] * len(ids)
            choice = {
                "token_ids": ids,
                "logprobs": {"token_logprobs": logprobs},
                "finish_reason": why,
                "stop_reason": by,
            }
            self.reply({"choices": [choice]})

        def reply(self, answer: object, status: int = 200) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Its log is for errors."""

    return Handler


if __name__ == "__main__":
    main(sys.argv[1:])
