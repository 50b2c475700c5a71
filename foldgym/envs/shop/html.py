"""Pages as plain HTML: for the `html` observation and for people with a browser.

The layout is our own. What a parser finds in it, texts in order, buttons, links and options, is
exactly a page's nodes; tests hold it to that. Nothing is loaded from anywhere, so products have a
coloured square instead of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from html import escape

from foldgym.envs.shop.pages import BUY, Node, Page

Address = Callable[[Node], str]
"""Where a click on a node leads."""

_STYLE = """
body{margin:0;background:#f4f5f7;color:#1d2129;font:15px/1.5 system-ui,sans-serif}
main{max-width:58rem;margin:1.5rem auto;padding:0 1rem}
h2,h4,p{margin:.3rem 0}form{display:inline-block;margin:.25rem .3rem .25rem 0}
#instruction-text{background:#fff;border-left:4px solid #2f6fde;padding:.6rem 1rem}
.btn{border:1px solid #c4cad4;border-radius:6px;background:#fff;padding:.4rem .9rem;font:inherit}
.btn{cursor:pointer}.btn:hover{border-color:#2f6fde}
.buy,.find{background:#2f6fde;border-color:#2f6fde;color:#fff}
#search_input{font:inherit;padding:.4rem .7rem;width:24rem;max-width:60vw}
.card{background:#fff;border:1px solid #e1e5eb;border-radius:8px;padding:.8rem 1rem;margin:.6rem 0}
.result{display:grid;grid-template-columns:4rem 1fr auto;gap:.2rem 1rem;align-items:center}
.picture{border-radius:6px;min-height:3.4rem}.result .picture{grid-row:span 2}
.price{font-weight:600;grid-column:3;grid-row:1 / span 2}.result .title{grid-column:2}
.options label{border:1px solid #c4cad4;border-radius:6px;padding:.15rem .6rem;cursor:pointer}
.options input:checked+label{background:#e4edfd;border-color:#2f6fde}
.options input{margin:0 .1rem 0 .6rem}pre{margin:0 0 .4rem;white-space:pre-wrap}
""".strip()


def document(page: Page, address: Address, options: Mapping[str, str]) -> str:
    """A whole page; `options` are those that are chosen on it."""
    layouts = {"search_results": _results, "item_page": _item, "item_sub_page": _sub, "done": _done}
    lines = layouts.get(page.name, _index)(list(page.nodes), address, options)
    body = "\n".join(lines)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>WebShop</title>\n<style>\n{_STYLE}\n</style>\n'
        f"</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


Options = Mapping[str, str]


def _index(nodes: list[Node], address: Address, _: Options) -> Iterator[str]:
    title, label, instruction, search = nodes
    yield f"<h2>{_text(title)}</h2>"
    yield _instruction(label, instruction)
    yield f'<form class="card" method="get" action="{_quoted(address(search))}">'
    yield '<input id="search_input" type="text" name="search_query" aria-label="Search" required>'
    yield f'<button class="btn find" type="submit">{_text(search)}</button>\n</form>'


def _results(nodes: list[Node], address: Address, _: Options) -> Iterator[str]:
    label, instruction, back, count, *rest = nodes
    yield _instruction(label, instruction)
    yield _button(back, address)
    yield f"<h4>{_text(count)}</h4>"
    yield from (_button(node, address) for node in rest if node.kind == "button")
    shown = [node for node in rest if node.kind != "button"]
    for at in range(0, len(shown), 3):
        link, title, price = shown[at : at + 3]
        yield '<div class="card result">'
        yield _picture(title.text)
        href = _quoted(address(link))
        yield f'<h4><a class="product-link" href="{href}">{_text(link)}</a></h4>'
        yield f'<p class="title">{_text(title)}</p>\n<p class="price">{_text(price)}</p>\n</div>'


def _item(nodes: list[Node], address: Address, options: Options) -> Iterator[str]:
    label, instruction, back, previous, *rest = nodes
    yield _instruction(label, instruction)
    yield _button(back, address)
    yield _button(previous, address)
    first = next(at for at, node in enumerate(rest) if node.kind == "button")
    title, price, rating = rest[first - 3 : first]
    yield '<div class="card options">'
    for at, node in enumerate(rest[: first - 3]):
        if node.kind == "text":
            yield f"<h4>{_text(node)}</h4>"
            continue
        checked = " checked" if options.get(node.name.lower()) == node.text.lower() else ""
        value, name, to = _quoted(node.text), _quoted(node.name), _quoted(address(node))
        yield (
            f'<input type="radio" id="option_{at}" name="{name}" value="{value}" data-url="{to}"'
            f' onchange="location.href=this.dataset.url"{checked}>'
        )
        yield f'<label for="option_{at}">{_text(node)}</label>'
    yield '</div>\n<div class="card">'
    yield _picture(title.text)
    yield f"<h2>{_text(title)}</h2>"
    yield f"<h4>{_text(price)}</h4>\n<h4>{_text(rating)}</h4>"
    yield from (_button(node, address) for node in rest[first:])
    yield "</div>"


def _sub(nodes: list[Node], address: Address, _: Options) -> Iterator[str]:
    label, instruction, back, previous, *texts = nodes
    yield _instruction(label, instruction)
    yield _button(back, address)
    yield _button(previous, address)
    yield '<div class="card">'
    yield from (f"<p>{_text(node)}</p>" for node in texts)
    yield "</div>"


def _done(nodes: list[Node], _: Address, __: Options) -> Iterator[str]:
    thanks, *rest = nodes
    yield f'<h2>{_text(thanks)}</h2>\n<div class="card">'
    values = {"None", rest[5].text, rest[7].text, rest[-3].text}
    for at, node in enumerate(rest):
        hidden = "" if at < 3 or len(rest) - 5 < at < len(rest) - 2 else " hidden"
        tag = "pre" if node.text in values else "p"
        name = ' id="reward"' if at == len(rest) - 3 else ""
        yield f"<{tag}{name}{hidden}>{_text(node)}</{tag}>"
    yield "</div>"


def _instruction(label: Node, instruction: Node) -> str:
    return f'<h4 id="instruction-text">{_text(label)}<br>{_text(instruction)}</h4>'


def _button(node: Node, address: Address) -> str:
    method, kind = ("post", "btn buy") if node.text == BUY else ("get", "btn")
    return (
        f'<form method="{method}" action="{_quoted(address(node))}">\n'
        f'<button class="{kind}" type="submit">{_text(node)}</button>\n</form>'
    )


def _picture(seed: str) -> str:
    hue = blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] * 360 // 256
    return f'<div class="picture" style="background:hsl({hue} 55% 78%)"></div>'


def _text(node: Node) -> str:
    return escape(node.text)


def _quoted(text: str) -> str:
    return escape(text, quote=True)
