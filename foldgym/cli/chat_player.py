"""`--policy chat:MODEL`: options of a chat API on a command line, and what it cost."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldgym import console
from foldgym.cli.options import settings
from foldgym.errors import ConfigError, DataError
from foldgym.types import Json

if TYPE_CHECKING:
    from foldgym.agents.engines.chat import ChatPolicy
    from foldgym.config import ChatSection

PREFIX = "chat:"


def add_chat(parser: argparse.ArgumentParser) -> None:
    """`--base-url` and `--chat`."""
    what = "for --policy chat:MODEL, any OpenAI-compatible endpoint; see docs/engines.md"
    add = parser.add_argument_group("chat APIs", what).add_argument
    add("--base-url", metavar="URL", help="where it is, with /v1 (OPENAI_BASE_URL, or OpenAI's)")
    add(
        "--chat",
        nargs="+",
        metavar=("KEY=VALUE", "FILE.toml"),
        help="how it is asked: protocol, retries, prices, limits, record=FILE, replay=FILE, ... or "
        "a TOML file of these; the key comes from the environment variable key_env=OPENAI_API_KEY",
    )


def is_chat(name: str) -> bool:
    """Whether a policy's name means a chat API."""
    return name.startswith(PREFIX) and not Path(name).is_dir()


def section(args: argparse.Namespace, *names: str | None) -> ChatSection | None:
    """What `--base-url` and `--chat` say; None where they say nothing.

    With `names`, raises `ConfigError` if none of these policies is a chat API.
    """
    from foldgym.config import parse_chat

    words: list[str] = list(args.chat or ())
    if not words and not args.base_url:
        return None
    if names and not any(name is not None and is_chat(name) for name in names):
        flag = "--chat" if words else "--base-url"
        raise ConfigError(f"{flag}: has no effect: no policy here is chat:MODEL; remove it")
    files = [word for word in words if word.endswith(".toml") and "=" not in word]
    table: dict[str, Any] = {}
    for file in files:
        table |= _read(file)
    table |= settings([word for word in words if word not in files], "--chat")
    if args.base_url:
        table["base_url"] = args.base_url
    return parse_chat(table)


def policy(name: str, how: ChatSection | None) -> ChatPolicy:
    """The policy that a name means."""
    from foldgym.agents.engines.chat import chat_policy

    return chat_policy(name.removeprefix(PREFIX), how)


def tables(policy: Any) -> dict[str, Json]:
    """`{"accounts": ...}` for a policy that keeps accounts, else nothing."""
    accounts = getattr(policy, "accounts", None)
    return {} if accounts is None else {"accounts": accounts.to_table()}


def show(policy: Any) -> None:
    """A table of what was asked and paid for, if the policy keeps accounts."""
    accounts = getattr(policy, "accounts", None)
    if accounts is None:
        return
    cost = "unknown (give price_input and price_output)"
    if accounts.cost is not None:
        cost = f"{accounts.cost:.4f} {accounts.currency}".strip()
    again = f"{accounts.retries} tried again, {accounts.failures} failed"
    rows = [
        ("requests", f"{accounts.requests}  ({again})"),
        ("prompt tokens", f"{accounts.prompt_tokens}  ({accounts.cached_tokens} cached)"),
        ("said tokens", f"{accounts.completion_tokens}  ({accounts.reasoning_tokens} thinking)"),
        ("cost", cost),
    ]
    if accounts.uncounted:
        rows.append(("answers without counts", str(accounts.uncounted)))
    console.table(f"chat:{policy.name}: as the endpoint counted", ("measure", "value"), rows)


def _read(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as problem:
        raise DataError(f"cannot read --chat {file}: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"--chat {file}: not valid TOML: {problem}") from None
