"""`--policy chat:MODEL` in eval, compare and envs play."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_server import Table, endpoint, said

from foldgym.cli.main import main
from foldgym.records import RecordReader

GUESS = "foldgym/GuessNumber-v0"


def bisect(request: Table) -> Table:
    """Finds the number as a model would: from what the conversation says."""
    low, high = 1, 100
    for message in request["messages"]:
        text = message.get("content") or ""
        if "from" in text and message["role"] == "user":
            low, high = (int(word) for word in text.split() if word.isdigit())
    guesses = [
        int(json.loads(call["function"]["arguments"])["number"])
        for message in request["messages"]
        for call in message.get("tool_calls", ())
    ]
    replies = [m["content"] for m in request["messages"] if m["role"] == "tool"]
    for guess, reply in zip(guesses, replies, strict=True):
        low, high = (guess + 1, high) if "higher" in reply else (low, guess - 1)
    number = (low + high) // 2
    return said("", ("guess", json.dumps({"number": number}), f"id-{len(guesses)}"))


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main([*words, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_eval_counts_records_and_replays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    tape, episodes = tmp_path / "tape.jsonl", tmp_path / "episodes.jsonl"
    prices = tmp_path / "prices.toml"
    prices.write_text('price_input = 1.0\nprice_output = 2.0\ncurrency = "CHF"\n')
    words = ["eval", "--policy", "chat:tiny", "--env", GUESS, "--episodes", "4"]
    with endpoint(bisect) as server:
        live = ["--base-url", server.url, "--trajectories", str(episodes)]
        options = ["--chat", str(prices), "key_env=MY_KEY", f"record={tape}"]
        report = run(capsys, *words, *live, *options)
        asked = len(server.requests)
        assert server.keys == ["Bearer sk-very-secret"] * asked
    assert report["envs"][GUESS]["success"]["mean"] == 1.0
    accounts = report["accounts"]
    assert (accounts["requests"], accounts["prompt_tokens"]) == (asked, 100 * asked)
    assert accounts["cost"] == pytest.approx(asked * (100 * 1.0 + 10 * 2.0) / 1e6)
    for written in (tape, episodes):
        assert "very-secret" not in written.read_text()
        assert server.url not in written.read_text()
    played = [record.trajectory for record in RecordReader(episodes)]
    assert played[0].turns[0].message.tool_calls[0].id == "id-0"

    again = run(capsys, *words, "--chat", f"replay={tape}")
    assert again["envs"][GUESS]["outcomes"] == report["envs"][GUESS]["outcomes"]
    assert main([*words, "--chat", str(prices), f"replay={tape}"]) == 0
    shown = capsys.readouterr().out
    assert "chat:tiny: as the endpoint counted" in shown
    assert "CHF" in shown
    assert main([*words, "--seed", "9", "--chat", f"replay={tape}"]) == 2
    assert "lacks a request to tiny" in capsys.readouterr().err


def test_compare_and_play(capsys: pytest.CaptureFixture[str]) -> None:
    with endpoint(bisect) as server:
        base = ["--base-url", server.url]
        words = ["compare", "silent", "chat:tiny", "--env", GUESS, "--episodes", "6"]
        found = run(capsys, *words, *base)
        assert found["envs"][GUESS]["mean"] == 1.0
        assert "accounts" in found["reports"][1]
        assert "accounts" not in found["reports"][0]
        played = run(capsys, "envs", "play", GUESS, "--policy", "chat:tiny", *base)
        assert played["stop"] == "done"


def test_options_without_effect_and_odd_ones_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    broken = tmp_path / "broken.toml"
    broken.write_text("retries = \n")
    file = tmp_path / "train.toml"
    file.write_text(
        f'output = "{tmp_path}/run"\npolicy.path = "chat:tiny"\nenvs = [{{name = "{GUESS}"}}]'
    )
    known = ["eval", "--policy", "chat:tiny", "--env", GUESS]
    for words, line in (
        (["eval", "--policy", "silent", "--env", GUESS, "--chat", "retries=1"], "no effect"),
        (known, "set the environment variable OPENAI_API_KEY"),
        ([*known, "--chat", "retry=3"], "did you mean 'retries'?"),
        ([*known, "--chat", "record=a", "replay=b"], "give one of them"),
        ([*known, "--chat", "currency=EUR"], "no effect without price_input"),
        ([*known, "--chat", "body={stream=true}"], "chat.body.stream"),
        ([*known, "--chat", str(broken)], "not valid TOML"),
        ([*known, "--chat", f"replay={tmp_path / 'none.jsonl'}"], "cannot read"),
        (["envs", "play", GUESS, "--chat", "retries=1"], "no effect without --policy"),
        (["train", str(file)], "not trained"),
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert line in error, error
        assert len(error.strip().splitlines()) == 1
