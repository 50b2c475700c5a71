"""What a policy folder tells other programs: a chat template, and how to read calls.

`AutoTokenizer` and with it TRL, vLLM and `transformers chat` then write the very ids that our
renderer writes.
"""

from __future__ import annotations

import re

from foldgym.agents.renderers.base import Tokenizer
from foldgym.agents.renderers.chatml import TOOLS_INTRO
from foldgym.types import Json

_COMPACT = """\
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content }}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""

_CHATML = """\
{%- macro framed(role, text) -%}
{{ '<|im_start|>' + role + '\\n' + (GAP if text else '') + text + '<|im_end|>\\n' }}
{%- endmacro -%}
{%- if tools -%}
{%- set listing = namespace(text=INTRO) -%}
{%- for tool in tools -%}
{%- set listing.text = listing.text + (tool | tojson(ensure_ascii=true)) + '\\n' -%}
{%- endfor -%}
{%- set listing.text = listing.text + '</tools>' -%}
{%- if messages and messages[0].role == 'system' -%}
{%- set listing.text = messages[0].content + '\\n\\n' + listing.text -%}
{%- endif -%}
{{ framed('system', listing.text) }}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{ framed('user', '<tool_response>\\n' + message.content + '\\n</tool_response>') }}
{%- elif message.role == 'assistant' -%}
{%- set said = namespace(parts=[]) -%}
{%- set thought = message.reasoning_content or message.thinking -%}
{%- if thought -%}
{%- set said.parts = said.parts + ['<think>\\n' + thought + '\\n</think>\\n'] -%}
{%- endif -%}
{%- if message.content -%}
{%- set said.parts = said.parts + [message.content] -%}
{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{%- set call = call.function if call.function is defined else call -%}
{%- set given = call.arguments if call.arguments is string else call.arguments | tojson -%}
{%- set body = '{"name": ' + (call.name | tojson) + ', "arguments": ' + given + '}' -%}
{%- set said.parts = said.parts + ['<tool_call>\\n' + body + '\\n</tool_call>'] -%}
{%- endfor -%}
{{ framed('assistant', said.parts | join('\\n')) }}
{%- elif not (tools and loop.first and message.role == 'system') -%}
{{ framed(message.role, message.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

_CHATML_ANSWERS: dict[str, Json] = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": r"<\|im_start\|> ?assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close_pattern": r"</think>\s*"},
        "tool_calls": {
            "open": "<tool_call>",
            "close_pattern": r"</tool_call>\s*",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*"},
    },
}


_MARK = re.compile(r"\A\{#- foldgym: ([\w-]+) -#\}")


def renderer_in(template: str) -> str:
    """The renderer whose chat template this is; empty if foldgym did not write it."""
    found = _MARK.match(template)
    return found.group(1) if found else ""


def folder_settings(renderer: str, tokenizer: Tokenizer) -> dict[str, Json]:
    """What `tokenizer_config.json` should say of a renderer: nothing of one that we do not know.

    `chat_template` writes the ids of `renderer.open` and what follows (tools too, where they are
    given as JSON schemas); a text that spells a control token forges one there, as with every chat
    template, and stays text here. `response_template` is how transformers reads calls in a message.
    """
    if renderer == "compact":
        return {"chat_template": _mark(renderer) + _COMPACT, "eos_token": "<|end|>"}
    if renderer != "chatml":
        return {}
    gap = _gap(tokenizer)
    text = _CHATML.replace("GAP", repr(gap)).replace("INTRO", repr(TOOLS_INTRO))
    return {
        "chat_template": _mark(renderer) + text,
        "eos_token": "<|im_end|>",
        "response_template": _CHATML_ANSWERS,
    }


def _mark(renderer: str) -> str:
    """Other programs keep a template as it is when they save the folder anew."""
    return f"{{#- foldgym: {renderer} -#}}"


def _gap(tokenizer: Tokenizer) -> str:
    """What must stand between a header line and a text for both to have the ids they have alone.

    Our own tokenizers begin every text with a space, so a text that follows has one more.
    """
    alone = (*tokenizer.encode("user\n"), *tokenizer.encode("text"))
    return " " if tokenizer.encode("user\n text") == alone else ""
