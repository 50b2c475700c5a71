"""BeautifulSoup, which the official environment reads its pages with, reads ours to our text."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from oracles import oracle_python
from shops import product

from foldgym.envs.shop.catalogue import in_memory
from foldgym.envs.shop.invent import invented_products
from foldgym.envs.shop.webshop import WebShop
from foldgym.seeding import generator

SCRIPT = """
import json, sys
from bs4 import BeautifulSoup
from bs4.element import Comment
unseen = {"style", "script", "head", "title", "meta", "[document]"}
found = []
for html in json.load(open(sys.argv[1])):
    page = BeautifulSoup(html, "html.parser")
    nodes = [t for t in page.find_all(string=True)
             if t.parent.name not in unseen and not isinstance(t, Comment) and t != "\\n"]
    words = [each.get_text().lower() for each in page.find_all(class_="btn")]
    words += [each.get_text().lower() for each in page.find_all(class_="product-link")]
    words += [each.get("value") for each in page.select('input[type="radio"]')]
    found.append({
        "text": " [SEP] ".join(t.strip() for t in nodes),
        "bar": page.find(id="search_input") is not None,
        "clickables": list(dict.fromkeys(words)),
    })
json.dump(found, open(sys.argv[2], "w"))
"""


@pytest.mark.oracle
def test_beautiful_soup_finds_what_our_observations_say(tmp_path: Path) -> None:
    python = oracle_python("bs4")
    odd = [
        product(
            f"ODD{n}",
            title,
            full_description=title * 2,
            small_description=["", " ", title],
            customization_options={title: [{"value": title}, {"value": "a/b"}]},
            facts={"attributes": [title], "instruction": title, "instruction_attributes": ["x"]},
        )
        for n, title in enumerate(('<b>&amp; "it\'s"</b>', "\xa0", "two\nlines", "é › ü", "&#39;"))
    ]
    shop = in_memory([*odd, *invented_products(60)])
    web = WebShop(shop, shop.goals("synthetic", 0), "html", show_attrs=True)
    rng, pages, expected = generator("soup"), list[str](), list[object]()
    for session in range(40):
        web.reset(session=session)
        for _ in range(12):
            pages.append(web.observation)
            can = web.get_available_actions()
            text = web.session.observation("text")
            bar = can["has_search_bar"]
            expected.append({"text": text, "bar": bar, "clickables": can["clickables"]})
            words = rng.choice(["<c> garden", "lamp red", "<r>", "tea"])
            click = f"click[{rng.choice(can['clickables'] or ['x'])}]"
            web.step(f"search[{words}]" if bar or rng.random() < 0.1 else click)
    (tmp_path / "pages.json").write_text(json.dumps(pages))
    command = [python, "-c", SCRIPT, str(tmp_path / "pages.json"), str(tmp_path / "found.json")]
    subprocess.run(command, check=True)
    assert json.loads((tmp_path / "found.json").read_text()) == expected
