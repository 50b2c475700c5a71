"""A world in a browser: what is shown, what can be done, by element and by point, in each form."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from PIL import Image as Picture

from foldgym.containers.browser import Setting
from foldgym.containers.gateway import Request, Response
from foldgym.envs.web.formats import read_answer, read_calls
from foldgym.envs.web.views import changes
from foldgym.envs.web.world import WebEnv
from foldgym.types import Image, Message, Step

pytestmark = pytest.mark.browser

_FIRST = """<title>First</title>
<h1>Welcome</h1>
<form method="post" action="/second">
  <label for="user">User</label> <input id="user" name="user" placeholder="who">
  <select name="size" aria-label="Size"><option>small</option><option>large</option></select>
  <input type="checkbox" id="ok" name="ok"><label for="ok">I agree</label>
  <input type="date" name="day" aria-label="Day">
  <button>Send</button>
</form>
<a href="/second" target="_blank">new tab</a> <a href="/slow">slow</a>
<a href="http://evil.test/">away</a>
<input type="file" aria-label="File" id="file">
<button onclick="alert('boo')">alert</button>
<div id="late"></div>
<button id="covered" style="position:absolute;left:600px;top:10px">under</button>
<div style="position:absolute;left:590px;top:0;width:100px;height:60px;background:red">over</div>
<button id="over" onmouseover="document.getElementById('late').textContent='hovered'"
  ondblclick="document.getElementById('late').textContent='twice'">hover me</button>
