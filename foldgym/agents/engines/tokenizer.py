"""Text to ids and back: no text can ever become a control id, and our own tokenizers lose nothing.

A tokenizer that `train_tokenizer` makes is a byte-level BPE. It treats every line as if it began
with a space, so that a word has the same ids at the start of a line, of a message and inside it
(a small model copies names, and a name that looks different in each place is learnt twice).
Digits and punctuation marks stay single.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from foldgym.errors import CheckpointError, ConfigError, DataError, UnknownName
from foldgym.types import Ids, Json

CONTROLS = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")
CHATML_CONTROLS = ("<|im_start|>", "<|im_end|>")

# a word, a digit or a mark, each with the one space before it; a line break; other white space
_PIECES = r" ?[\p{L}\p{M}_]+| ?\p{N}|\n| ?[^\s\p{L}\p{M}\p{N}_]|[^\S\n]+(?=[^\S\n]|$)|\s"
_FRAMING = re.compile(
    r"<[|｜][^\s<>]*[|｜]>|<(start|end)_of_turn>|\[gMASK\]|<sop>"
    r"|</?tool_(call|response)>|</?arg_(key|value)>"
)
_TEMPLATE = "chat_template.jinja"
_REMEMBERED = 1 << 16  # texts; documents and observations repeat within a training step


class Tokenizer:
    """Wraps a `tokenizers.Tokenizer`; the ids of its special tokens are the control ids.

    >>> tokenizer = train_tokenizer(["where is tusmol ?"], vocab_size=300)
    >>> tokenizer.decode(tokenizer.encode("<|end|> is text")), tokenizer.control("<|end|>")
    ('<|end|> is text', 5)

    `template` and `settings` are the chat template and `tokenizer_config.json` that came with it.
    Raises `CheckpointError` if some text would be encoded as a control id after all.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        template: str = "",
        settings: Mapping[str, Json] | None = None,
    ) -> None:
        self.template, self.settings = template, dict(settings or {})
        self._written = backend.to_str()
        _claim(backend)
        self._backend = backend
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self._controls = {
            token.content: number
            for number, token in sorted(backend.get_added_tokens_decoder().items())
            if token.special
        }
        self._names = {number: name for name, number in self._controls.items()}
        self.swallowing = frozenset(
            number for number, token in backend.get_added_tokens_decoder().items() if token.rstrip
        )
        self._known: dict[str, Ids] = {}
        for name in self._controls:
            found = self._names.keys() & set(self.encode(f"a{name}b {name}"))
            if found:
                raise CheckpointError(
                    f"tokenizer encodes the text {name!r} as control id {min(found)}: any text "
                    "could forge a message; use one that keeps special tokens out of plain text"
                )

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to `vocab_size - 1`, control ids included."""
        highest = max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1)
        return highest + 1

    def same_ids(self, other: Tokenizer) -> bool:
        """Whether every id means the same in both."""
        mine, theirs = (each._backend.get_vocab(with_added_tokens=True) for each in (self, other))
        return mine == theirs

    def controls(self) -> Mapping[str, int]:
        """Every control token and its id, in the order of the ids."""
        return dict(self._controls)

    def control(self, name: str) -> int:
        """The id of a control token; raises `UnknownName`."""
        if name not in self._controls:
            raise UnknownName("control token", name, self._controls)
        return self._controls[name]

    def encode(self, text: str) -> Ids:
        """Ids of `text`, none of them a control id. Lone surrogates become U+FFFD."""
        known = self._known.get(text)
        if known is not None:
            return known
        ids = tuple(self._backend.encode(_clean(text), add_special_tokens=False).ids)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[text] = ids
        return ids

    def encode_rendered(self, text: str) -> Ids:
        """Ids of a text in which control names are meant: a rendered template, no one's words."""
        self._backend.encode_special_tokens = False
        try:
            return tuple(self._backend.encode(text, add_special_tokens=False).ids)
        finally:
            self._backend.encode_special_tokens = True

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """Per id of `encode(text)`, the characters `text[start:end]` that it stands for.

        Ids that share the bytes of one character share its span.
        """
        return tuple(self._backend.encode(_clean(text), add_special_tokens=False).offsets)

    def decode(self, ids: Iterable[int], skip_control: bool = False) -> str:
        """The text of `ids`; control ids show as their names, or not at all."""
        parts: list[str] = []
        for is_control, run in groupby(ids, self._names.__contains__):
            if not is_control:
                parts.append(self._backend.decode(list(run), skip_special_tokens=False))
            elif not skip_control:
                parts += [self._names[number] for number in run]
        return "".join(parts)

    def save(self, folder: str | Path, more: Mapping[str, Json] | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as `AutoTokenizer` reads them.

        `more` are further settings, such as a chat template (`engines.templates`).
        """
        folder = Path(folder)
        settings: dict[str, object] = dict(self.settings)
        if not settings:
            settings = {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                "additional_special_tokens": list(self._controls),
            }
            roles = (("pad_token", "<|pad|>"), ("eos_token", "<|end|>"))
            settings |= {role: name for role, name in roles if name in self._controls}
        settings |= more or {}
        template = "" if "chat_template" in settings else self.template
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "tokenizer.json").write_text(self._written, encoding="utf-8")
            if template:
                (folder / _TEMPLATE).write_text(template, encoding="utf-8")
            (folder / "tokenizer_config.json").write_text(
                json.dumps(settings, indent=2) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise DataError(f"could not write the tokenizer to {folder}: {error}") from error


def _clean(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder; raises `CheckpointError`."""
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json; save the tokenizer in the fast format "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(...))"
        )
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every malformed file
        raise CheckpointError(f"{path} is no tokenizer: {error}") from error
    settings = _settings(Path(folder) / "tokenizer_config.json")
    template = settings.pop("chat_template", "")
    if (Path(folder) / _TEMPLATE).is_file():
        template = (Path(folder) / _TEMPLATE).read_text(encoding="utf-8")
    if isinstance(template, list):  # several, by their names
        named = {each.get("name"): each.get("template") for each in template}
        template = named.get("tool_use") or named.get("default") or ""
    return Tokenizer(backend, template or "", settings)


