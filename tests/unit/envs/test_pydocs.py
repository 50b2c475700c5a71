from __future__ import annotations

import collections
import hashlib
import importlib
import inspect
import json
import os
import subprocess
import sys
from itertools import combinations, pairwise

import pytest

from foldgym.envs.pydocs import PyDocsSearch
from foldgym.envs.pydocs_disguise import disguise
from foldgym.envs.pydocs_facts import PATHS, SPLITS, library, shelf
from foldgym.envs.pydocs_introspect import DENIED, summarise
from foldgym.envs.pydocs_symbols import Symbol, symbols
from foldgym.errors import UserError
from foldgym.seeding import generator


def play(env: PyDocsSearch, seed: int, style: str = "optimal") -> list[str]:
    """Every text of the episode that a scripted player makes."""
    env.reset(seed=seed)
    rng = generator("player", seed)
    texts = [env.task.prompt[0].text]
    while True:
        action = env.expert(style, rng)
        observation, _, terminated, truncated, _ = env.step(action)
        texts += [action.tool_calls[0].arguments, *(message.text for message in observation)]
        if terminated or truncated:
            return texts


def find(qualified: str) -> Symbol:
    return next(symbol for symbol in symbols() if symbol.qualified == qualified)


def test_well_known_symbols() -> None:
    ordered = find("collections.OrderedDict")
    assert (ordered.kind, ordered.bases) == ("class", ("dict",))
    assert ordered.summary == "Dictionary that remembers insertion order"
    assert find("binascii.Error").kind == "exception"
    assert find("builtins.KeyError").bases == ("LookupError",)
    assert find("textwrap.indent").parameters[:2] == ("text", "prefix")
    assert find("subprocess.Popen.communicate").owner == "Popen"
    # defined in the private module _io, published by `io`
    assert find("io.BytesIO").homes[0] == "io"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_symbols_agree_with_the_library_itself() -> None:
    for symbol in generator("sample").sample(symbols(), 300):
        holder = importlib.import_module(symbol.homes[0])
        member = getattr(getattr(holder, symbol.owner) if symbol.owner else holder, symbol.name)
        if symbol.kind in ("class", "exception"):
            assert [base.__name__ for base in member.__bases__] in (
                list(symbol.bases),
                [*symbol.bases, "object"],
                ["object"],
            )
            assert issubclass(member, BaseException) == (symbol.kind == "exception")
        else:
            assert inspect.isroutine(member)


def test_denied_modules_hold_no_symbol() -> None:
    homes = {home for symbol in symbols() for home in symbol.homes}
    assert not homes & DENIED
    assert not any("test" in home.split(".") for home in homes)


