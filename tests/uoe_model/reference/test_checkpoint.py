"""Only the released classifier is opened, and only as data."""

import pickle
import zipfile

import pytest
import torch

from tests.uoe_model.reference.released import DATA, released_parameters, save_released
from uoe_model.errors import CheckpointError
from uoe_model.reference.checkpoint import load_reference


def test_what_was_saved_is_loaded(tmp_path):
    model = load_reference(save_released(tmp_path / "tiny.model"))
    assert (model.name, model.num_layers, model.length, model.vocab_size) == ("tiny", 2, 32, 20)
    assert (model.num_experts("attention"), model.num_experts("mlp"), model.num_classes) == (2, 4, 10)
    assert all(torch.equal(model.parameters[key], value) for key, value in released_parameters().items())


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("the pickle was loaded",)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b""), "is no torch file"),
        (lambda path: path.write_bytes(b"hello" * 100), "is no torch file"),
        (lambda path: path.write_bytes(pickle.dumps(Bomb())), "is no torch file of plain tensors"),
        (lambda path: torch.save({"model_state_dict": Bomb()}, path), "is no torch file of plain tensors"),
        (lambda path: torch.save([1, 2], path), "holds no 'model_state_dict' of tensors"),
        (lambda path: torch.save({"model_state_dict": {"a": 1}}, path), "holds no 'model_state_dict' of tensors"),
        (lambda path: torch.save({"model_state_dict": {"a": torch.ones(1)}}, path), "is not the released classifier"),
    ],
    ids=["empty", "text", "pickle", "code", "list", "numbers", "other tensors"],
)
def test_other_files_are_one_sentence(tmp_path, write, words):
    path = tmp_path / "odd.model"
    write(path)
    with pytest.raises(CheckpointError, match=words):
        load_reference(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.pop("model.norm.bias"), "it lacks model.norm.bias"),
        (lambda p: p.update(extra=torch.ones(1)), "extra belongs to no part of it"),
        (lambda p: p.update({"model.norm.bias": torch.zeros(3)}), r"model.norm.bias has shape \(3,\), not \(16,\)"),
        (lambda p: p.update({"model.norm.bias": torch.zeros(16).double()}), "is torch.float64, not float32"),
        (lambda p: p["model.norm.bias"].fill_(torch.nan), "model.norm.bias is not finite"),
        (lambda p: p.pop("model.transformer_0.mha.W_qkv.weight.0"), "is missing or has another number of axes"),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_the_tensor(tmp_path, change, words):
    parameters = released_parameters()
    change(parameters)
    torch.save({"model_state_dict": parameters}, tmp_path / "odd.model")
    with pytest.raises(CheckpointError, match=words):
        load_reference(tmp_path / "odd.model")


def test_large_files_are_not_read(tmp_path):
    path = save_released(tmp_path / "tiny.model")
    with pytest.raises(CheckpointError, match="at most 0 MB are read"):
        load_reference(path, max_bytes=1000)
    bomb = tmp_path / "bomb.model"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(1 << 20))
    with pytest.raises(CheckpointError, match="unpacks to more than"):
        load_reference(bomb, max_bytes=1 << 18)
    with pytest.raises(CheckpointError, match="is not there"):
        load_reference(tmp_path / "gone.model")


@pytest.mark.skipif(not (DATA / "uoe_listops.model").is_file(), reason="the released checkpoint is not here")
def test_the_released_checkpoint_is_opened():
    model = load_reference(DATA / "uoe_listops.model")
    assert (model.length, model.vocab_size, model.num_layers) == (2048, 512, 2)
