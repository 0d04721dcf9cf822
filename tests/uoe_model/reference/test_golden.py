"""The authors' recorded numbers come out under every target, and their ids exactly."""

from pathlib import Path

import numpy as np
import pytest

from tests.uoe_model.reference.golden import read_cases, replay
from tests.uoe_model.reference.released import DATA
from uoe_model.reference.checkpoint import load_reference
from uoe_model.reference.classifier import ReferenceClassifier

FILES = sorted(DATA.glob("golden_*.npz")) if DATA.is_dir() else []
CHECKPOINT = DATA / "uoe_listops.model"


def cases() -> list[tuple[Path, str]]:
    found = []
    for path in FILES:
        with np.load(path, allow_pickle=False) as file:
            found += [(path, str(name)) for name in file["cases"]]
    return found


@pytest.fixture(scope="module")
def model() -> ReferenceClassifier:
    return load_reference(CHECKPOINT)


@pytest.mark.skipif(not FILES, reason="no recordings of the released code here: set UOE_REFERENCE_DATA to their folder")
@pytest.mark.parametrize(
    ("path", "name"), cases() or [(Path(), "none")], ids=lambda value: str(getattr(value, "stem", value))
)
def test_recorded_numbers_come_out(path, name, model):
    recorded = read_cases(path)
    compared = list(replay(name, recorded[name], recorded, model))
    assert {one.what for one in compared} & {"logits", "y", "loss"}
    assert not [one for one in compared if not one.is_right]


@pytest.mark.skipif(not FILES, reason="no recordings of the released code here: set UOE_REFERENCE_DATA to their folder")
def test_a_wrong_number_is_noticed(model):
    recorded = read_cases(FILES[-1])
    name, case = next((name, case) for name, case in recorded.items() if "y" in case or "logits" in case)
    key = "y" if "y" in case else "logits"
    changed = {**case, key: case[key] + 1e-3}
    assert any(not one.is_right for one in replay(name, changed, recorded, model))
