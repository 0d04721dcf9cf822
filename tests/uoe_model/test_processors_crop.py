import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from PIL import Image

from uoe_model.errors import ConfigError, InputError
from uoe_model.processors.crop import FITS, apply_mapping, build_mapping, cell_boxes

SIDES = st.integers(1, 6000)
GREY = (128, 128, 128)


@st.composite
def mappings(draw, sides=SIDES):
    return build_mapping(draw(sides), draw(sides), image_size=draw(st.integers(1, 64)), fit=draw(st.sampled_from(FITS)))


def test_crop_takes_the_centred_square():
    mapping = build_mapping(640, 427, image_size=32, fit="crop")
    assert mapping.source_box == (106, 0, 533, 427)
    assert mapping.to_original([[0, 0, 32, 32]]).tolist() == [[106, 0, 533, 427]]
    assert cell_boxes(mapping, 8)[9].tolist() == pytest.approx([106 + 427 / 8, 427 / 8, 106 + 427 / 4, 427 / 4])


def test_letterbox_takes_everything_and_pads_the_shorter_side():
    mapping = build_mapping(640, 320, image_size=32, fit="letterbox")
    assert (mapping.target_left, mapping.target_top, mapping.target_width, mapping.target_height) == (0, 8, 32, 16)
    boxes = cell_boxes(mapping, 4)
    assert np.isnan(boxes[:4]).all()
    assert np.isnan(boxes[12:]).all()
    assert boxes[4].tolist() == [0, 0, 160, 160]
    assert boxes[11].tolist() == [480, 160, 640, 320]


def test_a_cell_half_in_the_padding_is_clipped_to_the_picture():
    boxes = cell_boxes(build_mapping(64, 32, image_size=32, fit="letterbox"), 1)
    assert boxes.tolist() == [[0, 0, 64, 32]]


@given(mappings(), st.lists(st.tuples(*[st.floats(-100, 6100)] * 4), min_size=1, max_size=5))
def test_boxes_come_back_from_either_side(mapping, boxes):
    assert mapping.to_model(mapping.to_original(boxes)) == pytest.approx(np.array(boxes), abs=1e-6)
    assert mapping.to_original(mapping.to_model(boxes)) == pytest.approx(np.array(boxes), abs=1e-6)


@given(mappings())
def test_the_target_maps_onto_the_source(mapping):
    target = [
        mapping.target_left,
        mapping.target_top,
        mapping.target_left + mapping.target_width,
        mapping.target_top + mapping.target_height,
    ]
    assert mapping.to_original(target) == pytest.approx(mapping.source_box)
    assert min(target) >= 0
    assert max(target) <= mapping.image_size
    left, top, right, bottom = mapping.source_box
    assert 0 <= left < right <= mapping.original_width
    assert 0 <= top < bottom <= mapping.original_height


@given(mappings(), st.integers(1, 16))
@example(build_mapping(1, 6000, image_size=32, fit="letterbox"), 8)
@example(build_mapping(1, 1, image_size=1, fit="crop"), 3)
def test_cells_tile_what_the_model_sees(mapping, grid_size):
    boxes = cell_boxes(mapping, grid_size).astype(np.float64)
    assert boxes.shape == (grid_size**2, 4)
    known = boxes[~np.isnan(boxes[:, 0])]
    left, top, right, bottom = mapping.source_box
    assert [known[:, 0].min(), known[:, 1].min(), known[:, 2].max(), known[:, 3].max()] == [left, top, right, bottom]
    areas = (known[:, 2] - known[:, 0]) * (known[:, 3] - known[:, 1])
    assert areas.sum() == pytest.approx((right - left) * (bottom - top), rel=1e-4)
    assert (areas > 0).all()
    if mapping.fit == "crop":
        assert not np.isnan(boxes).any()


@settings(max_examples=100)
@given(st.integers(40, 300), st.integers(40, 300), st.sampled_from(FITS), st.integers(0, 15))
def test_paint_on_a_cells_box_shows_up_in_that_cell_and_no_other(width, height, fit, cell):
    mapping = build_mapping(width, height, image_size=32, fit=fit)
    box = cell_boxes(mapping, 4)[cell]
    seen = mapping.to_model(box)
    if not (seen[2] - seen[0] >= 5 and seen[3] - seen[1] >= 5):
        return  # no or little picture in this cell
    image = Image.new("RGB", (width, height), "blue")
    image.paste("red", tuple(round(edge) for edge in box.tolist()))
    pixels = np.asarray(apply_mapping(image, mapping, fill=GREY))
    assert pixels[int((seen[1] + seen[3]) / 2), int((seen[0] + seen[2]) / 2)].tolist() == [255, 0, 0]
    middles = pixels.reshape(4, 8, 4, 8, 3)[:, 3:5, :, 3:5, 0].max(axis=(1, 3))
    middles[divmod(cell, 4)] = 0
    assert middles.max() <= 128  # blue, or grey padding


@pytest.mark.parametrize("fit", FITS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_pixels_of_the_models_size_pass_through_unchanged(fit, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mapping = build_mapping(32, 32, image_size=32, fit=fit)
    assert np.array_equal(np.asarray(apply_mapping(Image.fromarray(pixels), mapping, fill=GREY)), pixels)


def test_a_crop_of_the_models_size_is_cut_out_without_resampling():
    pixels = np.random.default_rng(1).integers(0, 256, (32, 47, 3), dtype=np.uint8)
    mapping = build_mapping(47, 32, image_size=32, fit="crop")
    cut = np.asarray(apply_mapping(Image.fromarray(pixels), mapping, fill=GREY))
    assert np.array_equal(cut, pixels[:, 7:39])


def test_the_letterbox_is_filled_with_the_given_colour():
    mapping = build_mapping(2, 1, image_size=4, fit="letterbox")
    pixels = np.asarray(apply_mapping(Image.new("RGB", (2, 1), "white"), mapping, fill=(1, 2, 3)))
    assert (pixels[[0, 3]] == [1, 2, 3]).all()
    assert (pixels[1:3] == 255).all()


def test_what_cannot_be_mapped_is_refused():
    with pytest.raises(ConfigError, match="fit='squash' must be one of crop, letterbox"):
        build_mapping(10, 10, image_size=32, fit="squash")
    with pytest.raises(ConfigError, match="0 x 10"):
        build_mapping(0, 10, image_size=32)
    with pytest.raises(ConfigError, match="grid_size=0"):
        cell_boxes(build_mapping(10, 10, image_size=32), 0)
    with pytest.raises(InputError, match="20 x 10"):
        apply_mapping(Image.new("RGB", (20, 10)), build_mapping(10, 10, image_size=32), fill=GREY)
