"""A result cannot be changed, and says what is wrong with it."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from tests.traces import make_trace
from uoe_model.errors import CaptureError
from uoe_model.result import Candidate, ClassPrediction, ImageInput, RunResult, TextInput, TextPrediction


def picture(**changes: Any) -> ImageInput:
    fields = {
        "pixels": np.zeros((4, 6, 3), np.uint8),
        "model_pixels": np.zeros((2, 2, 3), np.uint8),
        "name": "cat.jpg",
        "fit": "crop",
        "original_width": 6,
        "original_height": 4,
    }
    return ImageInput(**(fields | changes))


def test_a_result_is_immutable():
    prediction = TextPrediction(
        next_candidates=(Candidate(token_id=1, text="a", probability=0.5),),
        continuation="",
        mean_loss=math.nan,
        bits_per_byte=math.nan,
    )
    timings = {"forward": 1.0}
    result = RunResult(
        trace=make_trace("L0.mlp: 0>E0", num_experts=1),
        prediction=prediction,
        input=TextInput(text="a", name="text"),
        timings_ms=timings,
    )
    timings["forward"] = 2.0
    assert result.timings_ms["forward"] == 1.0
    with pytest.raises(TypeError):
        result.timings_ms["forward"] = 2.0  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.prediction = prediction  # type: ignore[misc]


def test_pictures_and_probabilities_are_read_only():
    image = picture()
    prediction = ClassPrediction(labels=("cat", "dog"), probabilities=np.array([0.25, 0.75]))
    for array in (image.pixels, image.model_pixels, prediction.probabilities):
        assert not array.flags.writeable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": np.zeros((4, 6, 3))}, "pixels must be a uint8 array of shape"),
        ({"pixels": np.zeros((4, 6), np.uint8)}, "pixels must be a uint8 array of shape"),
        ({"model_pixels": np.zeros((4, 6, 4), np.uint8)}, "model_pixels must be a uint8 array of shape"),
        ({"model_pixels": [[[0, 0, 0]]]}, "model_pixels must be a uint8 array of shape"),
        ({"fit": "stretch"}, "fit='stretch' must be 'crop' or 'letterbox'"),
        ({"original_width": 0}, "original size 0x4 must be at least 1x1"),
        ({"original_height": 0}, "original size 6x0 must be at least 1x1"),
        ({"pixels": None, "fit": "?"}, "pixels .*; fit="),
    ],
)
def test_a_broken_picture_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(CaptureError, match=message):
        picture(**changes)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5, 0.5], "must be an array of float64"),
        (np.array([0.5, 0.5], np.float32), "must be an array of float64"),
        (np.array([1.0]), r"have shape \(1,\), must be \(2,\), one per label"),
        (np.array([0.5, 0.4]), "must not be negative and sum to 1"),
        (np.array([1.5, -0.5]), "must not be negative and sum to 1"),
        (np.array([np.nan, 1.0]), "must not be negative and sum to 1"),
    ],
)
def test_broken_probabilities_are_refused(probabilities: Any, message: str):
    with pytest.raises(CaptureError, match=message):
        ClassPrediction(labels=("cat", "dog"), probabilities=probabilities)
