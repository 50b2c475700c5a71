"""Tools: a typed Python function becomes something a model can call, and every mistake a sentence.

@tool
def search(query: str, limit: int = 3) -> str:
    '''Find documents.

    Args:
        query: words to look for
        limit: how many documents to show
    '''

parse_action("search pastan lies", [search])    # text of a model -> Message with ToolCalls
call_tool(search, '{"query": "pastan lies"}')   # -> text for the model, mistakes included
"""

from __future__ import annotations

from foldgym.tools.arguments import MAX_ARGUMENTS, MAX_DEPTH, call_tool, unknown_tool, usage
from foldgym.tools.sampling import random_call
from foldgym.tools.schema import ToolFunction, tool
from foldgym.tools.syntax import MAX_CALLS, Parsed, bound, call, format_call, parse_action

__all__ = [
    "MAX_ARGUMENTS",
    "MAX_CALLS",
    "MAX_DEPTH",
    "Parsed",
    "ToolFunction",
    "bound",
    "call",
    "call_tool",
    "format_call",
    "parse_action",
    "random_call",
    "tool",
    "unknown_tool",
    "usage",
]
