"""From the messages of a chat request to ids, without re-tokenising what the policy itself said.

A client sends the whole conversation with every request, as text. Ids that the policy sampled
are remembered under the conversation that they ended, so that the next prompt holds exactly them,
as in a rollout of this process; a message of somebody else's is written anew.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from foldgym.agents.pictures import images_of, view_pictures
from foldgym.agents.recorder import encode_view
from foldgym.agents.renderers import Renderer
from foldgym.types import Ids, Log, Message, Picture, Ref, Tool, View

REMEMBERED = 4096
"""Messages of the policy whose ids are kept, the newest."""


class PromptWriter:
    """Writes prompts with one renderer; safe for threads."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._said: OrderedDict[str, Ids] = OrderedDict()
        self._lock = threading.Lock()

    def write(
        self, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> tuple[Ids, tuple[Picture, ...]]:
        """The ids of a conversation, with the header of the turn that comes, and its pictures."""
        messages = _named(messages)
        first = next((i for i, m in enumerate(messages) if m.role == "assistant"), len(messages))
        opening = tuple(messages[:first])
        log, turn = Log(), -1
        log.append("task", self._renderer.open(opening, tools), "env", messages=opening)
        for at in range(first, len(messages)):
            message = messages[at]
            if message.role == "assistant":
                turn += 1
                ids = self._known(messages[: at + 1]) or self._renderer.say(message, tools)
                log.append("model", ids, "policy", turn=turn, messages=(message,))
            else:
                ids = self._renderer.encode(message)
                log.append("observation", ids, "env", turn=turn, messages=(message,))
        view = View(tuple(Ref(event.id) for event in log))
        ids = encode_view(view, log, self._renderer)
        return ids, view_pictures(view, log, self._renderer, ids)

    def remember(self, messages: Sequence[Message], said: Message, ids: Ids) -> str:
        """Notes with which ids the policy said a message; returns a digest of the conversation."""
        key = _key([*messages, said])
        with self._lock:
            self._said[key] = ids
            self._said.move_to_end(key)
            while len(self._said) > REMEMBERED:
                self._said.popitem(last=False)
        return key

    def _known(self, messages: Sequence[Message]) -> Ids:
        with self._lock:
            return self._said.get(_key(messages), ())


def _named(messages: Sequence[Message]) -> list[Message]:
    """The protocol gives a result only the id of its call; templates want the tool's name."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [
        replace(message, name=names.get(message.tool_call_id, ""))
        if message.role == "tool" and not message.name
        else message
        for message in messages
    ]


def _key(messages: Sequence[Message]) -> str:
    """A digest of what was said; ids of calls and thinking, which clients drop, do not count."""
    rows = [
        [
            message.role,
            message.text,
            [[call.name, call.arguments] for call in message.tool_calls],
            [blake2b(image.data, digest_size=8).hexdigest() for image in images_of([message])],
        ]
        for message in messages
    ]
    return blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()
