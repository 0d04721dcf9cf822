"""Other people's models on the page: dense ones that are cut into experts, and the authors' released one."""

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import cache
from dashboard.model_tasks import DecomposeRequest, target_folder
from dashboard.models import DENSE_FAMILIES, find_models
from dashboard.settings import MODELS_VARIABLE, Settings
from tests.dashboard.conftest import open_page, press, settle, state_of, words_on
from tests.dense_checkpoints import TEXT, save_dense
from tests.uoe_model.reference.released import save_released
from uoe_model.bundle import load_bundle
from uoe_model.decompose.families import READERS
from uoe_model.errors import CheckpointError
from uoe_model.result import ClassPrediction, EmbeddingPrediction
from uoe_model.trace import FILLER
from uoe_model.watch import UNWATCHED

RELEASED = "tiny.model · released by the authors"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    save_dense("bert", folder / "dense-bert")
    save_dense("vit", folder / "dense-vit")
    save_released(folder / "tiny.model")
    (folder / "notes.txt").write_text("nothing")
    return folder


@pytest.fixture
def models(foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may write into, as the page's folder of models."""
    shutil.copytree(foreign, tmp_path / "models")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    cache.forget_catalogue()
    return tmp_path / "models"


def test_dense_and_released_models_are_found_beside_our_own(foreign: Path) -> None:
    found = find_models(Settings(bundled=foreign / "none", models_dir=foreign, problem=""))
    assert [(one.label, one.family, one.kind, one.head_groups, one.hidden_units) for one in found.dense] == [
        ("dense-bert", "bert", "text", 4, 32),
        ("dense-vit", "vit", "image", 4, 32),
    ]
    assert [one.label for one in found.references] == ["tiny.model"]
    assert (found.models, found.problems, found.target) == ((), (), foreign)


@pytest.mark.parametrize("config", ['{"model_type": "gpt2"}', '{"model_type": "gpt2", "n_head": "x", "n_embd": 4}'])
def test_a_dense_config_without_sizes_is_one_sentence(tmp_path: Path, config: str) -> None:
    folder = tmp_path / "models" / "odd"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"")
    [problem] = find_models(Settings(bundled=tmp_path / "none", models_dir=tmp_path / "models", problem="")).problems
    assert "cannot be cut: its config.json does not say how many heads" in problem


@pytest.mark.parametrize("name", ["", " ", ".hidden", "_own", "a/b", "..", "C:x", "x" * 81, "taken"])
def test_a_name_that_is_no_folder_of_a_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(CheckpointError):
        target_folder(tmp_path, name)
    with pytest.raises(CheckpointError, match="-- --models DIR"):
        target_folder(None, "fine")


def request_for(models: Path, family: str, **changes: object) -> DecomposeRequest:
    [entry] = [one for one in cache.catalogue().dense if one.family == family]
    fields = {
        "source": entry,
        "target": models / f"{family}-uoe",
        "attention_experts": 2,
        "mlp_experts": 4,
        "attention_top_k": 1,
        "mlp_top_k": 2,
        "slices": "contiguous",
        "inputs": (("text", TEXT),),
    }
    return DecomposeRequest(**fields | changes)


def test_a_model_that_was_cut_is_picked_runs_and_says_what_it_costs(models: Path) -> None:
    page = open_page()
    page.session_state["decompose_request"] = request_for(models, "bert")
    settle(page.run())
    state = state_of(page)
    assert state.problem is None
    assert state.made is not None
    assert load_bundle(models / "bert-uoe", "cpu").training == state.made.record["summary"]
    page.run()
    assert page.selectbox(key="model_text").value == "bert-uoe"
    assert "is ready and picked below" in words_on(page)
    assert "a text encoder, which predicts no tokens" in words_on(page)
    page.text_area(key="text").set_value("the quick brown fox")
    press(page, "run")
    prediction = state_of(page).run.prediction
    assert isinstance(prediction, EmbeddingPrediction)
    assert f"**{len(prediction.vector)}**" in words_on(page)
    assert "decomposed; routers calibrated on" in words_on(page)
    page.selectbox(key="knob_top_k").set_value("2")
    press(page, "run")  # an encoder has no loss, so that none is measured
    assert state_of(page).problem is None


