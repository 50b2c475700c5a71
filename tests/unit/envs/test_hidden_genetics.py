"""The herd of hidden laws: each law by hand, the protocol, splits, and that nobody must guess."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest

from foldgym.envs.long.genetic_laws import Genes, Laws, Looks, looks, size_class, zygote
from foldgym.envs.long.hidden_genetics import HiddenGenetics
from foldgym.errors import UserError
from foldgym.testing.validate import validate
from foldgym.tools import call

LAWS = Laws((200, 50, 10), (2, 1, 3), (1, 2, 3), "shell", "either")


@pytest.mark.parametrize(
    ("genes", "found"),
    [
        (((1, 1, 2), (1, 1, 1), (1, 1, 1)), Looks(450, 1, 1, 100)),
        (((1, 2, 3), (1, 2, 3), (1, 1, 2)), Looks(260, 2, 1, 67)),  # C2 dominates, H1 beats H2
        (((3, 3, 3), (1, 3, 3), (1, 2, 2)), Looks(30, 1, 1, 33)),
        (((3, 3, 3), (3, 3, 3), (2, 2, 3)), Looks(30, 3, 2, 67)),  # H2 beats H3
        (((3, 3, 3), (3, 3, 3), (1, 1, 3)), Looks(30, 3, 3, 33)),  # and H3 beats H1
        (((3, 3, 3), (3, 3, 3), (1, 2, 3)), None),
    ],
)
def test_what_genes_do(genes: Genes, found: Looks | None) -> None:
    assert looks(LAWS, genes) == found


def test_laws_may_differ() -> None:
    other = LAWS._replace(lethal="size", shells=(1, 3, 2))
    assert looks(other, ((1, 2, 3), (1, 1, 1), (1, 1, 1))) is None
    assert looks(other, ((1, 1, 3), (1, 1, 1), (1, 1, 2))) == Looks(410, 1, 2, 33)
    assert looks(other, ((1, 1, 3), (1, 1, 1), (1, 2, 3))) == Looks(410, 1, 0, 0)
    assert looks(LAWS._replace(lethal="colour"), ((1, 1, 3), (1, 2, 3), (1, 1, 2))) is None


@pytest.mark.parametrize(
    ("size", "name"),
    [(600, "huge"), (400, "huge"), (399, "large"), (200, "medium"), (100, "small"), (99, "tiny")],
)
def test_size_classes(size: int, name: str) -> None:
    assert size_class(size) == name


@pytest.mark.parametrize(("double", "ones"), [("mother", {2}), ("father", {1})])
def test_which_parent_gives_two_copies(double: str, ones: set[int]) -> None:
    mother: Genes = ((1, 1, 1), (1, 1, 1), (1, 1, 1))
    father: Genes = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    laws = LAWS._replace(double=double)
    young = [zygote(laws, mother, father, random.Random(seed)) for seed in range(20)]
    assert all(each is not None and each[0].count(1) in ones for each in young)


def test_coins_of_their_own_lose_half_of_the_young() -> None:
    genes: Genes = ((1, 2, 3), (1, 2, 3), (1, 2, 3))
    young = [zygote(LAWS, genes, genes, random.Random(seed)) for seed in range(1000)]
    assert 420 < sum(each is None for each in young) < 580  # 500, five standard deviations of 16
    alive = Counter(each[0] for each in young if each)
    assert all(len(each) == 3 for each in alive)
    # copies 1+2: a pair without replacement and a single one; 111 takes 3 of a kind: impossible
    assert (1, 1, 1) not in alive
    assert len(alive) == 7


def made(**options: Any) -> HiddenGenetics:
    env = HiddenGenetics(steps=2, probes=2, **options)
    env.reset(seed=0)
    env.laws = LAWS
    env.truth = ("200", "50", "10", "213", "123", "shell", "either")
    env.questions = [("first?", ("huge", "red", "smooth", "67")), ("second?", ("dead",))]
    return env


def texts(env: HiddenGenetics, *actions: Any) -> list[str]:
    return [env.step(action).observation[0].text for action in actions]


def test_an_episode_by_hand() -> None:
    env = made()
    commit = "commit S1=200 S2=50 S3=10 colour=C2>C1>C3 shell=H2>H3>H1 lethal=shell double=mother"
    said = texts(
        env,
        call("cross", mother=1, father=9),
        call("cross", mother=1, father=2, young=31),
        call("cross", mother=1, father=2, young=0),
        call("discard", first=3, last=9),
        commit,
    )
    assert said == [
        "error: there is no organism 9 in the herd.",
        "error: young must be from 1 to 30.",
        "error: young must be from 1 to 30.",
        "error: the three lines stay.",
        "error: 2 steps are left; make them first.",
    ]
    (first,) = texts(env, call("cross", mother=1, father=2, young=12))
    lines = first.splitlines()
    assert re.fullmatch(r"Cross 1: 12 live, \d+ died\.", lines[0])
    assert [line.split()[0] for line in lines[1:11]] == [f"#{n}" for n in range(4, 14)]
    assert lines[11:] == ["2 more; inspect shows them", "1 steps left."]
    assert texts(env, call("inspect", first=14, last=99))[0].splitlines() == [
        env._seen(14),
        env._seen(15),
    ]
    assert texts(env, call("discard", first=4, last=9), "status", "inspect {}") == [
        "6 discarded, 9 left.",
        "9 organisms, 1 crosses left.",
        'error: inspect: first is missing. Usage: inspect {"first": integer, "last": integer}',
    ]
    assert texts(env, call("inspect", first=50, last=60)) == ["None of them is here."]
    (second,) = texts(env, call("cross", mother=14, father=15, young=1))
    assert second.splitlines()[-1] == "No steps left: commit the rules."
    assert texts(
        env,
        call("cross", mother=1, father=2),
        "commit S1=200",
        commit.replace("C2>C1>C3", "C2>C1>C2"),
        commit,
    ) == [
        "error: all 2 steps are made; commit the rules.",
        "error: commit all of it, like S1=200 S2=50 S3=10 colour=C1>C2>C3 shell=H1>H2>H3 "
        "lethal=size double=either",
        "error: name every allele once in an order",
        "Committed. first?",
    ]
    assert (
        texts(env, "predict huge", "predict huge red smooth much")
        == ["error: no outcome of the form that was asked for."] * 2
    )
    assert texts(env, "predict Huge red smooth 67") == ["Noted. second?"]
    step = env.step("predict dead")
    assert step.terminated
    assert env.measure()["rules"] == pytest.approx(6 / 7)  # double is not mother
    assert step.reward == pytest.approx((6 / 7 + 1) / 2)


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("S1=210 S2=48 S3=10", 7),  # 5 % of 200 is 10, of 50 is 2.5
        ("S1=211 S2=52 S3=10", 6),
        ("S1=200 S2=47 S3=11", 5),
    ],
)
def test_sizes_are_right_within_five_per_cent(written: str, right: int) -> None:
    env = made()
    for _ in range(2):
        env.step(call("cross", mother=1, father=2, young=1))
    env.step(f"commit {written} colour=C2>C1>C3 shell=H3>H1>H2 lethal=shell double=either")
    assert env.shares()[0] == pytest.approx(right / 7)


def test_the_herd_has_an_end() -> None:
    env = HiddenGenetics(steps=20, most=100)
    env.reset(seed=1)
    env.laws = LAWS
    assert "100 live" in texts(env, call("cross", mother=1, father=2, young=100))[0]
    assert texts(env, call("cross", mother=1, father=2, young=98)) == [
        "error: the herd would be larger than 200; discard some first."
    ]
    assert "97 live" in texts(env, call("cross", mother=1, father=2, young=97))[0]
    assert texts(env, "status") == ["200 organisms, 18 crosses left."]


def test_three_different_alleles_die() -> None:
    env = made()
    env.laws = LAWS._replace(double="mother")
    env.herd = {
        1: ((1, 1, 1), (1, 1, 1), (1, 2, 2)),
        2: ((1, 1, 1), (1, 1, 1), (3, 3, 3)),
    }
    # the mother gives 1 and 2 or 2 and 2; with a 3 the first dies
    (said,) = texts(env, call("cross", mother=1, father=2, young=9))
    assert all(env.herd[number][2] == (2, 2, 3) for number in range(4, 13))
    died = int(re.findall(r"9 live, (\d+) died", said)[0])
    assert 5 <= died <= 60  # 18 on average


def test_laws_are_drawn_per_seed_and_disjoint_between_splits() -> None:
    seen: dict[str, set[tuple[str, ...]]] = {}
    for split in ("train", "val", "test"):
        env = HiddenGenetics(split=split)  # type: ignore[arg-type]
        seen[split] = set()
        for seed in range(100):
            env.reset(seed=seed)
            seen[split].add(env.truth)
            assert looks(env.laws, env.herd[1]) is not None
            for law in env.truth[5:]:
                assert law in env.task.prompt[0].text  # as a choice
    assert len(seen["train"]) > 90
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]


def test_probes_stay_clear_of_the_borders_of_classes() -> None:
    env = HiddenGenetics(probes=50)
    env.reset(seed=3)
    dead = 0
    for (question, answer), genes in zip(env.questions, env.cases, strict=True):
        found = looks(env.laws, genes)
        dead += found is None
        assert (found is None) == (answer == ("dead",))
        if found:
            assert all(abs(found.size - least) >= 0.05 * least for least in (400, 300, 200, 100))
            assert answer[0] == size_class(found.size)
            assert answer[3] == str(found.hardness)
        assert f"S{genes[0][0]} S{genes[0][1]} S{genes[0][2]}, C" in question
    assert 2 <= dead <= 22  # 6/27 of 50 are 11


# ---------------------------------------------------------------- nobody has to guess

SEEN = re.compile(r"#(\d+) size (\d+), (\w+), (\w+) (\d+)")


def read(env: HiddenGenetics) -> Laws:
    """The laws from what was shown alone, by a breeder with a plan."""
    prompt = env.task.prompt[0].text
    lines = re.findall(
        r"S(\d) S(\d) S(\d), C(\d) C\d C\d, H(\d) H\d H\d: #(\d+) size (\d+), (\w+), (\w+)", prompt
    )
    colours, shells = (
        {line[7]: int(line[3]) for line in lines},
        {line[8]: int(line[4]) for line in lines},
    )
    sizes = {int(line[5]): ([int(x) for x in line[:3]], int(line[6])) for line in lines}

    def cross(mother: int, father: int, young: int = 30) -> tuple[list[tuple[str, ...]], int]:
        said = (
            env.step(call("cross", mother=mother, father=father, young=young)).observation[0].text
        )
        found = SEEN.findall(said)
        first = int(found[0][0])
        for start in range(first + 10, first + young, 10):
            more = env.step(call("inspect", first=start, last=start + 9)).observation[0].text
            found += SEEN.findall(more)
        return found, int(re.search(r"(\d+) died", said).group(1))  # type: ignore[union-attr]

    pairs = {(a, b): cross(a, b) for a, b in ((1, 2), (2, 3), (3, 1))}
    wins, beats = Counter[int](), set[tuple[int, int]]()
    shell_of = {n: int(lines[n - 1][4]) for n in (1, 2, 3)}
    for (a, b), (young, _) in pairs.items():
        wins[colours[young[0][2]]] += 1
        won = shells[young[0][3]]
        beats.add((won, shell_of[a] + shell_of[b] - won))
    young, _ = pairs[1, 2]  # who gave two copies shows in the hardness
    twice = {int(each[4]) > 50 for each in young}
    mothers = shells[young[0][3]] == shell_of[1]
    double = "either" if len(twice) == 2 else "mother" if twice == {mothers} else "father"
    values = [0.0] * 4
    mixed = [(genes, size) for genes, size in sizes.values() if len(set(genes)) == 2]
    for genes, size in sizes.values():
        often = Counter(genes).most_common(1)[0][0]
        other = next((s for g, s in mixed if often in g and g != genes), 0)
        values[often] = (2 * size - other) / 3 if len(set(genes)) == 2 else size / 3
    values = [round(each / 10) * 10 for each in values]
    # second generation: what never appears among many is what does not live
    hybrid = int(pairs[1, 2][0][0][0])
    soft = trio = 0
    total = sum(values[1:])
    for mother, father in (
        (hybrid, 3),
        (3, hybrid),
        (hybrid + 1, 3),
        (3, hybrid + 1),
        (hybrid, hybrid + 1),
    ):
        env.step(call("discard", first=hybrid + 2, last=10**6))
        young, _ = cross(mother, father)
        soft += sum(each[3] == "soft" for each in young)
        trio += sum(abs(int(each[1]) - total) <= 0.011 * total for each in young)
    lethal = "shell" if not soft else "size" if not trio else "colour"
    return Laws(
        tuple(values[1:]),
        tuple(sorted((1, 2, 3), key=lambda each: -wins[each])),
        (1, 2, 3) if (1, 2) in beats or (2, 3) in beats or (3, 1) in beats else (1, 3, 2),
        lethal,
        double,
    )


def test_the_laws_can_be_read_from_what_is_shown() -> None:
    right = Counter[str]()
    for seed in range(60):
        env = HiddenGenetics(steps=8)
        env.reset(seed=seed)
        found = read(env)
        for name, guessed, true in zip(Laws._fields, found, env.laws, strict=True):
            right[name] += guessed == true
    assert right["colours"] == right["double"] == 60
    assert right["shells"] == 60
    assert right["lethal"] >= 50
    assert right["values"] >= 50


def test_the_hasty_player_knows_less() -> None:
    optimal, hasty, *_ = validate(HiddenGenetics, 30)
    assert optimal.success == 1.0
    assert 0.5 < hasty.score < 0.95
    assert hasty.success < 0.5


def test_more_is_harder() -> None:
    """Without a single cross of the lines nothing says who dominates."""
    few = validate(lambda: HiddenGenetics(steps=1), 30)[1].score
    many = validate(lambda: HiddenGenetics(steps=6), 30)[1].score
    assert few < many


def test_wrong_settings() -> None:
    with pytest.raises(UserError, match="most must be from 1 to 100, not 101"):
        HiddenGenetics(most=101)
    with pytest.raises(UserError, match="steps must be from 1"):
        HiddenGenetics(steps=0)
