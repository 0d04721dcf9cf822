"""Tiny dense Hugging Face models with random weights, alone and saved with their tokenizer or image processor."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from uoe_model.processors.text import build_tokenizer

CONTEXT = 48
WORDS = ("the quick brown fox jumps over the lazy dog", "ten small experts sat on a wall", "what a day it was")
TEXT = ". ".join(WORDS * 30)


def build_dense(family: str, vocab_size: int = 60) -> PreTrainedModel:
    """A random model of a family, in evaluation mode."""
    torch.manual_seed(0)
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    if family == "bert":
        model = BertModel(BertConfig(**size, vocab_size=vocab_size, max_position_embeddings=CONTEXT))
    elif family == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                n_embd=24,
                n_layer=2,
                n_head=4,
                vocab_size=vocab_size,
                n_positions=CONTEXT,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    elif family == "llama":
        size |= {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6}
        model = LlamaForCausalLM(
            LlamaConfig(
                **size,
                vocab_size=vocab_size,
                max_position_embeddings=CONTEXT,
                attention_bias=True,
                mlp_bias=True,
                rope_parameters={"rope_type": "default", "rope_theta": 500.0},
            )
        )
    else:
        model = ViTForImageClassification(ViTConfig(**size, image_size=16, patch_size=4, num_labels=3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model.eval()


def save_dense(family: str, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    """Save a random model with what its inputs need."""
    if family == "vit":
        build_dense(family).save_pretrained(folder)
        ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
        return folder
    if tokenizer is None:
        is_bert = family == "bert"
        tokenizer = _word_pieces() if is_bert else build_tokenizer(WORDS, vocab_size=300, context_length=CONTEXT)
    model = build_dense(family, vocab_size=len(tokenizer))
    model.config.bos_token_id = model.config.eos_token_id = tokenizer.bos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sentence_pieces(*, is_normalised: bool = True) -> PreTrainedTokenizerFast:
    """Pieces with a mark for spaces and a byte for what is unknown, as Llama 2 has them.

    Args:
        is_normalised: spaces are marked before the text is cut, as in older files, or while it is.
    """
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    trained.train_from_iterator(WORDS, trainer)
    state = json.loads(trained.to_str())
    found = sorted(state["model"]["vocab"], key=state["model"]["vocab"].__getitem__)
    tokens = [*found[:3], *(f"<0x{byte:02X}>" for byte in range(256)), *found[3:]]
    state["model"] |= {
        "vocab": {token: number for number, token in enumerate(tokens)},
        "byte_fallback": True,
        "fuse_unk": True,
        "unk_token": "<unk>",
    }
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if not is_normalised:
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def _word_pieces() -> PreTrainedTokenizerFast:
    """Lower-cased word pieces, as BERT has them."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        WORDS, trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
