"""The machine of hidden rules: each rule by hand, the protocol, splits, what makes it harder."""

from __future__ import annotations

import pytest

from foldgym.envs.long.hidden_sequence import HiddenSequence, apply, chain
from foldgym.errors import UnknownName, UserError
from foldgym.testing.validate import validate


@pytest.mark.parametrize(
    ("rule", "current", "vice", "n", "previous", "result"),
    [
        ("weave", "ABC", "DE", 2, "", "ADBEC"),
        ("add", "AECZ", "BEB", 1, "", "BIDZ"),
        ("max", "ABEX", "CAD", 1, "", "CBEX"),
        ("min", "ABEX", "CAD", 1, "", "AADX"),
        ("sort", "EB", "AD", 1, "", "ABDE"),
        ("turns", "ABC", "DE", 1, "", "ADBEC"),
        ("turns", "ABC", "DE", 2, "", "DAEBC"),
        ("mirror", "ABZ", "", 1, "", "ZCBBCZ"),
        ("copies", "ABCDE", "", 13, "", "ABCDECCC"),
        ("copies", "ABCDE", "", 10, "", "ABCDE"),
        ("carry", "AAZD", "", 2, "BCB", "BCAD"),
        ("carry", "AAZD", "", 1, "", "AAZD"),
        ("prime", "AABBC", "", 2, "", "BBBBC"),
        ("prime", "AABBC", "", 1, "", "AABBC"),
        ("prime", "AABBC", "", 9, "", "AABBC"),
    ],
)
def test_rules(rule: str, current: str, vice: str, n: int, previous: str, result: str) -> None:
    assert apply(rule, current, vice, n, previous) == result


def test_chains_show_every_string() -> None:
    assert chain(["max", "weave"], "ABCDE", "EDCBA", 1, "") == ["EDCDE", "EEDDCCDBEA"]


def texts(env: HiddenSequence, *actions: str) -> list[str]:
    return [env.step(action).observation[0].text for action in actions]


def test_an_episode_by_hand() -> None:
    env = HiddenSequence(rules=2, level="all", steps=2, probes=2)
    env.reset(seed=0)
    env.truth = ("carry", "max")
    env.questions = [("first?", ("EDCDE",)), ("second?", ("AB",))]
    feed = 'feed {"main": "%s", "vice": "%s"}'
    assert texts(
        env,
        feed % ("AAAAA", "ABCDE"),
        feed % ("ABCDF", "ABCDE"),
        "commit carry, max",
        feed % ("bbaba", "AAAAB"),
        feed % ("AABAA", "ABCDE"),
        feed % ("BACBA", "ABCDE"),
    ) == [
        "error: main must be five letters A to E, not all the same.",
        "error: main must be five letters A to E, not all the same.",
        "error: 2 steps are left; make them first.",
        "Step 1: BBABA -> BBABA -> BBABB. 1 steps left.",
        # main AABAA plus the previous main BBABA: B B B B A; then the later of that and ABCDE
        "Step 2: AABAA -> BBBBA -> BBCDE. No steps left: commit the rules.",
        "error: all 2 steps are made; commit the rules.",
    ]
    assert texts(env, "commit max", "commit max, sum", "commit max, max", "predict 12") == [
        "error: commit 2 names of rules, separated by commas",
        "error: commit 2 names of rules, separated by commas",
        "Committed. first?",
        "error: no outcome of the form that was asked for.",
    ]
    assert texts(env, "commit carry, max", "predict edcde") == [
        "error: the rules are committed already.",
        "Noted. second?",
    ]
    step = env.step("predict AB")
    assert (step.terminated, step.reward) == (True, 0.75)  # one rule of 2, both predictions
    assert env.measure()["rules"] == 0.5


def test_rules_are_drawn_per_seed_and_disjoint_between_splits() -> None:
    seen: dict[str, set[tuple[str, ...]]] = {}
    for split in ("train", "val", "test"):
        env = HiddenSequence(split=split)  # type: ignore[arg-type]
        seen[split] = set()
        for seed in range(150):
            env.reset(seed=seed)
            seen[split].add(env.truth)
    assert len(seen["train"]) > 30
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_more_rules_are_harder() -> None:
    """What one step of exploration gives away, to a player who does not peek."""
    found = [validate(lambda n=n: HiddenSequence(n, "all", 2), 150)[1].success for n in (1, 3, 5)]
    assert found[0] > found[1] > found[2]


def test_all_steps_give_the_rules_away() -> None:
    """Nobody has to guess: what 8 steps show leaves one explanation, nearly always."""
    right = 0
    for seed in range(100):
        env = HiddenSequence(3, "all", 8)
        env.reset(seed=seed)
        while env.taken < 8:
            env.step(env.expert("optimal", env.rng))
        right += env.inferred(8) == env.truth
    assert right >= 97


def test_wrong_settings() -> None:
    with pytest.raises(UnknownName, match="level"):
        HiddenSequence(level="medium")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="rules must be from 1 to 5, not 6"):
        HiddenSequence(rules=6)