def _settings(path: Path) -> dict[str, Json]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _claim(backend: tokenizers.Tokenizer) -> None:
    """Makes control tokens of added tokens that frame messages but are not marked as special.

    DeepSeek's `<｜User｜>` is one: any text that spells it would otherwise begin a message. Qwen's
    `</tool_response>` is another: a web page could end the result that it is shown in.
    """
    loose = [
        tokenizers.AddedToken(
            token.content,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=True,
        )
        for token in backend.get_added_tokens_decoder().values()
        if not token.special and _FRAMING.fullmatch(token.content)
    ]
    if loose:
        backend.add_special_tokens(loose)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, controls: Iterable[str] = CONTROLS
) -> Tokenizer:
    """Train a tokenizer on `texts`: the same texts give the same tokenizer.

    Control tokens take the ids from 0 in the order given, then come 256 bytes, then what is
    merged. `vocab_size` counts all of them; too few texts give a smaller vocabulary. Every
    text survives `decode(encode(text))`. Raises `ConfigError` if nothing could be merged.
    """
    controls = tuple(controls)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if len(set(controls)) < len(controls) or not all(controls):
        raise ConfigError(f"control tokens must be different and not empty, not {controls}")
    if vocab_size <= len(alphabet) + len(controls):
        raise ConfigError(
            f"vocab_size is {vocab_size} but {len(alphabet)} bytes and {len(controls)} control "
            f"tokens come first; give more than {len(alphabet) + len(controls)}"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence(
        [normalizers.Replace("\n", "\n "), normalizers.Prepend(" ")]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("\n ", "\n"), decoders.Strip(" ", 1, 0)]
    )
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(controls),
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return Tokenizer(backend)
