"""The environment: its actions, splits, players and facts; invented catalogues."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from foldgym.envs.shop.env import Shop
from foldgym.envs.shop.invent import invent, invented, invented_products, write_catalogue
from foldgym.envs.shop.reading import open_catalogue
from foldgym.errors import DataError, UnknownName, UserError
from foldgym.testing.validate import validate


def test_three_ways_to_act() -> None:
    env = Shop(products=50)
    _, info = env.reset(seed=1)
    assert info["clickables"] == ["search"]
    first = env.step("search[lamp]")
    assert env.step('search {"query": "lamp"}').observation[0].text == first.observation[0].text
    said = env.step("Thought: I look for it. Action: none yet.\nAction:\nsearch[LAMP]")
    assert said.observation[0].text == first.observation[0].text
    assert said.info["clickables"][:2] == ["back to search", "next >"]
    asin = said.info["clickables"][2]
    shown = env.step(f"click[{asin}]").observation[0].text
    env.step("click[< prev]")
    assert env.step(f'click {{"value": "{asin}"}}').observation[0].text == shown
    assert env.step("i do not know").observation[0].text == shown
    assert env.measure()["idle"] == 1
    step = env.step("click[buy now]")
    assert step.terminated
    facts = env.measure()
    assert facts["bought"] == asin.upper()
    assert step.reward == facts["score"]
    assert facts["steps"] == facts["turns"] == 8
    assert facts["w_price"] > 0


def test_an_episode_without_a_purchase_scores_nothing() -> None:
    env = Shop(products=50, limit=2)
    env.reset(seed=1)
    env.step("search[x]")
    step = env.step("click[back to search]")
    assert (step.terminated, step.truncated) == (False, True)
    assert env.measure()["score"] == 0.0
    assert "bought" not in env.measure()


def test_what_can_be_clicked_is_shown_where_asked() -> None:
    env = Shop(products=50, actions="shown", observation="url")
    first = env.reset(seed=1)[0][0].text
    assert first.endswith("\n\nAvailable actions: search[words]")
    shown = env.step("search[lamp]").observation[0].text
    assert "/lamp/1\n\nAvailable actions: click[back to search], click[next >], click[b0" in shown
    hidden = Shop(products=50, actions="off")
    assert "clickables" not in hidden.reset(seed=1)[1]


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_players(goals: Any) -> None:
    best, reading, hasty, at_random, nobody = validate(lambda: Shop(goals=goals), 60)
    assert best.score >= 0.995
    assert 0.6 < reading.score < 1.0
    assert hasty.score < reading.score
    assert at_random.score < 0.1
    assert nobody.score == 0.0


def test_splits_share_no_product() -> None:
    pools = {split: Shop(products=200, split=split) for split in ("train", "val", "test")}
    products = {
        split: {env.goals[place].asin for place in env.pool} for split, env in pools.items()
    }
    assert not products["train"] & products["val"]
    assert not products["train"] & products["test"]
    assert not products["val"] & products["test"]
    places = sorted(place for env in pools.values() for place in env.pool)
    assert places == list(range(len(pools["train"].goals)))


def test_splits_of_goals_share_products_but_no_choice() -> None:
    envs = [Shop(products=30, splits="goal", split=split) for split in ("train", "val", "test")]
    places = sorted(place for env in envs for place in env.pool)
    assert places == list(range(len(envs[0].goals)))
    bought = [{env.goals[place].asin for place in env.pool} for env in envs]
    assert bought[0] & bought[2]


def test_official_splits_are_places() -> None:
    sizes = {
        split: Shop(products=600, splits="official", split=split).pool
        for split in ("train", "val", "test")
    }
    assert sizes["test"] == range(500)
    assert sizes["val"] == range(500, 1500)
    assert sizes["train"][0] == 1500
    assert sizes["train"][-1] == len(Shop(products=600).goals) - 1
    with pytest.raises(UserError, match="split 'train'"):
        Shop(products=30, splits="official")


def test_episodes_share_the_catalogue_and_forks_copy_only_the_customer() -> None:
    one, two = Shop(products=50), Shop(products=50)
    assert one.catalogue is two.catalogue
    assert one.pool is two.pool
    one.reset(seed=3)
    kept = one.snapshot()
    before = one.session.observation("text")
    one.step("search[lamp]")
    one.restore(kept)
    assert one.session.observation("text") == before
    assert one.session.catalogue is two.catalogue


def test_one_more_episode_weighs_less_than_ten_kilobytes() -> None:
    def opened(seed: int) -> Shop:
        env = Shop(products=300)
        env.reset(seed=seed)
        env.step(f"search[{env.session.goal.query}]")  # a page of ten results
        return env

    for seed in range(60):
        opened(seed)
    gc.collect()
    tracemalloc.start()
    kept = [opened(seed) for seed in range(60)]
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(kept) < 10_000


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"goals": "both"}, "synthetic"),
        ({"observation": "pdf"}, "text_rich"),
        ({"actions": "all"}, "shown"),
        ({"splits": "mine"}, "official"),
        ({"style": "short"}, "terse"),
        ({"split": "dev"}, "train"),
        ({"limit": 0}, "at least 1"),
        ({"products": 0}, "at least 1"),
        ({"catalogue": "/x", "products": 7}, "no effect"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], match: str) -> None:
    with pytest.raises((UserError, UnknownName), match=match):
        Shop(**options)


def test_a_goal_can_be_named() -> None:
    env = Shop(products=50)
    _, _ = env.reset(seed=1, options={"goal": 5})
    assert env.session.goal == env.goals[5]
    with pytest.raises(UserError, match="from 0 to"):
        env.reset(seed=1, options={"goal": -1})


# ---------------------------------------------------------------- invented catalogues


def test_a_written_catalogue_is_the_invented_one(tmp_path: Path) -> None:
    write_catalogue(tmp_path / "shop", 60, 3)
    read = open_catalogue(tmp_path / "shop")
    assert list(read) == list(invented_products(60, 3))
    assert list(read.goals("human", 1)) == list(invented(60, 3).goals("human", 1))
    env = Shop(catalogue=str(tmp_path / "shop"), splits="product")
    env.reset(seed=1)
    assert env.catalogue is read
    items = json.loads((tmp_path / "shop" / "items_shuffle.json").read_text())
    assert items == [row.item for row in invent(60, 3)]
    with pytest.raises(DataError, match="exists"):
        write_catalogue(tmp_path / "shop", 60, 3)
    write_catalogue(tmp_path / "one", 1, 3)
    assert len(open_catalogue(tmp_path / "one")) == 1


def test_small_catalogues_are_the_beginning_of_large_ones() -> None:
    assert list(invent(20, 5)) == list(invent(50, 5))[:20]
    assert list(invent(20, 5)) != list(invent(20, 6))
    asins = [row.item["asin"] for row in invent(2000)]
    assert len(set(asins)) == 2000
    assert all(len(asin) == 10 and asin == asin.upper() for asin in asins)


def test_terse_products_are_short() -> None:
    for row in invent(40, style="terse"):
        assert len(row.item["customization_options"]) <= 1
        assert len(row.item["name"].split()) <= 7
        assert row.facts["instruction"]
