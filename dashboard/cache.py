"""What visitors share and what reruns do not compute twice: models, the device's worker, runs, figures."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from dashboard.models import Catalogue, ModelEntry, ReferenceEntry, find_models
from dashboard.settings import read_settings
from dashboard.showing import EXAMPLES, Showing, ShowingStore, open_example
from dashboard.worker import DeviceWorker

if TYPE_CHECKING:
    from uoe_model.bundle import Bundle
    from uoe_model.sources.reference import ReferenceClassifier

T = TypeVar("T")


@st.cache_resource(ttl=10, max_entries=4, show_spinner=False)
def _catalogue(models_dir: str | None, bundled: str, problem: str) -> Catalogue:
    return find_models(read_settings())


def catalogue() -> Catalogue:
    """The checkpoints of this server; a new folder shows up within seconds."""
    settings = read_settings()
    return _catalogue(str(settings.models_dir), str(settings.bundled), settings.problem)


def forget_catalogue() -> None:
    """Look again: a checkpoint was written."""
    _catalogue.clear()


@st.cache_resource(show_spinner=False)
def _devices() -> list[str]:
    return []


def device_name() -> str:
    """The device that runs use, as torch calls it; "" before the first run, as asking torch takes seconds."""
    used = _devices()
    return used[-1] if used else ""


@st.cache_resource(max_entries=3, show_spinner=False)
def _bundle(folder: str, stamp: float, device: str) -> "Bundle":
    from uoe_model.run import load_bundle

    bundle = load_bundle(Path(folder), device)
    gc.freeze()  # what torch and the model made stays: garbage collections need not look through it after every click
    return bundle


@st.cache_resource(max_entries=2, show_spinner=False)
def _reference(path: str, stamp: float) -> "ReferenceClassifier":
    from uoe_model.sources.reference import load_reference

    return load_reference(path)


def load_model(model: ModelEntry | ReferenceEntry) -> "Bundle | ReferenceClassifier":
    """Load a checkpoint, once until its weights change."""
    if isinstance(model, ReferenceEntry):
        return _reference(str(model.path), model.stamp)
    from uoe_model.kernels.backend import pick_device

    device = str(pick_device("auto"))
    bundle = _bundle(str(model.folder), model.stamp, device)
    _devices()[:] = [device]
    return bundle


@st.cache_resource(show_spinner=False)
def device_worker() -> DeviceWorker:
    """The one thread that runs models on this machine's device."""
    return DeviceWorker(load_model, prepare=_choose_backend)


def _choose_backend() -> None:
    """Run once in the thread that runs models."""
    from uoe_model.kernels.backend import choose_backend

    choose_backend("plain" if read_settings().backend == "plain" else "auto")


@st.cache_resource(show_spinner=False)
def _store() -> ShowingStore:
    return ShowingStore()


@st.cache_resource(show_spinner=False)
def example(kind: str) -> Showing:
    """A bundled run, read once."""
    return open_example(kind)


def find_showing(key: str) -> Showing | None:
    """The runs that a link names; None if they are forgotten or never were."""
    return example(key) if key in EXAMPLES else _store().get(key)


def keep_showing(showing: Showing) -> None:
    """Remember runs for links."""
    _store().put(showing)


@st.cache_resource(max_entries=96, show_spinner=False)
def _part(run_id: str, name: str, _build: Callable[[], Any]) -> Any:
    return _build()


def part(run_id: str, name: str, build: Callable[[], T]) -> T:
    """Something that is made once, such as a figure; nobody changes it.

    Args:
        run_id, name: what it is made from, and what it is.
    """
    made: T = _part(run_id, name, build)
    return made
