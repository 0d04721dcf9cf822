"""The load on the test set that a checkpoint ships: what becomes a table, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.uoe_model.models import causal_router, small_config
from uoe_model.bundle import load_reference
from uoe_model.errors import CheckpointError
from uoe_model.trace import ReferenceTable

CONFIG = small_config(attention_router=causal_router(), mlp_router=causal_router())


def reference(**changes: Any) -> dict[str, Any]:
    names = ("L0.attention", "L0.mlp", "L1.attention", "L1.mlp")
    sites = [
        {
            "site_id": site_id,
            "name": name,
            "patches": 100 + site_id,
            "requested": [50 + site_id, 40, 30, 0],
            "kept": [45, 40, 30, 0],
            "dropped_units": 5,
        }
        for site_id, name in enumerate(names)
    ]
    return {"dataset": "lines (test)", "sites": sites} | changes


def load(folder: Path, content: Any) -> ReferenceTable | None:
    (folder / "routing_reference.json").write_text(json.dumps(content), encoding="utf-8")
    return load_reference(folder, CONFIG)


def test_a_reference_becomes_a_table_in_site_order(tmp_path):
    content = reference()
    content["sites"].reverse()  # in any order
    table = load(tmp_path, content)
    assert table.dataset == "lines (test)"
    rows = zip(*(column.tolist() for column in table.columns().values()), strict=True)
    expected = []
    for site_id in range(4):
        for expert_id, requested in enumerate((50 + site_id, 40, 30, 0)):
            kept = 45 if expert_id == 0 else requested
            expected.append((site_id, expert_id, requested, kept, 100 + site_id))
    assert list(rows) == expected


@pytest.mark.parametrize(
    "content",
    [
        {},
        reference(sites=[]),
        reference(sites=reference()["sites"][:3]),
        reference(sites=[*reference()["sites"], reference()["sites"][0]]),
        reference(sites=[site | {"requested": [1, 2, 3]} for site in reference()["sites"]]),
        reference(sites=[site | {"kept": None} for site in reference()["sites"]]),
        reference(sites=[site | {"patches": "many"} for site in reference()["sites"]]),
        reference(sites=[site | {"patches": 2**70} for site in reference()["sites"]]),
        reference(sites=[site | {"kept": [51, 41, 31, 1]} for site in reference()["sites"]]),
        reference(sites=[site | {"patches": 3} for site in reference()["sites"]]),
        reference(sites=[site | {"requested": [-1, 0, 0, 0], "kept": [-1, 0, 0, 0]} for site in reference()["sites"]]),
        reference(sites=[site | {"requested": [0.5, 1, 1, 1]} for site in reference()["sites"]]),
        reference(sites=5),
        reference(sites=[5] * 4),
        reference(dataset=""),
    ],
    ids=[
        "empty",
        "no sites",
        "too few sites",
        "a site twice",
        "too few experts",
        "no numbers",
        "text",
        "too large",
        "more kept than requested",
        "more requested than there were",
        "negative",
        "half a patch",
        "number",
        "numbers",
        "no name",
    ],
)
def test_a_reference_that_does_not_fit_is_one_sentence(tmp_path, content):
    with pytest.raises(CheckpointError, match=rf"^{tmp_path.name}/routing_reference\.json does not fit the model: .+$"):
        load(tmp_path, content)


def test_a_reference_that_is_no_json_is_refused_and_none_is_none(tmp_path):
    assert load_reference(tmp_path, CONFIG) is None
    (tmp_path / "routing_reference.json").write_bytes(b"\0")
    with pytest.raises(CheckpointError, match=r"routing_reference\.json cannot be read"):
        load_reference(tmp_path, CONFIG)