def test_what_cannot_be_cut_costs_nothing(models: Path) -> None:
    page = open_page()
    before = state_of(page).showing
    page.session_state["decompose_request"] = request_for(models, "bert", attention_experts=3)
    settle(page.run())
    assert state_of(page).showing is before
    assert "3 experts cannot share them equally" in words_on(page.run())
    assert not (models / "bert-uoe").exists()


def test_families_are_those_that_can_be_cut() -> None:
    assert set(DENSE_FAMILIES) == set(READERS)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_hub_id_names_no_folder_of_the_server(
    foreign: Path, models: Path, monkeypatch: pytest.MonkeyPatch, is_absolute: bool
) -> None:
    monkeypatch.chdir(foreign.parent)
    folder = foreign / "dense-bert"
    typed = str(folder if is_absolute else folder.relative_to(foreign.parent))
    request = request_for(models, "bert", source=typed)
    with pytest.raises(CheckpointError, match="is no hub id"):
        request.work(None, UNWATCHED)
    assert not request.target.exists()


def test_the_dialog_offers_what_can_be_cut(models: Path) -> None:
    page = open_page()
    page.button(key="decompose").click().run()
    assert page.selectbox(key="dense_source").options == [
        "dense-bert (bert)",
        "dense-vit (vit)",
        "a checkpoint of the Hugging Face hub",
    ]
    assert page.selectbox(key="dense_attention_4").options == ["1", "2", "4"]
    assert page.selectbox(key="dense_mlp_32").value == 8


def test_the_released_model_runs_and_its_filler_is_told(models: Path) -> None:
    page = open_page()
    page.selectbox(key="model_text").set_value(RELEASED).run()
    page.text_area(key="ids").set_value("1 2 3 4 5 6 7\n8 9 10")
    press(page, "run")
    state = state_of(page)
    assert len(state.showing.runs) == 2
    assert isinstance(state.run.prediction, ClassPrediction)
    assert (state.run.trace.assignments.status == FILLER).any()
    assert "of the slots in use hold *filler*" in words_on(page)
    assert f"7 tokens + {state.run.trace.num_units - 7:,} of padding" in words_on(page)
    page.checkbox(key="repair_filler").check()
    press(page, "run")
    assert "of the slots in use hold" not in words_on(page)
    assert "Routing was changed: repaired: filler." in words_on(page)


@pytest.mark.parametrize("text", ["", "one two", "1 2 99"])
def test_ids_that_cannot_be_read_are_one_sentence_and_the_run_stays(models: Path, text: str) -> None:
    page = open_page()
    before = state_of(page).showing
    page.selectbox(key="model_text").set_value(RELEASED).run()
    page.text_area(key="ids").set_value(text)
    press(page, "run")
    assert state_of(page).problem is not None
    assert state_of(page).showing is before


def test_a_file_that_is_not_the_released_model_is_one_sentence(models: Path) -> None:
    (models / "tiny.model").write_bytes(b"no torch file")
    cache.forget_catalogue()
    page = open_page()
    page.selectbox(key="model_text").set_value(RELEASED).run()
    press(page, "run")
    assert "is no torch file of plain tensors" in words_on(page)


def guide() -> None:
    from dashboard.views.guide_released import render_released

    render_released()


def test_the_guide_shows_what_the_released_code_does_on_the_visitors_copy(models: Path) -> None:
    page = AppTest.from_function(guide, default_timeout=120).run()
    page.text_area(key="ids").set_value("1 2 3 4 5 6 7\n8 9 10")
    settle(page.button(key="study").click().run())
    assert not page.exception
    study = state_of(page).study
    assert study is not None
    assert [metric.value for metric in page.metric][
        2
    ] == f"{len(study.without_gradient)} of {len(study.without_gradient) + study.moved}"
    assert list(page.dataframe[0].value["Change"])[:3] == ["as released", "the example alone", "filler repaired"]
    page.button(key="open_study").click().run()
    assert state_of(page).pinned.name == "example 0 alone"
    assert state_of(page).run.name == "example 0"


def test_without_a_copy_the_guide_says_where_to_put_one(models: Path) -> None:
    (models / "tiny.model").unlink()
    cache.forget_catalogue()
    page = AppTest.from_function(guide, default_timeout=120).run()
    assert "There is no copy here" in words_on(page)
