"""`foldgym serve-policy`: a checkpoint as an OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from types import FrameType

from foldgym import console
from foldgym.cli.options import at_least
from foldgym.errors import MissingExtra, UserError


def run_serve_policy(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Serves until SIGINT or SIGTERM; answers under way are finished first."""
    add = parser.add_argument
    add("path", metavar="PATH", help="a policy folder, or a run folder for its newest checkpoint")
    add("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1: this machine)")
    add("--port", type=at_least(0), default=8000, help="0 for any free one (8000)")
    add("--served-name", metavar="NAME", help="the model's name for clients (the folder's)")
    add("--renderer", default="auto", help="for a folder that foldgym did not write")
    add("--device", default="cpu", help="where the model runs (cpu)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(float32)")
    add("--threads", type=at_least(0), default=0, help="of torch; 0 is torch's choice (0)")
    add("--seed", type=at_least(0), default=0, help="for requests that give none (0)")
    args = parser.parse_args(words)
    from foldgym.config import PolicySection

    try:
        import torch

        from foldgym.agents.engines.serve import Service
        from foldgym.agents.engines.serve_http import PolicyServer
        from foldgym.trainers.wiring import load_actor
    except ModuleNotFoundError as problem:
        raise MissingExtra(f"serving the checkpoint {args.path}", "train") from problem
    if args.device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"--device {args.device}: torch sees no GPU here; use --device cpu")
    section = PolicySection(
        path=args.path,
        renderer=args.renderer,
        device=args.device,
        dtype=args.dtype,
        threads=args.threads,
        batching="dynamic",
    )
    actor = load_actor(section)
    name = args.served_name or Path(args.path).resolve().name
    policy = actor.policy
    service = Service(policy, actor.renderer, name, policy.max_positions, args.seed)
    server = PolicyServer(service, args.host, args.port)
    signal.signal(signal.SIGTERM, _stop)
    console.note(f"{name} listens on {server.url} until Ctrl-C")
    try:
        server.run()
    except KeyboardInterrupt:
        console.note("stopped")
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
