"""From a dense folder to a checkpoint folder that runs, by function and by command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.dense_checkpoints import TEXT, save_dense
from uoe_model.bundle import load_bundle
from uoe_model.decompose.__main__ import main
from uoe_model.decompose.decomposition import DecomposeOptions, decompose
from uoe_model.errors import Cancelled, CheckpointError, ConfigError, InputError
from uoe_model.result import EmbeddingPrediction
from uoe_model.run import run_image_on, run_text_on
from uoe_model.watch import Unwatched

OPTIONS = DecomposeOptions(attention_experts=2, mlp_experts=4)


def pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("dense")
    return {family: save_dense(family, parent / family) for family in ("bert", "gpt2", "vit")}


@pytest.mark.parametrize("family", ["bert", "gpt2", "vit"])
def test_a_decomposed_folder_runs_and_says_where_it_comes_from(folders, family, tmp_path):
    inputs = {"images": pictures(12)} if family == "vit" else {"texts": [TEXT]}
    record = decompose(folders[family], tmp_path / "union", OPTIONS, **inputs)
    bundle = load_bundle(tmp_path / "union", "cpu")
    assert bundle.training == record["summary"]
    assert f"decomposed; routers calibrated on {record['calibration_units']:,} unlabelled units" in bundle.training
    assert bundle.config.router_config("mlp").num_experts_per_tok == 2
    if family == "vit":
        result = run_image_on(bundle, pictures(1)[0])
        assert result.trace.units.is_special.tolist() == [True] + [False] * 16
        assert result.trace.units.grid_row[:2].tolist() == [-1, 0]
    else:
        text = "The quick brown fox\n jumps over Ümläut dogs"
        result = run_text_on(bundle, text)
        units = result.trace.units
        inner = ~units.is_special
        if family == "bert":  # byte-level tokens may be parts of a letter
            assert "".join(units.text[inner].tolist()) == text
        for start, end in zip(units.char_start[inner], units.char_end[inner], strict=True):
            assert 0 <= start < end <= len(text)
    assert all(check.passed for check in result.trace.run.self_check)
    if family == "bert":
        assert units.text[0] == "[CLS]"
        assert units.text[-1] == "[SEP]"
        assert isinstance(result.prediction, EmbeddingPrediction)
        assert np.isnan(units.loss).all()
        with pytest.raises(InputError, match="tokenizer of union leaves nothing of this text"):
            run_text_on(bundle, "\x01")
        with pytest.raises(ConfigError, match="cannot continue a text"):
            run_text_on(bundle, text, max_new_tokens=2)


def test_a_long_text_is_cut_into_framed_examples(folders, tmp_path):
    decompose(folders["bert"], tmp_path / "union", OPTIONS, texts=[TEXT])
    bundle = load_bundle(tmp_path / "union", "cpu")
    units = run_text_on(bundle, TEXT[:600]).trace.units
    assert units.example_id.max() > 0
    for example in range(units.example_id.max() + 1):
        texts = units.text[units.example_id == example].tolist()
        assert (texts[0], texts[-1]) == ("[CLS]", "[SEP]")
        assert len(texts) <= bundle.config.max_position_embeddings


def test_nothing_is_left_where_it_failed(folders, tmp_path):
    class Impatient(Unwatched):
        def is_cancelled(self) -> bool:
            return True

    with pytest.raises(Cancelled):
        decompose(folders["gpt2"], tmp_path / "union", OPTIONS, texts=[TEXT], watch=Impatient())
    with pytest.raises(InputError, match="too little to calibrate gpt2 on: give more text"):
        decompose(folders["gpt2"], tmp_path / "union", OPTIONS)
    with pytest.raises(ConfigError, match=r"4 attention heads .*: 3 experts cannot share them equally"):
        decompose(
            folders["gpt2"],
            tmp_path / "union",
            DecomposeOptions(attention_experts=3, mlp_experts=4),
            texts=[TEXT],
        )
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "union").mkdir()
    with pytest.raises(CheckpointError, match="union exists already"):
        decompose(folders["gpt2"], tmp_path / "union", OPTIONS, texts=[TEXT])


def test_what_cannot_be_written_or_opened_leaves_nothing(folders, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="union cannot be written"):
        decompose(folders["gpt2"], tmp_path / "file" / "union", OPTIONS, texts=[TEXT])

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("uoe_model.modeling.UoEForCausalLM.save_pretrained", full)
        with pytest.raises(CheckpointError, match="union cannot be written: No space left on device"):
            decompose(folders["gpt2"], tmp_path / "union", OPTIONS, texts=[TEXT])
    with monkeypatch.context() as patched:
        patched.setattr("uoe_model.decompose.decomposition.calibrate_routers", spoil)
        with pytest.raises(CheckpointError, match=r"^union/model.safetensors does not fit .* weights are not finite"):
            decompose(folders["gpt2"], tmp_path / "union", OPTIONS, texts=[TEXT])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def spoil(model, batches, watch):
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    return 1


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere at all", "neither a folder nor a hub id"), ("nobody/nothing", "cannot be loaded")]
)
def test_a_source_that_is_not_there_is_one_sentence(name, words, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        decompose(name, tmp_path / "union", OPTIONS, texts=[TEXT])


def test_another_family_is_refused_with_those_that_can_be_cut(tmp_path):
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(CheckpointError, match="is a 't5' model: those that can be cut are bert, gpt2, llama"):
        decompose(tmp_path / "t5", tmp_path / "union", OPTIONS, texts=[TEXT])


def test_options_that_contradict_each_other_are_named_together():
    with pytest.raises(ConfigError, match=r"attention_experts=0 .*mlp_top_k=9 must lie in 1\.\.8; slices='thin'"):
        DecomposeOptions(attention_experts=0, mlp_experts=8, mlp_top_k=9, slices="thin")
    for seed in (-1, 2**32, 0.5):
        with pytest.raises(ConfigError, match=r"seed=.* must lie in 0\.\.4294967295"):
            DecomposeOptions(attention_experts=2, mlp_experts=8, seed=seed)
    with pytest.raises(ConfigError, match="nothing to choose by"):
        DecomposeOptions(attention_experts=2, mlp_experts=8, mlp_top_k=2, routers="zero")


def test_the_command_cuts_clusters_and_prints_the_curve(folders, tmp_path, capsys, monkeypatch):
    (tmp_path / "text.txt").write_text(TEXT)
    command = [str(folders["gpt2"]), str(tmp_path / "union"), "--attention-experts", "2", "--mlp-experts", "4"]
    assert main([*command, "--slices", "co_activation", "--text", str(tmp_path / "text.txt")]) == 0
    printed = capsys.readouterr().out
    assert "attention 1, MLP 2: hidden states off by" in printed
    assert "attention 2, MLP 4: hidden states off by 0.0%" in printed
    assert main([*command, "--text", str(tmp_path / "text.txt")]) == 2
    assert "error: union exists already" in capsys.readouterr().err
    assert main([str(folders["gpt2"]), str(tmp_path / "other"), "--text", str(tmp_path / "gone.txt")]) == 2
    assert "gone.txt: No such file" in capsys.readouterr().err
    (tmp_path / "long.txt").write_text(TEXT)
    with monkeypatch.context() as patched:
        patched.setattr("uoe_model.decompose.__main__.MAX_TEXT_BYTES", 100)
        assert main([*command[:1], str(tmp_path / "other"), "--text", str(tmp_path / "long.txt")]) == 2
    assert "long.txt is larger than 100 bytes: calibrate on a part of it" in capsys.readouterr().err
    assert main([*command[:1], str(tmp_path / "even"), *command[2:], "--routers", "zero"]) == 0
    assert "with all experts chosen it computes what the dense model does" in capsys.readouterr().out
