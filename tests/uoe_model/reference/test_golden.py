"""The authors' recorded numbers come out under every target, and their ids exactly."""

from pathlib import Path

import pytest

from tests.uoe_model.reference.golden import replay
from tests.uoe_model.reference.recorded import Case, case_names, read_cases
from tests.uoe_model.reference.released import DATA
from uoe_model.reference.checkpoint import load_reference
from uoe_model.reference.classifier import ReferenceClassifier

FILES = sorted(DATA.glob("golden_*.npz")) if DATA.is_dir() else []
CHECKPOINT = DATA / "uoe_listops.model"


def cases() -> list[tuple[Path, str]]:
    return [(path, name) for path in FILES for name in case_names(path)]


@pytest.fixture(scope="module")
def model() -> ReferenceClassifier:
    return load_reference(CHECKPOINT)


@pytest.mark.skipif(not FILES, reason="no recordings of the released code here: set UOE_REFERENCE_DATA to their folder")
@pytest.mark.parametrize(
    ("path", "name"), cases() or [(Path(), "none")], ids=lambda value: str(getattr(value, "stem", value))
)
def test_recorded_numbers_come_out(path, name, model):
    recorded = read_cases(path)
    found = list(replay(name, recorded[name], recorded, model))
    expected = "gradient of" if name.startswith("grad_") else ("logits", "y", "loss")
    assert [one for one in found if one.what.startswith(expected)]
    assert not [one for one in found if not one.is_right]


@pytest.mark.skipif(not FILES, reason="no recordings of the released code here: set UOE_REFERENCE_DATA to their folder")
def test_a_wrong_number_is_noticed(model):
    recorded = read_cases(FILES[-1])
    name, case = next((name, case) for name, case in recorded.items() if "y" in case or "logits" in case)
    key = "y" if "y" in case else "logits"
    changed = Case({**case, key: case[key] + 1e-3})
    assert any(not one.is_right for one in replay(name, changed, recorded, model))
