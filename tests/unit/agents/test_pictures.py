"""Pictures among ids: how many placeholders, where they are, what the model is fed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seeing import VISION, picture, seeing_model, tokenizer

from foldgym.agents.engines.models import load_policy, save_policy
from foldgym.agents.engines.vision import feed, format_of, positions
from foldgym.agents.pictures import PictureFormat, runs, view_pictures, with_pictures
from foldgym.agents.recorder import Recorder, encode_view
from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer, Renderer
from foldgym.errors import Bug, CheckpointError, EngineError, MemoryFault
from foldgym.records import from_table, to_table
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import (
    Completion,
    Image,
    Log,
    Message,
    Picture,
    Ref,
    Segment,
    Stop,
    Synth,
    Task,
    Trajectory,
    Turn,
    View,
)

FORM = PictureFormat(start=300, pad=301, end=302, video=303)


def renderer(form: PictureFormat = FORM) -> Renderer:
    return with_pictures(CompactRenderer, ByteTokenizer(), form)


@pytest.mark.parametrize(
    ("size", "grid", "count"),
    [
        ((56, 56), (4, 4), 4),  # 3136 pixels is just enough
        ((28, 28), (4, 4), 4),  # grown to the least area
        ((280, 140), (10, 20), 50),  # as it is
        ((281, 150), (10, 20), 50),  # to whole patches of two: 20 * 14 by 10 * 14
    ],
)
def test_placeholders_by_the_rule_of_the_processor(
    size: tuple[int, int], grid: tuple[int, int], count: int
) -> None:
    image = picture(0, *size)
    assert FORM.grid(image) == grid
    assert FORM.count(image) == count
    assert FORM.patches(image).shape == (4 * count, 3 * 2 * 14 * 14)


def test_large_pictures_shrink_within_the_limit() -> None:
    form = PictureFormat(1, 2, 3, most=28 * 28 * 6)
    assert form.resized(28 * 4, 28 * 4) == (56, 56)  # sqrt(6) = 2.4 units a side
    assert form.resized(2000, 20) == (28 * 24, 28)  # never thinner than a unit


def test_what_is_no_picture_fails_one_episode() -> None:
    with pytest.raises(EngineError, match="a picture of 5 bytes cannot be read"):
        FORM.count(Image(b"hello"))
    whole = picture(0, 100, 100)
    with pytest.raises(EngineError, match="cannot be read"):
        FORM.count(Image(whole.data[: len(whole.data) // 2]))
    with pytest.raises(EngineError, match="too slim"):
        FORM.count(picture(0, 402, 2))


def test_a_picture_stands_where_the_message_has_it() -> None:
    image = picture(0)  # four placeholders
    message = Message("user", ("look:", image, "well ?"))
    ids = renderer().encode(message)
    words = ByteTokenizer()
    assert ids == (
        words.control("<|user|>"),
        *words.encode("look:"),
        *(300, 301, 301, 301, 301, 302),
        *words.encode("well ?"),
        words.control("<|end|>"),
    )
    opened = renderer().open([message, message], ())
    assert [end - at for at, end in runs(opened, FORM)] == [4, 4]
    assert CompactRenderer(words).encode(message) == (
        words.control("<|user|>"),
        *words.encode("look:well ?"),
        words.control("<|end|>"),
    )


def test_a_renderer_of_any_kind_carries_pictures_and_a_broken_one_is_found_out() -> None:
    chatml = with_pictures(ChatMLRenderer, ByteTokenizer(), FORM)
    ids = chatml.encode(Message("tool", ("seen:", picture(0))))
    assert len(runs(ids, FORM)) == 1
    assert chatml.stop_ids == ChatMLRenderer(ByteTokenizer()).stop_ids

    class Escaping(CompactRenderer):
        def encode(self, message: Message) -> Any:
            return self.tokenizer.encode(json.dumps(message.text))

    with pytest.raises(Bug, match="Escaping wrote 0 of 1 pictures"):
        with_pictures(Escaping, ByteTokenizer(), FORM).encode(Message("user", (picture(0),)))


@given(st.text("a\ufffe:0123456789", max_size=20))
def test_no_text_forges_a_picture(text: str) -> None:
    for message in (Message("user", text), Message("user", (text, picture(0), text))):
        found = runs(renderer().encode(message), FORM)
        assert len(found) == (message.content != text)
    assert not runs(renderer().tokenizer.encode(text), FORM)


def played(image: Image, forged: tuple[int, ...] = ()) -> tuple[Log, Renderer]:
    writer = renderer()
    log = Log()
    asked = Message("user", ("what ?", image))
    log.append("task", writer.open([asked], ()), "env", messages=(asked,))
    log.append("model", (65, *forged, writer.stop_ids[0]), "policy", turn=0)
    seen = Message("tool", ("this", image, image))
    log.append("observation", writer.encode(seen), "env", turn=0, messages=(seen,))
    return log, writer


def test_pictures_are_found_in_a_view_and_what_was_sampled_is_none() -> None:
    image = picture(0)
    log, writer = played(image, forged=(300, 301, 301, 301, 301, 302))
    view = View((Ref(0), Ref(1), Ref(2)))
    ids = encode_view(view, log, writer)
    found = view_pictures(view, log, writer, ids)
    assert len(found) == 3
    assert len(runs(ids, FORM)) == 4
    for each in found:
        assert ids[each.at - 1] == 300
        assert set(ids[each.at : each.at + 4]) == {301}
    assert found[0].at < ids.index(65) < found[1].at
    short = View((Ref(0), Synth((9,), "gone")))
    assert len(view_pictures(short, log, writer, encode_view(short, log, writer))) == 1
    assert view_pictures(view, log, CompactRenderer(ByteTokenizer()), ids) == ()


def test_a_view_may_not_cut_through_a_picture() -> None:
    log, writer = played(picture(0))
    for start, end in ((0, 11), (10, None)):
        view = View((Ref(0, start, end), Ref(1)))
        with pytest.raises(MemoryFault, match="not parts of them"):
            view_pictures(view, log, writer, encode_view(view, log, writer))
    left_out = View((Ref(0, 0, 5), Ref(1)))
    assert view_pictures(left_out, log, writer, encode_view(left_out, log, writer)) == ()


def test_a_picture_that_changed_ends_a_segment() -> None:
    first, second = picture(1), picture(2)
    ids = (5, 300, 301, 301, 301, 301, 302)
    recorder = Recorder()
    recorder.call(ids, Completion((7,), (-1.0,)), 0, pictures=(Picture(2, first),))
    recorder.call((*ids, 7, 8), Completion((7,), (-1.0,)), 1, pictures=(Picture(2, first),))
    recorder.call((*ids, 7, 8, 7), Completion((7,), (-1.0,)), 2, pictures=(Picture(2, second),))
    segments = recorder.freeze()
    assert [segment.trained for segment in segments] == [2, 1]
    assert [segment.pictures[0].image for segment in segments] == [first, second]


def test_records_name_pictures_and_old_ones_read_as_before() -> None:
    said, alone = picture(1), picture(2)
    segment = Segment(
        (5, 300, 301, 302), (-1,) * 4, (0.0,) * 4, (-1,) * 4, pictures=(Picture(2, said),)
    )
    other = Segment((5,), (-1,), (0.0,), (-1,), pictures=(Picture(0, alone), Picture(0, said)))
    turn = Turn(0, Message("assistant", "a"), (Message("tool", ("x", said)),))
    trajectory = Trajectory("a", "e", Task("t", ()), 0, (turn,), (segment, other), Stop.DONE)
    table = json.loads(json.dumps(to_table(trajectory)))
    assert list(table["pictures"]) == [table["segments"][1]["pictures"][0][1]]
    assert from_table(table).trajectory == trajectory
    plain = Trajectory(
        "a", "e", Task("t", ()), 0, (turn,), (Segment((5,), (-1,), (0.0,), (-1,)),), Stop.DONE
    )
    assert "pictures" not in to_table(plain)
    assert "pictures" not in to_table(plain)["segments"][0]


# ---------------------------------------------------------------- what a model is fed


def test_positions_of_text_and_pictures_by_hand() -> None:
    # two words, a picture of 2 by 3 placeholders, one word
    found, after = positions(9, [(2, (4, 6))], 2)
    assert found.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    assert after == 6


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_positions_are_those_of_transformers(family: str) -> None:
    model = seeing_model(family)
    form = format_of(model)
    assert form is not None
    images = [picture(1, 40, 24), picture(2, 16, 32)]
    rows: list[Any] = []
    for shown in (images, images[1:], []):
        ids, seen = [9, 9, 9], list[Picture]()
        for image in shown:
            seen.append(Picture(len(ids) + 1, image))
            ids += [*form.ids(form.count(image)), 9, 9]
        rows.append((ids, seen))
    fed = feed(rows, form, "cpu").inputs
    kinds = (fed["input_ids"] == form.pad).int()
    theirs, _ = model.model.get_rope_index(
        fed["input_ids"],
        mm_token_type_ids=kinds,
        image_grid_thw=fed["image_grid_thw"],
        attention_mask=fed["attention_mask"],
    )
    seen_mask = fed["attention_mask"].bool()
    assert torch.equal(fed["position_ids"][:, seen_mask], theirs[:, seen_mask])


def test_a_sampled_placeholder_is_shown_as_a_start() -> None:
    form = PictureFormat(1, 2, 3, video=4)
    assert feed([((5, 2, 4, 6), ())], form, "cpu").inputs["input_ids"].tolist() == [[5, 1, 1, 6]]
    with pytest.raises(EngineError, match="no picture fits the placeholders at 1"):
        feed([((5, 2, 2, 6), (Picture(1, picture(0)),))], form, "cpu")


def test_pixels_are_those_of_the_processor_of_transformers() -> None:
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    from PIL import Image as Pillow

    processor = module.Qwen2VLImageProcessorPil()
    for size in ((100, 61), (30, 30), (57, 199)):
        image = picture(3, *size)
        with Pillow.open(io.BytesIO(image.data)) as opened:
            theirs = processor(images=[opened.convert("RGB")], return_tensors="np")
        assert theirs["image_grid_thw"].tolist() == [[1, *FORM.grid(image)]]
        np.testing.assert_allclose(FORM.patches(image), theirs["pixel_values"], atol=1e-5)


def test_a_folder_keeps_how_its_model_sees(tmp_path: Path) -> None:
    model = seeing_model()
    save_policy(tmp_path / "policy", model, tokenizer(), "compact")
    saved = load_policy(tmp_path / "policy")
    assert format_of(saved.model) == format_of(model)
    sheet = json.loads((tmp_path / "policy" / "preprocessor_config.json").read_text())
    assert (sheet["patch_size"], sheet["max_pixels"]) == (4, 1600)
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    theirs = module.Qwen2VLImageProcessorPil.from_pretrained(tmp_path / "policy")
    assert (theirs.patch_size, theirs.size["longest_edge"]) == (4, 1600)
    broken = seeing_model()
    broken.config.image_token_id = tokenizer().encode("red")[0]
    save_policy(tmp_path / "broken", broken, tokenizer(), "compact")
    with pytest.raises(CheckpointError, match="is no control token"):
        load_policy(tmp_path / "broken")
    assert tokenizer().control(VISION[2]) == model.config.image_token_id