def test_introspection_prints_imports_and_starts_nothing_here() -> None:
    program = (
        "import sys, threading; from foldgym.envs.pydocs_symbols import symbols\n"
        "before = set(sys.modules); symbols()\n"
        "assert not {'tkinter', 'antigravity', 'pdb', 'nntplib'} & (set(sys.modules) - before)\n"
        "assert len(threading.enumerate()) == 1, threading.enumerate()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_patches_of_this_process_leave_no_trace() -> None:
    program = (
        "import logging; logging.Logger.invented = lambda self: None; del logging.captureWarnings\n"
        "from foldgym.envs.pydocs_symbols import symbols\n"
        "names = {symbol.name for symbol in symbols()}\n"
        "assert 'captureWarnings' in names and 'invented' not in names"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_summary_is_the_first_line_of_prose() -> None:
    assert summarise("f(x, /)\n--\n\nAdd `x` to the heap.\n\nMore.", "f") == "Add x to the heap"
    assert summarise(None, "f") == ""
    assert summarise("one two three", "f", limit=9) == "one two"


def test_every_question_has_one_answer() -> None:
    whole = library()
    asked = collections.Counter(
        symbol.name for symbol in symbols() if whole.split_of.get(symbol.name)
    )
    assert set(asked.values()) == {1}
    for split in SPLITS:
        for rows in shelf(split).chains.values():
            for chain in (chain for row in rows for chain in row):
                for fact, after in pairwise(chain.facts):
                    assert fact.value == after.subject
                assert chain.facts[-1].value in chain.accepted


def test_splits_share_no_subject() -> None:
    subjects = {
        split: {chain.facts[0].subject for rows in shelf(split).chains.values() for row in rows
                for chain in row}
        for split in SPLITS
    }  # fmt: skip
    assert all(len(found) > 200 for found in subjects.values())
    for one, other in combinations(SPLITS, 2):
        assert not subjects[one] & subjects[other]


def test_training_never_sees_documents_of_held_out_symbols() -> None:
    split_of = library().split_of
    seen = {document.subject for document in shelf("train").index.documents}
    assert {split_of[name] for name in seen} == {"", "train"}
    assert {split_of[name] for name in shelf("val").subjects} == {"", "train", "val"}


def test_each_split_has_questions_of_every_length() -> None:
    for split in SPLITS:
        for hops, rows in shelf(split).chains.items():
            assert len(rows) == len(PATHS[hops])
            assert sum(map(len, rows)) >= 5


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("options", [{}, {"symbols": 0}, {"disguise": 1.0}])
def test_optimal_player_is_always_right(split: str, options: dict[str, float]) -> None:
    env = PyDocsSearch(split, hops=(1, 1, 1, 1), **options)  # pyright: ignore[reportArgumentType]
    for seed in range(200):
        play(env, seed)
        assert env.measure()["score"] == 1.0, (seed, env.chain)


def test_hasty_player_stops_early_and_doing_nothing_scores_nothing() -> None:
    env = PyDocsSearch(hops=2, stop=1.0)
    for seed in range(20):
        play(env, seed, "hasty")
        assert env.measure()["turns"] == 2
    env.reset(seed=0)
    assert env.measure()["score"] == 0.0


def test_disguise_hides_the_names_of_the_split() -> None:
    plain, hidden = PyDocsSearch("train", hops=2), PyDocsSearch("train", hops=2, disguise=1.0)
    whole = library()
    for seed in range(30):
        plain.reset(seed=seed)
        hidden.reset(seed=seed)
        assert hidden.chain.facts[0].subject not in whole.split_of
        for real, renamed in zip(plain.chain.facts, hidden.chain.facts, strict=True):
            assert renamed.relation == real.relation
            assert (renamed.value == real.value) == (whole.split_of.get(real.value) != "train")


def test_disguise_leaves_hubs_and_other_splits_alone() -> None:
    whole = library()
    names = [name for name in whole.documents if whole.split_of[name] == "val"]
    documents = [document for name in names for document in whole.documents[name]]
    chain = shelf("val").chains[1][0][0]
    same_chain, same = disguise(chain, documents, "train", generator("disguise"))
    assert same_chain == chain
    assert [document.subject for document in same] == [document.subject for document in documents]


def test_a_misspelt_symbol_is_found() -> None:
    env = PyDocsSearch("test", hops=1)
    env.reset(seed=1)
    right = env.chain.facts[0]
    reply, *_ = env.step(f"search {right.subject[:-1]} {right.relation}")
    assert right.document.text in reply[0].text


def test_wrong_options_are_refused() -> None:
    for wrong in ({"symbols": -1}, {"disguise": 1.5}, {"hops": 5}, {"symbols": 0, "disguise": 1}):
        with pytest.raises(UserError):
            PyDocsSearch(**wrong)  # pyright: ignore[reportArgumentType]


def test_another_process_makes_the_same_episodes() -> None:
    program = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    program += "import test_pydocs; print(test_pydocs.digest())"
    for seed in ("1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        made = subprocess.check_output([sys.executable, "-c", program], env=environ, text=True)
        assert made.strip() == digest()


def digest() -> str:
    """A fingerprint of twenty episodes of each split, half of them disguised."""
    texts = [
        play(PyDocsSearch(split, disguise=0.5), seed) for split in SPLITS for seed in range(20)
    ]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
