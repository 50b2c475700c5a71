"""The entry point: which commands there are, and what an exception means to the shell.

Exit codes: 0 fine, 1 a check or comparison found something, 2 the caller can mend it, 70 a bug,
130 interrupted, 141 the reader of our output went away.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from foldgym import __version__
from foldgym.console import note, print_error
from foldgym.errors import Bug, UserError

OK, FOUND, USER, BUG, INTERRUPTED, PIPE = 0, 1, 2, 70, 130, 141

COMMANDS = {
    "envs": ("foldgym.cli.envs", "look at, check, play and validate environments"),
    "sft": ("foldgym.cli.train", "clone an expert's behaviour into a policy"),
    "train": ("foldgym.cli.train", "train a policy by reinforcement"),
    "eval": ("foldgym.cli.evaluate", "measure a policy, with intervals"),
    "compare": ("foldgym.cli.evaluate", "compare two policies on the same tasks"),
    "serve-policy": ("foldgym.cli.serve", "a checkpoint as an OpenAI-compatible endpoint"),
    "index": ("foldgym.cli.index", "build, query and serve search indexes"),
    "shop": ("foldgym.cli.shop", "make catalogues of the shop, and serve it as a web site"),
    "demo": ("foldgym.cli.demo", "the main job: clone, train and measure on two worlds"),
    "sandbox": ("foldgym.cli.sandbox", "list, reap and try the sandboxes of this machine"),
    "swe": ("foldgym.cli.swe", "make software tasks from packages, check them, grade patches"),
    "images": ("foldgym.cli.images", "build, list and remove what sandboxes are made of"),
    "doctor": ("foldgym.cli.doctor", "what this machine can run, and what mends the rest"),
}


class Parser(argparse.ArgumentParser):
    """Complains in one line, like everything else here."""

    def error(self, message: str) -> NoReturn:
        """Raises `UserError` instead of printing the usage."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; never raises, and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a narrow terminal encoding must not stop a run
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()
    except SystemExit as done:  # argparse after --help and --version
        return done.code if isinstance(done.code, int) else OK
    except UserError as problem:
        print_error(str(problem))
        return USER
    except KeyboardInterrupt:
        note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # what is still buffered must go nowhere, or the interpreter complains on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    except Exception as problem:
        what = str(problem) if isinstance(problem, Bug) else f"{type(problem).__name__}: {problem}"
        print_error(f"{what} [this is a bug; traceback in {_keep_traceback()}]")
        return BUG


def _run(words: list[str]) -> int:
    parser = Parser(prog="foldgym", description="The gym for language-model agents.", add_help=True)
    parser.add_argument("--version", action="version", version=f"foldgym {__version__}")
    listing = "\n".join(f"  {name:12} {what}" for name, (_, what) in COMMANDS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "foldgym COMMAND ..."
    parser.epilog = f"commands:\n{listing}\n\n`foldgym COMMAND --help` says more."
    if not words or words[0].startswith("-"):
        parser.parse_args(words or ["--help"])
        raise UserError("no command given (see `foldgym --help`)")
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise UserError(f"unknown command {name!r}{hint} known: {', '.join(COMMANDS)}")
    module, what = COMMANDS[name]
    command = Parser(prog=f"foldgym {name}", description=what[0].upper() + what[1:] + ".")
    run: Callable[[Parser, list[str]], int] = getattr(
        import_module(module), f"run_{name.replace('-', '_')}"
    )
    return run(command, rest)


def _keep_traceback() -> str:
    text = traceback.format_exc()
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="foldgym-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
            return file.name
    except OSError:
        note(text)
        return "the lines above"
