"""Tools: schemas from functions, and every mistake of a model answered in one line."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.tools import (
    MAX_ARGUMENTS,
    MAX_CALLS,
    call,
    call_tool,
    format_call,
    parse_action,
    random_call,
    tool,
    unknown_tool,
    usage,
)
from foldgym.types import Message, Tool, ToolCall


@tool
def search(query: str, limit: int = 3) -> str:
    """Find documents
    about something.

    Args:
        query: words to look for
        limit: how many documents
            to show
    """
    return f"{query}|{limit}"


@tool
def guess(number: int) -> str:
    """Guess a number."""
    return str(number + 1)


@tool
def look() -> str:
    """Look around."""
    return "nothing"


@tool(concurrent=True, name="open")
def open_it(thing: Literal["door", "box"], force: float = 1.0) -> str:
    """Open something."""
    return f"{thing} {force}"


TOOLS = (search, guess, look, open_it)


class TestSchema:
    def test_function(self) -> None:
        assert search.name == "search"
        assert search.description == "Find documents about something."
        assert search.parameters == {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "words to look for"},
                "limit": {
                    "type": "integer",
                    "default": 3,
                    "description": "how many documents to show",
                },
            },
            "required": ["query"],
            "additionalProperties": False,
        }
        assert isinstance(search, Tool)
        assert search("a", limit=1) == "a|1"

    def test_no_parameters(self) -> None:
        assert look.parameters["properties"] == {}
        assert usage(look) == "look"

    def test_options(self) -> None:
        assert (open_it.name, open_it.concurrent, search.concurrent) == ("open", True, False)

    def test_usage(self) -> None:
        assert usage(guess) == "guess <number: integer>"
        assert usage(search) == 'search {"query": string, "limit"?: integer}'
        assert usage(open_it) == 'open {"thing": door|box, "force"?: number}'

    def test_names_that_pydantic_keeps_for_itself(self) -> None:
        @tool
        def odd(copy: str, json: int, model_config: bool = False) -> str:
            """Odd names."""
            return f"{copy}{json}{model_config}"

        assert list(odd.parameters["properties"]) == ["copy", "json", "model_config"]
        assert call_tool(odd, '{"copy": "a", "json": 2}') == "a2False"

    def test_a_parameter_called_title_keeps_its_place(self) -> None:
        @tool
        def book(title: str) -> str:
            """Find a book."""
            return title

        assert list(book.parameters["properties"]) == ["title"]

    def test_sphinx_docstring(self) -> None:
        @tool
        def find(word: str) -> str:
            """Find a word.

            :param word: what to
                find
            """
            return word

        assert find.description == "Find a word."
        assert find.parameters["properties"]["word"]["description"] == "what to find"

    def test_methods_bind(self) -> None:
        class Counter:
            def __init__(self) -> None:
                self.count = 0

            @tool
            def add(self, amount: int) -> str:
                """Add."""
                self.count += amount
                return str(self.count)

        one, two = Counter(), Counter()
        assert call_tool(one.add, '{"amount": 2}') == "2"
        assert one.add(3) == "5"
        assert call_tool(two.add, '{"amount": 1}') == "1"
        assert list(Counter.add.parameters["properties"]) == ["amount"]

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("def f(x: int): pass", "tool f has no docstring"),
            ("def f(x):\n  'Doc.'", "parameter x has no type annotation"),
            ("def f(*x: int):\n  'Doc.'", "takes *x"),
            ("def f(**x: int):\n  'Doc.'", "takes *x"),
            ("def f(x: int, /):\n  'Doc.'", "x is positional-only"),
            ("def f(x: 'Missing'):\n  'Doc.'", "names something unknown"),
            ("def f(x: int):\n  'Doc.\\n\\n  Args:\\n    y: what'", "describes 'y'"),
            ("def f(x: __import__('threading').Thread):\n  'Doc.'", "tool f"),
        ],
    )
    def test_refused(self, source: str, said: str) -> None:
        space: dict[str, Any] = {}
        exec(source, space)
        with pytest.raises(UserError) as caught:
            tool(space["f"])
        assert said in str(caught.value)

    def test_refused_name(self) -> None:
        with pytest.raises(UserError, match="letters, digits"):
            tool(name="a b")(lambda: None)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "calls"),
        [
            ("search pastan lies", [("search", {"query": "pastan lies"})]),
            ("  guess 42 \n", [("guess", {"number": 42})]),
            ("guess -7", [("guess", {"number": -7})]),
            ("guess many", [("guess", {"number": "many"})]),
            ("look", [("look", {})]),
            ("open door", [("open", {"thing": "door"})]),
            ('search {"query": "a", "limit": 1}', [("search", {"query": "a", "limit": 1})]),
            ('search {"query":\n "a"}\nlook', [("search", {"query": "a"}), ("look", {})]),
            ("look\nguess 1", [("look", {}), ("guess", {"number": 1})]),
            ('{"name": "guess", "arguments": {"number": 5}}', [("guess", {"number": 5})]),
            ('{"name": "guess", "arguments": "{\\"number\\": 5}"}', [("guess", {"number": 5})]),
            ('[{"name": "look"}, {"name": "look"}]', [("look", {}), ("look", {})]),
            ('{"name": "look"}\n{"name": "fly"}', [("look", {}), ("fly", {})]),
        ],
    )
    def test_calls(self, text: str, calls: list[tuple[str, Any]]) -> None:
        message, problem = parse_action(text, TOOLS)
        assert problem == ""
        assert [(each.name, json.loads(each.arguments)) for each in message.tool_calls] == calls
        assert [each.id for each in message.tool_calls] == [f"call_{i}" for i in range(len(calls))]

    def test_arguments_stay_as_written(self) -> None:
        (made,) = parse_action('search {"query":"a" }', TOOLS).message.tool_calls
        assert made.arguments == '{"query":"a" }'

    @pytest.mark.parametrize(
        "text",
        ["", " \n", "I think that", "searching x", "{1, 2}", '{"a": 1}', "[1]", "[", '"look"'],
    )
    def test_plain_content_is_no_problem(self, text: str) -> None:
        assert parse_action(text, TOOLS) == (Message("assistant", text), "")

    def test_lines_between_calls_are_content(self) -> None:
        message, problem = parse_action("look\nHm.\nguess 3\nSo.", TOOLS)
        assert (message.content, problem) == ("Hm.\nSo.", "")
        assert [each.name for each in message.tool_calls] == ["look", "guess"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('{"name": "look"', "broken JSON at character 15"),
            ('{"name": "look", "name": "look"}', 'the key "name" appears twice'),
            ('{"name": "guess", "arguments": {"number": NaN}}', "NaN is not a number"),
            ('{"name": "look"} {"b": 1}', "not a tool call"),
            ('{"name": ' * 5000, "nested too deeply"),
            ("look\n" * (MAX_CALLS + 1), f"more than {MAX_CALLS} tool calls"),
        ],
    )
    def test_problems(self, text: str, said: str) -> None:
        message, problem = parse_action(text, TOOLS)
        assert problem.startswith("error: ")
        assert said in problem
        assert "\n" not in problem
        assert "guess <number: integer>" in problem
        assert message.tool_calls == ()

    def test_as_many_calls_as_allowed(self) -> None:
        assert len(parse_action("look\n" * MAX_CALLS, TOOLS).message.tool_calls) == MAX_CALLS

    def test_lone_surrogates_become_question_marks(self) -> None:
        assert parse_action("search \ud800x", TOOLS).message.tool_calls[0].arguments == (
            '{"query": "?x"}'
        )

    @given(st.text(), st.sampled_from(["", "search ", "guess ", "look ", "{", '{"name": "']))
    def test_never_raises(self, text: str, start: str) -> None:
        message, problem = parse_action(start + text, TOOLS)
        assert message.role == "assistant"
        assert "\n" not in problem
        for made in message.tool_calls:
            found = next((each for each in TOOLS if each.name == made.name), None)
            said = call_tool(found, made.arguments) if found else unknown_tool(made.name, TOOLS)
            said.encode()


class TestFormat:
    @pytest.mark.parametrize(
        ("name", "arguments", "text"),
        [
            ("search", {"query": "pastan lies"}, "search pastan lies"),
            ("guess", {"number": 42}, "guess 42"),
            ("look", {}, "look"),
            ("search", {"query": " padded"}, 'search {"query": " padded"}'),
            ("search", {"query": "a\nb"}, 'search {"query": "a\\nb"}'),
            ("search", {"query": "{}"}, 'search {"query": "{}"}'),
            ("search", {"query": "a", "limit": 2}, 'search {"query": "a", "limit": 2}'),
            ("guess", {"number": "42"}, 'guess {"number": "42"}'),
        ],
    )
    def test_examples(self, name: str, arguments: Any, text: str) -> None:
        assert format_call(ToolCall(name, json.dumps(arguments)), TOOLS) == text

    def test_unknown_tool_and_broken_arguments(self) -> None:
        for made in (ToolCall("fly", '{"a": 1}'), ToolCall("guess", '{"number": ')):
            text = format_call(made, TOOLS)
            (read,) = parse_action(text, TOOLS).message.tool_calls
            assert (read.name, read.arguments) == (made.name, made.arguments)

    @given(
        st.sampled_from(["search", "guess", "look", "open", "other"]),
        st.dictionaries(
            st.sampled_from(["query", "limit", "number", "thing", "force"]),
            st.one_of(
                st.text(st.characters(exclude_categories=["Cs"])),
                st.integers(-(10**9), 10**9),
                st.floats(allow_nan=False, allow_infinity=False),
                st.booleans(),
                st.none(),
                st.lists(st.integers(0, 9)),
            ),
        ),
    )
    def test_round_trip(self, name: str, arguments: dict[str, Any]) -> None:
        written = json.dumps(arguments)
        text = format_call(ToolCall(name, written), TOOLS)
        message, problem = parse_action(text, TOOLS)
        assert problem == ""
        assert message.content == ""
        (read,) = message.tool_calls
        assert read.name == name
        assert json.dumps(json.loads(read.arguments)) == written

    def test_call(self) -> None:
        made = call("search", query="é")
        assert made == Message(
            "assistant", tool_calls=(ToolCall("search", '{"query": "é"}', "call_0"),)
        )


class TestCall:
    def test_runs(self) -> None:
        assert call_tool(guess, '{"number": 41}') == "42"
        assert call_tool(search, '{"query": "a"}') == "a|3"
        assert call_tool(look, "") == "nothing"
        assert call_tool(search, '{"query": 7}') == "7|3"  # a number is read as text

    @pytest.mark.parametrize(
        ("which", "arguments", "said"),
        [
            (guess, "{}", "guess: number is missing"),
            (guess, '{"numbr": 1}', "no parameter \"numbr\" (did you mean 'number'?)"),
            (guess, '{"number": "many"}', "number: input should be a valid integer"),
            (guess, '{"number": null}', "got null"),
            (guess, '{"number": 1.5}', "got 1.5"),
            (guess, '{"number": [1, 2]}', "got [1, 2]"),
            (guess, '{"number": ' + "9" * 101 + "}", "101 digits"),
            (guess, '{"number": 1', "broken JSON at character 12"),
            (guess, '"5"', 'must be a JSON object, got "5"'),
            (guess, '{"number": 1, "number": 2}', 'the key "number" appears twice'),
            (guess, '{"number": NaN}', "NaN"),
            (guess, '{"number": -Infinity}', "-Infinity"),
            (open_it, '{"thing": "box", "force": 1e999}', "too large"),
            (open_it, '{"thing": "box", "force": "nan"}', "finite"),
            (open_it, '{"thing": "lid"}', "'door' or 'box'"),
            (search, '{"query": {"a": 1}}', "valid string"),
            (search, '{"query": "' + "x" * MAX_ARGUMENTS + '"}', "characters long"),
            (search, '{"query": ' * 1500, "nested too deeply"),
            (search, '{"query": ' + "[" * 17 + "]" * 17 + "}", "nested too deeply"),
            (search, '{"' + "k\\n" * 100 + '": 1}', "no parameter"),
        ],
    )
    def test_mistakes(self, which: Tool, arguments: str, said: str) -> None:
        reply = call_tool(which, arguments)
        assert reply.startswith("error: ")
        assert said in reply
        assert reply.endswith(f"Usage: {usage(which)}")
        assert len(reply.splitlines()) == 1
        assert len(reply) < 400

    def test_arguments_of_another_type_than_text(self) -> None:
        assert call_tool(guess, {"number": 1}).startswith("error: ")  # type: ignore[arg-type]

    def test_results(self) -> None:
        @tool
        def give(what: int) -> Any:
            """Give something."""
            return [None, {"a": 1}, "\ud800", 2.5][what]

        assert [call_tool(give, f'{{"what": {i}}}') for i in range(4)] == [
            "done",
            '{"a": 1}',
            "?",
            "2.5",
        ]

    def test_its_own_exception_propagates(self) -> None:
        @tool
        def fail() -> str:
            """Fail."""
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            call_tool(fail, "{}")

    def test_unknown(self) -> None:
        said = unknown_tool("serch", TOOLS)
        assert said.startswith(
            "error: there is no tool \"serch\" (did you mean 'search'?). Tools: "
        )
        assert "look" in said
        assert len(unknown_tool("x\n" * 9999, TOOLS).splitlines()) == 1

    def test_hand_written_schema(self) -> None:
        plain = Tool(
            "note",
            "Note.",
            {
                "type": "object",
                "properties": {"text": {"type": "string"}, "where": {"enum": ["a", "b"]}},
                "required": ["text"],
            },
            lambda text, where="a": f"{text}@{where}",
        )
        assert call_tool(plain, '{"text": "x", "where": "b"}') == "x@b"
        assert "should be string, got 5" in call_tool(plain, '{"text": 5}')
        assert "should be string, got true" in call_tool(plain, '{"text": true}')
        assert "one of a, b" in call_tool(plain, '{"text": "x", "where": "c"}')
        assert "text is missing" in call_tool(plain, "{}")


class TestRandomCall:
    @given(st.integers(0, 10**6))
    def test_fits_the_schema(self, seed: int) -> None:
        made = random_call(TOOLS, ("red", "7"), generator(seed))
        found = next(each for each in TOOLS if each.name == made.name)
        assert not call_tool(found, made.arguments).startswith("error:")

    def test_is_seeded(self) -> None:
        draws = [[random_call(TOOLS, (), generator(s)) for s in range(20)] for _ in range(2)]
        assert draws[0] == draws[1]
        assert len({each.name for each in draws[0]}) == 4

    def test_needs_a_tool(self) -> None:
        with pytest.raises(ValueError, match="at least one tool"):
            random_call((), (), generator(0))
