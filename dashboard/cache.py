"""What visitors share and what reruns do not compute twice: models, the device's worker, tables and maps of a run."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import streamlit as st

from dashboard.models import Catalogue, ModelEntry, find_models
from dashboard.settings import read_settings
from dashboard.state import ShownRun
from dashboard.worker import DeviceWorker

if TYPE_CHECKING:
    from uoe_model.bundle import Bundle

T = TypeVar("T")


@st.cache_resource(ttl=10, max_entries=4, show_spinner=False)
def _catalogue(models_dir: str | None, bundled: str, problem: str) -> Catalogue:
    return find_models(read_settings())


def catalogue() -> Catalogue:
    """The checkpoints of this server; a new folder shows up within seconds."""
    settings = read_settings()
    return _catalogue(str(settings.models_dir), str(settings.bundled), settings.problem)


@st.cache_resource(show_spinner=False)
def device_name() -> str:
    """The device that runs use, as torch calls it."""
    from uoe_model.kernels.backend import pick_device

    return str(pick_device("auto"))


@st.cache_resource(max_entries=3, show_spinner=False)
def _bundle(folder: str, stamp: float, device: str) -> "Bundle":
    from uoe_model.run import load_bundle

    return load_bundle(Path(folder), device)


def load_model(model: ModelEntry) -> "Bundle":
    """Load a checkpoint, once until its weights change."""
    return _bundle(str(model.folder), model.stamp, device_name())


@st.cache_resource(show_spinner=False)
def device_worker() -> DeviceWorker:
    """The one thread that runs models on this machine's device."""
    return DeviceWorker(load_model)


@st.cache_data(max_entries=200, show_spinner=False)
def _table(
    run_id: str, name: str, options: tuple[tuple[str, Hashable], ...], _build: Callable[[], Any]
) -> pd.DataFrame:
    table: pd.DataFrame = _build()
    return table


def table(run: ShownRun, statistic: Callable[..., pd.DataFrame], **options: Any) -> pd.DataFrame:
    """A statistic of a run, computed once per run and options."""
    name = f"{statistic.__module__}.{statistic.__name__}"
    key = tuple(sorted((option, str(value)) for option, value in options.items()))
    return _table(run.run_id, name, key, lambda: statistic(run.trace, **options))


@st.cache_resource(max_entries=64, show_spinner=False)
def _part(run_id: str, name: str, _build: Callable[[], Any]) -> Any:
    return _build()


def part(run: ShownRun, name: str, build: Callable[[], T]) -> T:
    """Something else that is made once per run, such as what a map draws; nobody changes it."""
    made: T = _part(run.run_id, name, build)
    return made
