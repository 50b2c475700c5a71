"""The official files, read by the official rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import product, row

from foldgym.envs.shop import streaming
from foldgym.envs.shop.catalogue import in_memory, open_index, write_index
from foldgym.envs.shop.products import NO_ATTRIBUTES, product_of, unpacked
from foldgym.envs.shop.reading import find_files, open_catalogue, read_products
from foldgym.errors import DataError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("pricing", "prices", "tag"),
    [
        ("$12.9", (12.9,), "$12.9"),
        ("$1.0$2.5", (1.0, 2.5), "$1.0 to $2.5"),
        ("$1$2$3", (1.0, 2.0), "$1.0 to $2.0"),
        ("$1,299.00", (1299.0,), "$1299.0"),
        ("$5.99 - $7.50", (5.99, 7.5), "$5.99 to $7.5"),
        ("", (100.0,), "$100.0"),
        (None, (100.0,), "$100.0"),
        ("free", (100.0,), "$100.0"),
        ("$", (100.0,), "$100.0"),
    ],
)
def test_prices(pricing: Any, prices: tuple[float, ...], tag: str) -> None:
    found = product(pricing=pricing)
    assert (found.prices, found.price_tag) == (prices, tag)


def test_options_keep_their_order_and_lose_what_has_no_values() -> None:
    given: Any = {
        "Size": [{"value": " S/M ", "image": "x"}, {"value": "XL"}],
        "Flavor": None,
        "Color": [],
    }
    found = product(customization_options=given)
    assert found.options == (("size", ("s | m", "xl")), ("color", ()))
    assert product(customization_options="").options == ()
    assert product(customization_options=None).options == ()


def test_what_is_missing_becomes_what_the_official_loader_makes_of_it() -> None:
    found = product_of(row("B1", small_description="one", query=" Mugs ", images=[]), None, ())
    assert (found.bullets, found.query, found.attributes) == (("one",), "mugs", NO_ATTRIBUTES)
    assert (found.image, found.instruction, found.wishes) == ("", None, ())
    assert product_of(row("B1"), {"instruction": "x"}, ()).attributes == NO_ATTRIBUTES


def test_the_text_that_is_searched() -> None:
    found = product(customization_options={"Color": [{"value": "Red"}], "Size": [{"value": "L"}]})
    assert found.contents == "red mug a mug for tea. holds 12 ounces color: red, and size: l"
    assert product(small_description=[], customization_options="").contents == (
        "red mug a mug for tea.  "
    )


def write(folder: Path, items: Any, facts: Any = None, human: Any = None, end: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"items_shuffle{end}.json").write_text(json.dumps(items))
    if facts is not None:
        (folder / f"items_ins_v2{end}.json").write_text(json.dumps(facts))
    if human is not None:
        (folder / "items_human_ins.json").write_text(json.dumps(human))
    return folder


def test_a_folder_of_official_files(tmp_path: Path) -> None:
    items = [
        row("nan"),
        row("B0000000012"),
        row("B1", name="first"),
        row("B1", name="again"),
        {**row("B2"), "asin": None},
        row("B3"),
        row("B4"),
    ]
    facts = {"B1": {"attributes": ["a b"], "instruction": "buy", "instruction_attributes": ["a b"]}}
    wish = {
        "instruction": "Get it.",
        "instruction_attributes": ["x"],
        "instruction_options": ["red"],
    }
    empty = {**wish, "instruction_attributes": []}
    folder = write(tmp_path / "all", items, facts, {"B3": [wish, empty, wish]})
    found = list(read_products(find_files(folder)))
    assert [each.asin for each in found] == ["B1", "B3", "B4"]
    assert found[0].title == "first"
    # the limit counts rows before any is left out, as the official loader does
    assert [each.asin for each in read_products(find_files(folder), 6)] == ["B1", "B3"]
    shop = in_memory(found)
    assert len(shop.goals("synthetic", 0)) == 2  # one for each colour of B1
    assert len(shop.goals("human", 0)) == 2


def test_which_files_belong_together(tmp_path: Path) -> None:
    folder = write(tmp_path, [row("B1")], {}, {})
    write(tmp_path, [row("B2")], {}, None, "_1000")
    with pytest.raises(DataError, match=r"items_shuffle_1000\.json"):
        find_files(folder)
    small = find_files(folder / "items_shuffle_1000.json")
    assert small.facts == folder / "items_ins_v2_1000.json"
    assert small.human == folder / "items_human_ins.json"
    with pytest.raises(DataError, match="no folder"):
        find_files(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text", ["", "{}", "[", "[{]", '[{"asin": "B1"', "[1]", '["x"]', "[{}] x"[:3], "[[]]", "\udcff"]
)
def test_files_that_are_no_catalogue_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "items_shuffle.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError) as problem:
        list(read_products(find_files(tmp_path)))
    assert "\n" not in str(problem.value)


def test_a_product_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, [row("B1", customization_options={"size": [{}]})])
    with pytest.raises(DataError, match="B1"):
        list(read_products(find_files(tmp_path)))


@settings(max_examples=60)
@given(
    values=st.lists(JSON, max_size=8), chunk=st.integers(1, 40), indent=st.sampled_from([None, 1])
)
def test_arrays_are_read_piece_by_piece(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], chunk: int, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps(values, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "CHUNK", chunk)
        assert list(streaming.read_array(path)) == values


@settings(max_examples=60)
@given(pairs=st.dictionaries(st.text(), JSON, max_size=6), chunk=st.integers(1, 40))
def test_objects_are_read_piece_by_piece(
    tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, Any], chunk: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps(pairs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "CHUNK", chunk)
        assert dict(streaming.read_object(path)) == pairs


def test_an_index_on_disk_is_the_catalogue_in_memory(tmp_path: Path) -> None:
    wish = {"instruction": "é", "instruction_attributes": ["x"], "instruction_options": ["red"]}
    facts = {"attributes": ["x"], "instruction": "buy", "instruction_attributes": ["x"]}
    rows = [row(f"B{n}", f"Mug {'tea ' * n}", pricing="$1$9") for n in range(12)]
    some = [product_of(each, facts, [wish]) for each in rows]
    assert write_index(tmp_path / "index", some) == 12
    kept, disk = in_memory(some), open_index(tmp_path / "index")
    assert list(kept) == list(disk)
    assert kept.search("mug of tea") == disk.search("mug of tea") != ()
    assert disk.find("B3") == some[3]
    assert disk.find("B99") is None
    for kind in ("synthetic", "human"):
        assert list(kept.goals(kind, 3)) == list(disk.goals(kind, 3)) != []
    assert open_catalogue(tmp_path / "index") is open_catalogue(tmp_path / "index")
    with pytest.raises(DataError, match="cannot make"):
        write_index(tmp_path / "index", some)
    (tmp_path / "index" / "goals.human.npy").unlink()
    with pytest.raises(DataError, match="torn"):
        open_index(tmp_path / "index")
    with pytest.raises(DataError, match="at least one product"):
        in_memory([])


@given(st.text(), st.lists(st.text(), max_size=3))
def test_products_survive_being_packed(title: str, bullets: list[str]) -> None:
    facts = {"attributes": bullets, "instruction": title, "instruction_attributes": bullets}
    made = product_of(row("B1", title, small_description=bullets), facts, ())
    assert unpacked(json.loads(json.dumps(made.packed()))) == made
