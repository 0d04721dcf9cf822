"""A checkpoint folder: what a good one gives, and the one sentence for every way it can be broken."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoModelForImageClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from tests.uoe_model.bundles import LONG_TEXT, assert_checks_pass, image_bundle, picture, text_bundle, tokenizer
from uoe_model import checkpoint_json
from uoe_model.bundle import folder_kind, load_bundle
from uoe_model.errors import CheckpointError, DeviceError
from uoe_model.run import run_image, run_image_on, run_text, run_text_on

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `text` and `image`."""
    root = tmp_path_factory.mktemp("models")
    text, image = text_bundle(dtype=torch.float32), image_bundle()
    text.model.save_pretrained(root / "text")
    text.tokenizer.save_pretrained(root / "text")
    (root / "text" / "training_run.json").write_text('{"steps": 12}')
    image.model.save_pretrained(root / "image")
    image.image_processor.save_pretrained(root / "image")
    return root


@pytest.fixture
def broken(folders: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy a checkpoint and damage the copy."""

    def build(damage: Damage, kind: str = "text") -> Path:
        folder = tmp_path / "model"
        shutil.copytree(folders / kind, folder)
        damage(folder)
        return folder

    return build


def change_json(name: str, **changes: Any) -> Damage:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))

    return change


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def truncate(name: str, keep: float) -> Damage:
    def cut(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return cut


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_bundle(folder, "cpu")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


ROUTER = "model.blocks.0.attention.router.weight"


# A good folder -------------------------------------------------------------------------------------------------------


def test_a_text_model_is_loaded_with_all_it_needs(folders):
    bundle = load_bundle(folders / "text", "cpu")
    assert (bundle.kind, bundle.name, bundle.training) == ("text", "text", "trained for 12 steps")
    assert (bundle.reference, bundle.image_processor) == (None, None)
    assert bundle.weights_digest == hashlib.sha256((folders / "text" / "model.safetensors").read_bytes()).hexdigest()
    assert not bundle.model.training
    expected = text_bundle(dtype=torch.float32).model.state_dict()
    for name, value in bundle.model.state_dict().items():
        assert torch.equal(value, expected[name])


def test_an_image_model_is_loaded_with_all_it_needs(folders):
    bundle = load_bundle(str(folders / "image"))
    assert (bundle.kind, bundle.tokenizer) == ("image", None)
    assert bundle.image_processor.grid_size == 4
    assert bundle.training.startswith("unknown")


def test_half_precision_weights_are_computed_with_in_float32(broken):
    def halve(weights: dict[str, torch.Tensor]) -> None:
        weights.update({name: value.half() for name, value in weights.items() if value.is_floating_point()})

    bundle = load_bundle(broken(change_weights(halve)), "cpu")
    assert bundle.model.dtype == torch.float32
    assert_checks_pass(run_text_on(bundle, LONG_TEXT).trace)


def test_running_a_folder_equals_running_its_bundle(folders):
    one, other = run_text(folders / "text", LONG_TEXT, device="cpu"), load_bundle(folders / "text", "cpu")
    assert_checks_pass(one.trace)
    assert one.trace.run.model == "text"
    assert one.trace.run.weights_digest == other.weights_digest
    again = run_text_on(other, LONG_TEXT)
    np.testing.assert_array_equal(one.trace.assignments.expert_id, again.trace.assignments.expert_id)
    np.testing.assert_array_equal(one.trace.units.loss, again.trace.units.loss)
    one = run_image(folders / "image", picture(), device="cpu")
    again = run_image_on(load_bundle(folders / "image", "cpu"), picture())
    np.testing.assert_array_equal(one.prediction.probabilities, again.prediction.probabilities)


def test_the_auto_classes_give_the_same_as_a_run(folders):
    model = AutoModelForCausalLM.from_pretrained(folders / "text").eval()
    text = "The lazy 漢字 fox."
    inputs = AutoTokenizer.from_pretrained(folders / "text")(text, return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    trace = run_text(folders / "text", text, device="cpu").trace
    assert trace.units.token_id.tolist() == inputs["input_ids"][0].tolist()
    assert trace.units.output_token_id.tolist() == output.logits[0].argmax(-1).tolist()
    for site_id, decision in enumerate(output.decisions):
        rows = trace.assignments.site_id == site_id
        assert trace.assignments.expert_id[rows].tolist() == decision.expert_NK.flatten().tolist()
        assert (trace.assignments.status[rows] == 0).tolist() == decision.kept_NK.flatten().tolist()
        np.testing.assert_array_equal(trace.router_logits[site_id], decision.logits_NE.numpy())

    model = AutoModelForImageClassification.from_pretrained(folders / "image").eval()
    pixels = AutoImageProcessor.from_pretrained(folders / "image")(picture(), return_tensors="pt")
    with torch.inference_mode():
        output = model(**pixels)
    result = run_image(folders / "image", picture(), device="cpu")
    found = result.prediction.probabilities
    np.testing.assert_allclose(found, output.logits[0].double().softmax(-1).numpy(), rtol=1e-6)


def test_loading_draws_no_progress_bars_and_leaves_them_as_they_were(folders, capfd, monkeypatch):
    monkeypatch.setattr(transformers_logging, "_tqdm_active", True)
    seen = []

    def hook(factory: Any, args: Any, options: Any) -> Any:
        seen.append(options)
        return factory(*args, **options)

    previous = transformers_logging.set_tqdm_hook(hook)
    try:
        load_bundle(folders / "text", "cpu")
        with pytest.raises(CheckpointError):
            load_bundle(folders, "cpu")
        assert capfd.readouterr().err == ""
        assert seen == []
        list(transformers_logging.tqdm([1], desc="somebody's own", disable=True))
        assert len(seen) == 1
    finally:
        transformers_logging.set_tqdm_hook(previous)


def test_the_reference_load_of_a_folder_is_in_its_traces(broken):
    sites = [
        {"site_id": site_id, "patches": 9, "requested": [9, 8, 1, 0], "kept": [7, 8, 1, 0]} for site_id in range(4)
    ]
    content = json.dumps({"dataset": "lines", "sites": sites})
    folder = broken(lambda folder: (folder / "routing_reference.json").write_text(content))
    reference = run_text(folder, LONG_TEXT, device="cpu").trace.reference
    assert (reference.dataset, reference.kept.tolist()) == ("lines", [7, 8, 1, 0] * 4)


# A broken folder -----------------------------------------------------------------------------------------------------


def test_what_is_no_folder_is_refused(folders, tmp_path):
    refused(tmp_path / "nothing", "nothing is no folder: choose the folder of a checkpoint.")
    refused(folders / "text" / "config.json", "config.json is no folder")
    refused(tmp_path, f"{tmp_path.name} has no config.json: choose a folder that save_pretrained wrote.")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "model/config.json cannot be read"),
        (b"{ not json", "model/config.json cannot be read"),
        (b"\xff\xfe", "model/config.json cannot be read"),
        (b"[" * 100_000, "model/config.json cannot be read"),
        (b"[]", "model/config.json holds no JSON object"),
        (b"null", "model/config.json holds no JSON object"),
        (b'{"hidden_size": 16}', "model holds a 'nameless' model, not a 'uoe' one: choose a UoE model."),
        (b'{"model_type": "mixtral"}', "model holds a 'mixtral' model, not a 'uoe' one: choose a UoE model."),
    ],
)
def test_a_config_of_something_else_is_refused(broken, content, sentence):
    refused(broken(lambda folder: (folder / "config.json").write_bytes(content)), sentence)


def test_a_large_json_file_is_refused_before_it_is_read(broken, monkeypatch):
    monkeypatch.setattr(checkpoint_json, "MAX_JSON_BYTES", 100)
    refused(broken(lambda folder: None), "model/config.json is larger than")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": "16"}, "hidden_size='16' must be a whole number of at least 1"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 must be a whole number of at least 1"),
        ({"max_position_embeddings": 1}, "max_position_embeddings=1 must be a whole number of at least 2"),
        ({"rope_theta": None}, "rope_theta=None must be a number above 0"),
        ({"is_causal": "no"}, "is_causal='no' must be true or false"),
        ({"vocab_size": 0}, "needs a vocabulary"),
        ({"mlp_router": {"num_experts": 4}}, "mlp_router lacks num_experts_per_tok"),
        ({"mlp_router": {"num_experts": 4, "num_experts_per_tok": 5}}, "num_experts_per_tok=5 must lie in 1..num_ex"),
        ({"mlp_router": 5}, "model cannot be loaded"),
        ({"id2label": 5}, "model cannot be loaded"),
        ({"dtype": "floaty"}, "model cannot be loaded"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_cannot_be_computed_is_refused(broken, changes, sentence):
    refused(broken(change_json("config.json", **changes)), sentence)


def test_a_language_model_is_not_taken_for_an_encoder(broken):
    refused(
        broken(change_json("config.json", is_causal=False)), "holds a UoEForCausalLM, but its config.json describes a"
    )


@pytest.mark.parametrize("keep", [0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(broken, keep):
    refused(broken(truncate("model.safetensors", keep)), "model cannot be loaded: Error while deserializing header")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl"])
def test_pickled_weights_are_never_opened(broken, name):
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("the pickle was loaded",)

    def pickle_only(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(Bomb()))

    refused(broken(pickle_only), "model has no model.safetensors: save the model with save_pretrained.")


def test_a_pickle_under_the_name_of_safetensors_is_refused(broken):
    damage = lambda folder: torch.save({ROUTER: torch.zeros(4, 16)}, folder / "model.safetensors")  # noqa: E731
    refused(broken(damage), "model cannot be loaded: Error while deserializing header")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (change_weights(lambda weights: weights.pop(ROUTER)), f"1 weights are missing, for example {ROUTER}"),
        (
            change_weights(lambda weights: weights.update(extra=torch.zeros(2))),
            "1 weights belong to no part of the model, for example extra",
        ),
        (
            change_weights(lambda weights: weights.update({ROUTER: torch.zeros(2, 16)})),
            f"1 weights have another shape than in config.json, for example {ROUTER}",
        ),
        (
            change_weights(lambda weights: weights[ROUTER].fill_(torch.nan)),
            f"1 weights are not finite, for example {ROUTER}",
        ),
        (change_json("config.json", num_hidden_layers=3), "12 weights are missing"),
        (
            change_json("config.json", is_causal=False, vocab_size=0),
            "5 weights are missing, for example classifier.bias",
        ),
    ],
    ids=["missing", "extra", "shape", "not finite", "more layers", "other kind"],
)
def test_no_weight_is_ever_made_up(broken, damage, sentence):
    folder = broken(damage)
    refused(folder, f"model/model.safetensors does not fit config.json: {sentence}")


def test_a_tokenizer_that_is_missing_damaged_or_of_another_model_is_refused(broken, tmp_path):
    refused(broken(lambda folder: (folder / "tokenizer.json").unlink()), "has no tokenizer.json")
    shutil.rmtree(tmp_path / "model")
    refused(broken(truncate("tokenizer.json", 0.5)), "The tokenizer in")
    shutil.rmtree(tmp_path / "model")

    def add_tokens(folder: Path) -> None:
        larger = AutoTokenizer.from_pretrained(folder)
        larger.add_tokens(["<one>", "<two>"])
        larger.save_pretrained(folder)

    size = len(tokenizer())
    refused(
        broken(add_tokens),
        f"model: its files do not fit together: the tokenizer has {size + 2} tokens, the model {size}",
    )


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "model: the image processor cannot be read"),
        (truncate("preprocessor_config.json", 0.5), "model: the image processor cannot be read"),
        (change_json("preprocessor_config.json", fit="squeeze"), "fit='squeeze' must be one of crop, letterbox"),
        (change_json("preprocessor_config.json", image_size="8"), "model: the image processor cannot be read"),
        (
            change_json("preprocessor_config.json", grid_size=2),
            "grid_size is 2 in the image processor and 4 in the model",
        ),
        (
            change_json("preprocessor_config.json", image_size=9),
            "image_size is 9 in the image processor and 8 in the model",
        ),
    ],
    ids=["missing", "truncated", "fit", "type", "grid", "size"],
)
def test_an_image_processor_that_does_not_fit_is_refused(broken, damage, sentence):
    refused(broken(damage, "image"), sentence)


@pytest.mark.parametrize("device", ["cuda:99", "banana"])
def test_a_device_that_is_not_there_is_one_sentence(folders, device):
    with pytest.raises(DeviceError, match=f"device '{device}' cannot hold text: "):
        load_bundle(folders / "text", device)


def test_the_kind_of_a_folder_is_told_without_its_weights(broken, folders):
    assert (folder_kind(folders / "text"), folder_kind(folders / "image")) == ("text", "image")
    assert folder_kind(broken(truncate("model.safetensors", 0))) == "text"
    assert checkpoint_json.read_json(folders / "text" / "config.json")["model_type"] == "uoe"