<div id="box" style="height:60px;overflow-y:scroll"><div style="height:300px">tall</div></div>
<div hidden>never</div><p style="visibility:hidden">never</p>
<textarea aria-label="Notes" onkeydown="document.getElementById('late').textContent=event.key">
</textarea>
<iframe srcdoc="<button onclick='top.document.title=&quot;framed&quot;'>inside</button>"></iframe>
"""


def site(request: Request) -> Response:
    if request.path == "/":
        return Response(200, _FIRST)
    if request.path == "/slow":
        return Response(200, "<title>Slow</title><img src=/slow.png><p>slow page</p>")
    given = parse_qs(request.body.decode())
    said = "; ".join(f"{key}={','.join(value)}" for key, value in given.items())
    return Response(200, f"<title>Second</title><p>{said or 'nothing'}</p><a href='/'>home</a>")


class Sites(WebEnv):
    """Send the form with "ada"."""

    max_turns = 50

    def place(self) -> Setting:
        return Setting(sites={"a.test": site, "b.test": site})

    def setup(self, rng: random.Random) -> str:
        self.begin("http://a.test/")
        return "Send the form."

    def judge(self) -> None:
        if any("user=ada" in node.get("text", "") for node in self.view.nodes):
            self.finish(1.0)


class Player:
    """Plays by names of elements."""

    def __init__(self, **options: Any) -> None:
        self.env = Sites(**options)
        self.env.reset(seed=0)

    def ref(self, name: str) -> int:
        return next(
            node["ref"]
            for node in self.env.view.nodes
            if node["ref"] and node["tag"] != "label" and name in (node.get("text"), node["name"])
        )

    def do(self, tool: str, **given: Any) -> str:
        from foldgym.tools import call

        step = self.env.step(call(tool, **given))
        return step.observation[-1].text


@pytest.fixture
def player() -> Any:
    made = Player()
    yield made
    made.env.close()


def test_the_tree_says_roles_names_and_states(player: Player) -> None:
    text = player.env.page_text()
    assert text.startswith("First (http://a.test/)\n")
    for line in (
        'heading "Welcome"',
        'textbox "User"',
        'combobox "Size" options=*small|large',
        'checkbox "I agree"',
        'button "Send"',
        'link "slow"',
        'button "inside"',
    ):
        assert line in text
    assert "never" not in text


def test_a_form_is_filled_and_sent(player: Player) -> None:
    assert 'value="ada"' in player.do("fill", ref=player.ref("User"), text="ada")
    assert "small|*large" in player.do("select", ref=player.ref("Size"), options=["large"])
    assert 'checkbox "I agree" checked' in player.do("click", ref=player.ref("I agree"))
    player.do("fill", ref=player.ref("Day"), text="2024-02-29")
    step = player.env.step(
        Message("assistant", f'{{"name": "click", "arguments": {{"ref": {player.ref("Send")}}}}}')
    )
    assert not step.terminated  # text without a call is no call
    player.do("click", ref=player.ref("Send"))
    assert player.env.view.nodes[-2]["text"] == "user=ada; size=large; ok=on; day=2024-02-29"
    assert player.env.measure()["success"] is True


def test_pages_tabs_and_history(player: Player) -> None:
    assert "Slow" in player.do("click", ref=player.ref("slow"))
    assert "First" in player.do("go_back")
    assert "slow page" in player.do("go_forward")
    player.do("go_back")
    shown = player.do("click", ref=player.ref("new tab"))
    assert "tab 0: First\ntab 1*: Second" in shown
    assert "tab 0*: First" in player.do("tab_focus", index=0)
    assert "no tab 7" in player.do("tab_focus", index=7)
    assert "tab 2*" in player.do("new_tab", url="b.test/")
    assert "tab 2" not in player.do("tab_close")
    assert "(http://b.test/)" in player.do("goto", url="http://b.test/")
    for url in ("http://evil.test/", "file:///etc/passwd", "chrome://version", "javascript:1"):
        assert "outside of what may be reached" in player.do("goto", url=url)
    player.do("tab_close")
    assert "the only tab" in player.do("tab_close")
    assert "outside of what may be reached" in player.do("click", ref=player.ref("away"))


def test_what_cannot_be_done_is_said(player: Player) -> None:
    assert "error: there is no element 999" in player.do("click", ref=999)
    assert "lies over it" in player.do("click", ref=player.ref("under"))
    assert "is no field to fill" in player.do("fill", ref=player.ref("Send"), text="x")
    assert 'no option "huge"' in player.do("select", ref=player.ref("Size"), options=["huge"])
    assert "is no value of a date" in player.do("fill", ref=player.ref("Day"), text="soon")
    assert "error:" in player.do("press", key="NoSuchKey")
    assert "no file 'x' to upload" in player.do("upload", ref=player.ref("File"), file="x")
    assert player.env.measure()["errors"] == 7


def test_mouse_keys_and_dialogs(player: Player) -> None:
    assert "dialog alert: boo" in player.do("click", ref=player.ref("alert"))
    assert "hovered" in player.do("hover", ref=player.ref("hover me"))
    assert "twice" in player.do("dblclick", ref=player.ref("hover me"))
    assert '"k"' in player.do("press", key="k", ref=player.ref("Notes"))
    assert 'value="kly"' in player.do("keyboard_type", text="ly")
    assert "framed" in player.do("click", ref=player.ref("inside"))
    box = next(node for node in player.env.view.nodes if node.get("scroll"))
    assert "scroll=100/" in player.do("scroll", ref=box["ref"], dy=100)
    x, y, width, height = next(
        node["box"] for node in player.env.view.nodes if node["name"] == "I agree"
    )
    assert "checked" in player.do("mouse_click", x=x + width / 2, y=y + height / 2)
    assert "error" not in player.do("mouse_drag", x=5, y=5, to_x=50, to_y=50)


@pytest.mark.parametrize("x", [1e50, -1.0, 1281.0])
def test_a_mouse_stays_in_the_window(player: Player, x: float) -> None:
    assert "error" not in player.do("mouse_down", x=5, y=5)
    for name in ("mouse_click", "mouse_dblclick", "mouse_move", "mouse_down", "mouse_up"):
        assert f"({x:g}, 5) is outside of the window, 1280 x 720" in player.do(name, x=x, y=5)
    assert "is outside of the window" in player.do("mouse_drag", x=5, y=5, to_x=5, to_y=x)
    assert "error" not in player.do("mouse_up", x=1280, y=720)


def test_files_come_from_the_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.txt").write_text("x")
    (tmp_path / "other.txt").write_text("x")
    player = Player(uploads=str(tmp_path / "in"))
    assert "no file" in player.do("upload", ref=player.ref("File"), file="../other.txt")
    assert 'value="mine.txt"' in player.do("upload", ref=player.ref("File"), file="mine.txt")
    player.env.close()


def test_only_what_changed_is_shown_when_asked() -> None:
    player = Player(changes=True)
    player.env.page_text()
    assert player.do("noop") == "First (http://a.test/)\nnothing changed"
    ref = player.ref("User")
    assert player.do("fill", ref=ref, text="bob").split("\n")[1:] == [
        f'- [{ref}] textbox "User"',
        f'+ [{ref}] textbox "User" value="bob" focused',
    ]
    player.env.close()
    assert changes(["a", "b"], ["b", "c"]) == ["- a", "+ c"]


def test_pictures_travel_with_the_observation() -> None:
    shots: dict[str, bytes] = {}
    for kind in ("raw", "marks"):
        player = Player(image=kind, text="dom")
        step = player.env.step("{}")
        text, picture = step.observation[-1].content
        assert isinstance(text, str)
        assert isinstance(picture, Image)
        assert "<input ref=" in text
        assert Picture.open(io.BytesIO(picture.data)).size == (1280, 720)
        shots[kind] = picture.data
        player.env.close()
    raw, marks = (Picture.open(io.BytesIO(each)).convert("RGB") for each in shots.values())
    x, y, *_ = next(node["box"] for node in player.env.view.nodes if node["name"] == "User")
    assert raw.getpixel((int(x), int(y))) != marks.getpixel((int(x), int(y)))


def test_browsergyms_calls_are_played() -> None:
    player = Player(actions="browsergym")
    assert player.env.tools == ()

    def say(text: str) -> Step:
        return player.env.step(Message("assistant", text))

    assert "error: 'import os' is no call" in say("import os").observation[0].text
    shown = say(f"```python\nfill('{player.ref('User')}', 'ada')\nnoop(10)\n```").observation
    assert 'value="ada"' in shown[0].text
    assert say(f'click("{player.ref("Send")}")').terminated
    assert player.env.measure()["score"] == 1.0
    player.env.close()


def test_ui_r1s_answers_are_played() -> None:
    player = Player(actions="ui-r1")
    x, y, width, height = next(n["box"] for n in player.env.view.nodes if n["name"] == "I agree")
    point = [x + width / 2, y + height / 2]
    step = player.env.step(
        Message(
            "assistant",
            f"<think>.</think><answer>[{{'action': 'click', 'coordinate': {point}}}]</answer>",
        )
    )
    assert "checked" in step.observation[0].text
    player.env.close()


def test_texts_are_read_and_never_run() -> None:
    [made] = read_calls('select_option("a12", options=["x", "y"])')
    assert (made.name, made.arguments) == ("select", '{"ref": 12, "options": ["x", "y"]}')
    assert [each.name for each in read_calls("go_back()\nclear('3')")] == ["go_back", "fill"]
    for text in (
        "__import__('os').system('true')",
        "click(__import__('os'))",
        "click(ref)",
        "x = click('1')",
        "click('1'); import os",
        "clik('1')",
        "click('1', 'left', [], 4)",
        "click(what='1')",
        "click('one')",
        "click(" * 3000,
        "",
        "(" * 400,
    ):
        with pytest.raises(ValueError, match=r"\w"):
            read_calls(text)
    [made] = read_answer("<answer>[{'action': 'scroll', 'direction': 'up'}]</answer>")
    assert made.arguments == '{"dx": 0, "dy": -300}'
    for text in (
        "click",
        "<answer>[]</answer>",
        "<answer>open('x')</answer>",
        "<answer>[{'action': 'click'}]</answer>",
        "<answer>[{'action': 'click', 'coordinate': [1, True]}]</answer>",
        "<answer>[{'action': 'fly'}]</answer>",
        "<answer>['click']</answer>",
    ):
        with pytest.raises(ValueError, match=r"\w"):
            read_answer(text)
