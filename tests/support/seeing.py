"""Tiny models that see, with random weights, and pictures to show them."""

from __future__ import annotations

import io
import random
from functools import cache
from typing import Any

import torch
import transformers
from PIL import Image as Pillow

from foldgym.agents.engines.tokenizer import CONTROLS, Tokenizer, train_tokenizer
from foldgym.agents.engines.vision import give_sight
from foldgym.agents.pictures import PictureFormat
from foldgym.types import Image

VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
WORDS = "what is it ? red green blue left right guess look the picture shows a dot . say 1 2 3"


def picture(seed: int, width: int = 56, height: int = 56, kind: str = "PNG") -> Image:
    """Coloured noise."""
    data = random.Random(seed).randbytes(width * height * 3)
    file = io.BytesIO()
    Pillow.frombytes("RGB", (width, height), data).save(file, kind)
    return Image(file.getvalue(), f"image/{kind.lower()}")


@cache
def tokenizer() -> Tokenizer:
    """Words and the control tokens of pictures."""
    return train_tokenizer([WORDS] * 20, 330, (*CONTROLS, *VISION))


def seeing_model(family: str = "qwen2_vl", seed: int = 0) -> Any:
    """A model of 2 layers and 32 dimensions that sees; patches of 4 pixels, 4 to a placeholder."""
    words = tokenizer()
    patch = 4
    small = {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32}
    small["out_hidden_size"] = 32
    vision: dict[str, Any] = {
        "qwen2_vl": {
            "depth": 2,
            "embed_dim": 16,
            "num_heads": 2,
            "mlp_ratio": 2,
            "hidden_size": 32,
        },
        "qwen2_5_vl": small | {"window_size": 16, "fullatt_block_indexes": [1]},
        "qwen3_vl": small | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
    }[family]
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 100.0}
    config: Any = transformers.AutoConfig.for_model(
        family,
        vision_config={
            **vision,
            "patch_size": patch,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        text_config={
            "vocab_size": words.vocab_size,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "intermediate_size": 64,
            "max_position_embeddings": 2048,
            "rope_parameters": rope,
        },
        vision_start_token_id=words.control(VISION[0]),
        vision_end_token_id=words.control(VISION[1]),
        image_token_id=words.control(VISION[2]),
        video_token_id=words.control(VISION[3]),
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = transformers.AutoModelForImageTextToText.from_config(config)
        with torch.no_grad():  # random towers say next to nothing at their usual scale
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3.0)
    model = model.float().eval()
    form = give_sight(model, small_format(model))
    assert form is not None
    return model


def small_format(model: Any) -> PictureFormat:
    """Pictures of few placeholders."""
    words = tokenizer()
    start, end, pad, video = (words.control(name) for name in VISION)
    return PictureFormat(start, pad, end, video, patch=4, merge=2, least=8 * 8, most=40 * 40)
