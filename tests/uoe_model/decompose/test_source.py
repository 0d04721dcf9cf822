"""What a decomposition starts from: every way in which a checkpoint, a tokenizer or an image processor can be odd."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import ViTImageProcessorPil

from tests.dense_checkpoints import TEXT, WORDS, save_dense, sentence_pieces
from uoe_model import checkpoint_json
from uoe_model.bundle import load_bundle
from uoe_model.decompose.decomposition import DecomposeOptions, decompose
from uoe_model.decompose.source import load_source
from uoe_model.errors import CheckpointError
from uoe_model.processors.text import build_tokenizer, frame_of
from uoe_model.run import run_text_on

OPTIONS = DecomposeOptions(attention_experts=4, mlp_experts=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("dense")
    return {family: save_dense(family, parent / family) for family in ("bert", "gpt2", "vit")}


@pytest.fixture
def copied(folders, tmp_path):
    """A dense folder that a test may damage."""
    return lambda family: shutil.copytree(folders[family], tmp_path / family)


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weight(folder, name, value):
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("is_normalised", [True, False])
def test_a_model_with_sentence_pieces_and_two_end_tokens_runs_and_continues(tmp_path, is_normalised):
    save_dense("llama", tmp_path / "llama", sentence_pieces(is_normalised=is_normalised))
    change(tmp_path / "llama" / "config.json", eos_token_id=[2, 0])
    decompose(tmp_path / "llama", tmp_path / "union", OPTIONS, texts=[TEXT])
    bundle = load_bundle(tmp_path / "union", "cpu")
    assert bundle.config.eos_token_id == [2, 0]
    text = "the quick  fox\n\U0001f600 </s> 日本"
    result = run_text_on(bundle, text, max_new_tokens=3)
    units = result.trace.units
    read = (units.phase == "prefill") & ~units.is_special
    assert "".join(units.text[read].tolist()).replace("\ufffd", "").removeprefix(" ") == text
    assert all(check.passed for check in result.trace.run.self_check)


PROCESSORS = {
    "usual": {},
    "own numbers": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    "not normalised": {"do_normalize": False},
    "other factor": {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    "bytes": {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 61.0, 62.0]},
    "bytes as they are": {"do_rescale": False, "do_normalize": False},
}


@pytest.mark.parametrize("options", PROCESSORS.values(), ids=list(PROCESSORS))
def test_pictures_are_prepared_as_the_dense_model_had_them(copied, options):
    theirs = ViTImageProcessorPil(size={"height": 16, "width": 16}, **options)
    folder = copied("vit")
    theirs.save_pretrained(folder)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    _, ours = load_source(folder)
    expected = np.asarray(theirs(picture, return_tensors="np")["pixel_values"][0])
    np.testing.assert_allclose(ours.prepare(picture).pixel_values, expected, rtol=1e-4, atol=1e-5)


def test_one_number_for_all_channels_is_one_for_each(copied):
    folder = copied("vit")
    change(folder / "preprocessor_config.json", image_mean=0.25, image_std=0.5)
    assert load_source(folder)[1].image_mean == [0.25] * 3


def test_a_language_model_without_a_begin_token_begins_with_its_end_token(tmp_path):
    tokenizer = build_tokenizer(WORDS, vocab_size=300)
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = None
    tokenizer.bos_token = None
    folder = save_dense("gpt2", tmp_path / "gpt2", tokenizer)
    assert frame_of(load_source(folder)[1], needs_begin=True).before == (end,)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="neither a begin token nor an end token"):
        load_source(folder)


@pytest.mark.parametrize(("uses_first", "pooling"), [(True, "cls"), (False, "mean")])
def test_a_sentence_encoder_pools_as_its_folder_says(copied, uses_first, pooling):
    folder = copied("bert")
    assert load_source(folder)[0].config["pooling"] == "mean"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": uses_first}))
    assert load_source(folder)[0].config["pooling"] == pooling


@pytest.mark.parametrize(
    ("family", "damage", "sentence"),
    [
        ("gpt2", lambda folder: (folder / "config.json").unlink(), "gpt2 has no config.json"),
        ("gpt2", lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json cannot be read"),
        ("gpt2", lambda folder: (folder / "model.safetensors").write_bytes(b"PK"), "gpt2 cannot be loaded"),
        ("gpt2", lambda folder: (folder / "model.safetensors").unlink(), "gpt2 cannot be loaded"),
        ("gpt2", lambda folder: (folder / "tokenizer.json").write_text("{}"), "its tokenizer cannot be read"),
        (
            "gpt2",
            lambda folder: build_tokenizer([TEXT + "äöü"] * 3, vocab_size=400).save_pretrained(folder),
            "tokens, the model",
        ),
        (
            "gpt2",
            lambda folder: change_weight(folder, "transformer.ln_f.weight", np.nan),
            "1 weights that are not finite",
        ),
        ("gpt2", lambda folder: change(folder / "config.json", activation_function="relu"), "activation 'relu' is not"),
        ("gpt2", lambda folder: change(folder / "config.json", n_layer=3), "gpt2 lacks 12 weights"),
        ("bert", lambda folder: change(folder / "config.json", is_decoder=True), "is_decoder=True is not supported"),
        (
            "vit",
            lambda folder: change(folder / "config.json", patch_size=3),
            r"2 weights of another shape than in its config.json, for example vit.embeddings",
        ),
        ("vit", lambda folder: change(folder / "preprocessor_config.json", image_mean="grey"), "must be numbers"),
        ("vit", lambda folder: (folder / "preprocessor_config.json").unlink(), "image processor cannot be read"),
    ],
)
def test_a_damaged_source_is_one_sentence(copied, family, damage, sentence):
    folder = copied(family)
    damage(folder)
    with pytest.raises(CheckpointError, match=sentence) as error:
        load_source(folder)
    assert "\n" not in str(error.value)


def test_a_large_config_is_refused_before_it_is_read(folders, monkeypatch):
    monkeypatch.setattr(checkpoint_json, "MAX_JSON_BYTES", 100)
    with pytest.raises(CheckpointError, match=r"gpt2/config.json is larger than"):
        load_source(folders["gpt2"])


def test_a_model_too_large_for_the_machine_is_not_called_damaged(folders, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("uoe_model.decompose.source.AutoConfig.from_pretrained", fail)
    with pytest.raises(RuntimeError, match="allocate memory"):
        load_source(folders["gpt2"])


def test_a_folder_here_has_a_name(folders, monkeypatch):
    monkeypatch.chdir(folders["vit"])
    assert load_source(".")[0].name == "vit"


def test_a_vit_with_four_channels_is_refused(copied):
    folder = copied("vit")
    change(folder / "config.json", num_channels=4)
    weights = load_file(folder / "model.safetensors")
    name = "vit.embeddings.patch_embeddings.projection.weight"
    weights[name] = torch.cat([weights[name], weights[name][:, :1]], 1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="takes 4 channels, pictures have 3"):
        load_source(folder)
