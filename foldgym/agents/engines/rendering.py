"""Which renderer a policy folder gets: the one it names, the one that fits, or one found out."""

from __future__ import annotations

from typing import NamedTuple

from foldgym.agents.engines.chat_template import ChatTemplate
from foldgym.agents.engines.generic import GenericRenderer
from foldgym.agents.engines.templates import renderer_in
from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.renderers import RENDERERS, Renderer, make_renderer
from foldgym.agents.renderers.detect import detect
from foldgym.errors import ConfigError, UnknownName, UserError
from foldgym.types import Message

GENERIC = "generic"
_PROBE = [Message("user", "Who?")]


class Chosen(NamedTuple):
    """A renderer, its name with its options, and why it is this one."""

    renderer: Renderer
    name: str
    why: str


def choose_renderer(name: str, tokenizer: Tokenizer, model_type: str = "") -> Chosen:
    """The renderer `name`; for "auto", the family whose prompts are those of the chat template
    (or, of a template that foldgym wrote, the one that it names).

    A family's options, where `name` has none, are read off the template. Raises `UnknownName`, or
    `ConfigError` where nothing fits.
    """
    family, colon, _ = name.partition(":")
    guess = detect(tokenizer.controls(), tokenizer.template, model_type)
    if family == GENERIC:
        return Chosen(GenericRenderer(tokenizer), name, "it is named")
    if family != "auto":
        if family not in RENDERERS:
            raise UnknownName("renderer", family, [*RENDERERS, GENERIC])
        fits = guess is not None and not colon and guess.renderer.partition(":")[0] == family
        name = guess.renderer if guess is not None and fits else name
        return Chosen(make_renderer(name, tokenizer), name, "it is named")
    if ours := renderer_in(tokenizer.template):
        return Chosen(make_renderer(ours, tokenizer), ours, "foldgym wrote its chat template")
    if guess is None:
        if not tokenizer.template:
            raise ConfigError(
                "the tokenizer is of no family that we know and has no chat template; set "
                f"policy.renderer to one of: {', '.join([*RENDERERS, GENERIC])}"
            )
        return Chosen(
            GenericRenderer(tokenizer), GENERIC, "the chat template is of no known family"
        )
    try:
        made = make_renderer(guess.renderer, tokenizer)
        why = _differs(made, tokenizer)
    except UserError as problem:
        why = str(problem)
    else:
        if not why:
            return Chosen(made, guess.renderer, guess.why)
    if not tokenizer.template:
        raise ConfigError(f"the tokenizer looks like {guess.renderer} ({guess.why}), but {why}")
    return Chosen(GenericRenderer(tokenizer), GENERIC, f"it is not {guess.renderer}: {why}")


def _differs(renderer: Renderer, tokenizer: Tokenizer) -> str:
    """What the chat template writes otherwise; empty if it writes the same, or there is none."""
    if not tokenizer.template:
        return ""
    template = ChatTemplate(tokenizer.template, tokenizer.settings)
    wanted = template(_PROBE)
    ids = (*renderer.open(_PROBE, ()), *renderer.header())
    ours = tokenizer.decode(ids)
    if ids != tokenizer.encode_rendered(wanted) and _undated(wanted) != _undated(ours):
        return f"the template renders {wanted!r}, it {ours!r}"
    return ""


def _undated(text: str) -> str:
    """Without the lines that say a date."""
    return "\n".join(line for line in text.splitlines() if "date" not in line.lower())
