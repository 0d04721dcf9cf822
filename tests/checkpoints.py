"""Tiny checkpoints with random weights, saved as a real one is: untrained, quick to load, and they do drop."""

import json
from pathlib import Path

import torch

from tests.uoe_model.models import causal_router, free_router, randomised
from uoe_model.config import UoEConfig
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification
from uoe_model.processors.image import UoEImageProcessor
from uoe_model.processors.text import build_tokenizer

CONTEXT = 48
LINES = ("The quick brown fox jumps over the lazy dog.", "Ten small experts sat on a wall.", "def f(x): return x + 1")


def save_text_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """Save a language model with a context of 48 tokens, four attention and eight MLP experts in each of two layers."""
    tokenizer = build_tokenizer(LINES, vocab_size=320, context_length=CONTEXT)
    config = UoEConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=CONTEXT,
        attention_router=causal_router(capacity_factor=1.0),
        mlp_router=causal_router(num_experts=8, capacity_factor=0.75),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    randomised(UoEForCausalLM(config), seed, torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return _say_untrained(folder)


def save_image_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """Save a classifier of 16 x 16 pictures into three classes over 4 x 4 cells."""
    config = UoEConfig(
        vocab_size=0,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        is_causal=False,
        position_embedding="learned",
        attention_router=free_router(),
        mlp_router=free_router(num_experts=8),
        image_size=16,
        grid_size=4,
        stem_channels=[6],
        id2label={0: "cat", 1: "ship", 2: "tree"},
        label2id={"cat": 0, "ship": 1, "tree": 2},
    )
    randomised(UoEForImageClassification(config), seed, torch.float32).save_pretrained(folder)
    UoEImageProcessor(image_size=16, grid_size=4).save_pretrained(folder)
    return _say_untrained(folder)


def _say_untrained(folder: Path) -> Path:
    (folder / "training_run.json").write_text(json.dumps({"steps": 0}), encoding="utf-8")
    return folder
