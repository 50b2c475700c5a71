"""The gold answer's turn: written as the renderer writes it, found by offsets, read back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.agents.answering import AnswerWriter, Place, moments
from foldgym.agents.engines.tokenizer import CHATML_CONTROLS, CONTROLS, train_tokenizer
from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer, byte_spans
from foldgym.errors import ConfigError
from foldgym.rewards.information_gain import AnswerForm
from foldgym.testing.doubles import ByteTokenizer
from foldgym.tools import call, tool
from foldgym.types import Ids, Message, Segment, Stop, Task, Trajectory, Turn


@tool
def search(query: str) -> str:
    """Find."""
    return query


@tool
def answer(text: str) -> str:
    """Answer."""
    return text


@tool
def submit(value: int) -> str:
    """Answer with a number."""
    return str(value)


WORLD = (search, answer)


class Pairs:
    """Two characters an id, so that ids reach over the edges of an answer."""

    vocab_size = 1 << 17

    def encode(self, text: str) -> Ids:
        return tuple(hash_pair(text[a:b]) for a, b in self.spans(text))

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        return tuple((a, min(a + 2, len(text))) for a in range(0, len(text), 2))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("<end>" if i < 100 else chr((i - 100) // 300) + tail(i) for i in ids)

    def control(self, name: str) -> int:
        return len(name)


def hash_pair(pair: str) -> int:
    return 100 + ord(pair[0]) * 300 + (ord(pair[1]) if len(pair) > 1 else 0)


def tail(i: int) -> str:
    return chr((i - 100) % 300) if (i - 100) % 300 else ""


TRAINED = train_tokenizer(
    ["answer pastan", 'search {"text": "tanpas of pastan"}'] * 9,
    330,
    dict.fromkeys((*CONTROLS, *CHATML_CONTROLS)),
)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), TRAINED], ids=["bytes", "trained"])
@pytest.mark.parametrize("make", [CompactRenderer, ChatMLRenderer])
@pytest.mark.parametrize(
    "gold",
    [
        "pastan",
        "new pastan",
        'the "old" one',
        "{braces}",
        "two\nlines",
        "Åse 😀",
        "answer",
        "42",
        " x ",
    ],
)
def test_the_scored_ids_are_the_answer_and_nothing_else(make, tokenizer, gold: str) -> None:
    renderer = make(tokenizer)
    write = AnswerWriter(renderer, WORLD, AnswerForm())
    found = write(gold)
    assert found.ids == renderer.say(call("answer", text=gold.strip()), WORLD)
    scored = tokenizer.decode(found.ids[found.first : found.last]).strip()
    assert scored in (gold.strip(), gold.replace('"', r"\"").replace("\n", r"\n"))
    assert write.misread(gold) == ""


def test_what_is_written_in_each_template() -> None:
    tokenizer = ByteTokenizer()
    compact = AnswerWriter(CompactRenderer(tokenizer), WORLD, AnswerForm())("pastan")
    assert tokenizer.decode(compact.ids[: compact.first]) == "answer "
    assert tokenizer.decode(compact.ids[compact.last :]) == "<|end|>"
    form = AnswerForm(thought="Enough.")
    chatml = AnswerWriter(ChatMLRenderer(tokenizer), WORLD, form)("pastan")
    assert tokenizer.decode(chatml.ids[: chatml.first]) == (
        '<think>\nEnough.\n</think>\n\n<tool_call>\n{"name": "answer", "arguments": {"text": "'
    )
    assert tokenizer.decode(chatml.ids[chatml.last :]) == '"}}\n</tool_call><|im_end|>'
    igpo = AnswerForm("none", before="<answer>\n", after="\n</answer>", ends=True)
    plain = AnswerWriter(ChatMLRenderer(tokenizer), WORLD, igpo)("pastan")
    assert tokenizer.decode(plain.ids[: plain.first]) == "<answer>\n"
    assert tokenizer.decode(plain.ids[plain.first :]) == "pastan\n</answer><|im_end|>"
    assert plain.last == len(plain.ids)


def test_an_id_that_reaches_over_the_edge_is_scored() -> None:
    # "an|sw|er| p|as|ta|n": the answer begins inside " p"; subtracting a prefix's length would miss
    found = AnswerWriter(CompactRenderer(Pairs()), WORLD, AnswerForm())("pastan")
    assert (found.first, found.last) == (3, 7)
    form = AnswerForm("none", before="<", after=">")
    found = AnswerWriter(CompactRenderer(Pairs()), WORLD, form)("abc")  # "<a|bc|>"
    assert (found.first, found.last) == (0, 2)
    found = AnswerWriter(CompactRenderer(Pairs()), WORLD, form)("ab")  # "<a|b>"
    assert (found.first, found.last) == (0, 2)


def test_a_number_is_asked_for_as_a_number() -> None:
    renderer = ChatMLRenderer(ByteTokenizer())
    write = AnswerWriter(renderer, (search, submit), AnswerForm())
    assert write("42").ids == renderer.say(call("submit", value=42), (submit,))
    assert write.misread("42") == ""


@given(st.text(min_size=1, max_size=12).filter(lambda text: text.strip()))
def test_any_text_is_found_where_it_was_written(gold: str) -> None:
    for make in (CompactRenderer, ChatMLRenderer):
        for tokenizer in (ByteTokenizer(), TRAINED):
            renderer = make(tokenizer)
            found = AnswerWriter(renderer, WORLD, AnswerForm())(gold)
            assert 0 < found.first < found.last < len(found.ids)
            assert found.ids == renderer.say(call("answer", text=gold.strip()), WORLD)


def test_byte_spans_of_wide_characters() -> None:
    assert byte_spans("aé") == ((0, 1), (1, 2), (1, 2))


def test_forms_that_cannot_be_are_refused() -> None:
    renderer = CompactRenderer(ByteTokenizer())
    with pytest.raises(ConfigError, match=r"no tool 'reply' to answer with; tools: search, answer"):
        AnswerWriter(renderer, WORLD, AnswerForm("reply"))
    with pytest.raises(ConfigError, match="stand around plain text, but the answer is a call"):
        AnswerWriter(renderer, WORLD, AnswerForm(before="<answer>"))
    with pytest.raises(ConfigError, match="writes no thoughts"):
        AnswerWriter(renderer, WORLD, AnswerForm(thought="so"))("x")
    with pytest.raises(ConfigError, match="cannot be found"):
        AnswerWriter(renderer, WORLD, AnswerForm())("  ")
    write = AnswerWriter(renderer, WORLD, AnswerForm("none", before="search "))
    assert "it reads back as (ToolCall(name='search'" in write.misread("pastan")


def trajectory(turns: Sequence[Turn], *segments: Segment) -> Trajectory:
    return Trajectory("t", "w", Task("q", ()), 0, tuple(turns), segments, Stop.DONE)


def test_moments_are_where_turns_were_first_sampled() -> None:
    def segment(turn_ids: list[int]) -> Segment:
        size = len(turn_ids)
        return Segment(tuple(range(size)), tuple(turn_ids), (0.0,) * size, (0,) * size)

    said = Message("assistant")
    turns = [
        Turn(0, said),
        Turn(1, said, purpose="fold", info={"instead": [4, 77, 78]}),
        Turn(2, said),
        Turn(3, said, purpose="replay"),
        Turn(4, said),
    ]
    played = trajectory(
        turns,
        segment([-1, -1, 0, 0, -1, -1, 1]),
        segment([-1, 2, 2]),
        segment([-1, -1, 2, -1, 4]),  # turn 2 went on here
    )
    assert moments(played) == [
        Place(0, 0, 2),
        Place(1, 0, 4, (77, 78)),
        Place(2, 1, 1),
        Place(4, 2, 4),
    ]
