import io

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from transformers import AutoImageProcessor

from uoe_model.config import UoEConfig
from uoe_model.errors import ConfigError, InputError
from uoe_model.processors.image import CIFAR10_MEAN, CIFAR10_STD, MAX_DISPLAY_SIDE, UoEImageProcessor, cell_boxes
from uoe_model.training.image_data import Normalisation

FITS = ("crop", "letterbox")


def random_pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


# Values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_every_way_in_gives_the_same_bits_for_a_picture_of_the_models_size(fit, seed):
    processor = UoEImageProcessor(fit=fit)
    pixels = random_pixels(seed, 32, 32, 3)
    values = Normalisation(mean=CIFAR10_MEAN, std=CIFAR10_STD).apply(torch.from_numpy(pixels).permute(2, 0, 1)[None])

    for image in (pixels, Image.fromarray(pixels), png(pixels), torch.from_numpy(pixels)):
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"], values)
    prepared = processor.prepare(png(pixels))
    assert np.array_equal(prepared.pixel_values, values[0].numpy())
    assert np.array_equal(prepared.model_pixels, pixels)
    assert np.array_equal(prepared.display_pixels, pixels)
    assert np.array_equal(processor.normalise(pixels[np.newaxis]), values.numpy())


def test_normalisation_by_hand():
    processor = UoEImageProcessor(image_size=1, grid_size=1, image_mean=[0, 0.5, 1], image_std=[1, 0.5, 2])
    values = processor(np.array([[[51, 255, 0]]], dtype=np.uint8))["pixel_values"]
    assert values.dtype == np.float32
    assert values.ravel().tolist() == [np.float32(0.2), 1.0, -0.5]


def test_a_batch_is_prepared_like_its_pictures_alone():
    processor = UoEImageProcessor()
    batch = random_pixels(0, 3, 40, 50, 3)
    together = processor(batch)["pixel_values"]
    assert together.shape == (3, 3, 32, 32)
    assert np.array_equal(together, processor(list(batch))["pixel_values"])
    for row, image in enumerate(batch):
        assert np.array_equal(processor(image)["pixel_values"][0], together[row])


def test_greyscale_and_transparent_arrays_become_rgb():
    processor = UoEImageProcessor(image_size=2, grid_size=1, image_mean=[0] * 3, image_std=[1] * 3)
    grey = np.full((2, 2), 255, dtype=np.uint8)
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    for image in (grey, grey[:, :, np.newaxis], clear):
        assert (processor(image)["pixel_values"] == 1).all()


def test_the_letterbox_is_padded_with_the_mean():
    values = UoEImageProcessor(fit="letterbox").prepare(random_pixels(0, 32, 64, 3)).pixel_values
    assert np.abs(values[:, [0, 31]]).max() < 0.5 / 255 / min(CIFAR10_STD)


# What is kept for drawing --------------------------------------------------------------------------------------------


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(FITS))
@settings(max_examples=50)
def test_what_the_model_sees_comes_from_where_the_mapping_says(width, height, fit):
    # Red rises by one per column of the original, green by one per row: colours are coordinates.
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([columns, rows, np.full_like(rows, 255)], axis=2).astype(np.uint8)
    prepared = UoEImageProcessor(fit=fit).prepare(pixels)
    mapping = prepared.mapping
    x, y = mapping.target_left + mapping.target_width // 2, mapping.target_top + mapping.target_height // 2
    left, top, right, bottom = mapping.to_original([x, y, x + 1, y + 1])
    red, green, _ = (int(value) for value in prepared.model_pixels[y, x])
    assert abs(red - ((left + right) / 2 - 0.5)) <= 1.5
    assert abs(green - ((top + bottom) / 2 - 0.5)) <= 1.5


def test_a_turned_photograph_is_mapped_in_its_upright_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    prepared = UoEImageProcessor().prepare(png(random_pixels(0, 40, 100, 3), exif=exif))
    assert (prepared.mapping.original_width, prepared.mapping.original_height) == (40, 100)
    assert prepared.display_pixels.shape == (100, 40, 3)
    boxes = cell_boxes(prepared.mapping, 8)
    assert boxes[0].tolist() == [0, 30, 5, 35]
    assert boxes[-1].tolist() == [35, 65, 40, 70]


def test_a_large_picture_is_shown_smaller_and_mapped_in_its_own_pixels():
    prepared = UoEImageProcessor().prepare(np.zeros((300, 3000, 3), dtype=np.uint8))
    assert prepared.display_pixels.shape[1] == MAX_DISPLAY_SIDE
    assert prepared.mapping.original_width == 3000


def test_one_pixel_fills_the_whole_input():
    prepared = UoEImageProcessor().prepare(np.full((1, 1, 3), 7, dtype=np.uint8))
    assert (prepared.model_pixels == 7).all()
    assert cell_boxes(prepared.mapping, 8)[0].tolist() == [0, 0, 0.125, 0.125]


def test_prepared_arrays_cannot_be_changed():
    prepared = UoEImageProcessor().prepare(random_pixels(0, 8, 8, 3))
    for array in (prepared.pixel_values, prepared.model_pixels, prepared.display_pixels):
        assert not array.flags.writeable


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "There is no picture"),
        (np.zeros((4, 4, 3), dtype=np.float32), "An array of float32"),
        (np.zeros((4, 4, 2), dtype=np.uint8), r"shape \(4, 4, 2\) is no picture"),
        (np.zeros((3, 4, 9), dtype=np.uint8), r"shape \(3, 4, 9\) is no picture"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "is no picture"),
        (np.zeros((0, 4, 4, 3), dtype=np.uint8), "There is no picture"),
        ("cat.png", "not as a string"),
        (b"", "empty file"),
        (None, "An array of object"),
    ],
)
def test_what_is_no_picture_is_refused(images, message):
    with pytest.raises(InputError, match=message):
        UoEImageProcessor()(images)


def test_an_option_in_a_call_is_refused():
    with pytest.raises(TypeError, match="do_resize"):
        UoEImageProcessor()(np.zeros((4, 4, 3), dtype=np.uint8), do_resize=False)


def test_options_that_contradict_each_other_are_named_together():
    with pytest.raises(ConfigError) as caught:
        UoEImageProcessor(image_size=0, fit="squash", grid_size=0, image_std=[0, 1, 1])
    for word in ("image_size=0", "fit='squash'", "grid_size=0", "image_std"):
        assert word in str(caught.value)


# Hugging Face --------------------------------------------------------------------------------------------------------


def test_auto_classes_load_what_was_saved(tmp_path):
    ours = UoEImageProcessor(image_size=16, fit="letterbox", image_mean=[0.1] * 3, image_std=[0.3] * 3, grid_size=4)
    ours.save_pretrained(tmp_path)
    first = (tmp_path / "preprocessor_config.json").read_bytes()
    for loaded in (AutoImageProcessor.from_pretrained(tmp_path), UoEImageProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is UoEImageProcessor
        assert loaded.to_dict() == ours.to_dict()
        assert np.array_equal(
            loaded(random_pixels(0, 20, 30, 3))["pixel_values"], ours(random_pixels(0, 20, 30, 3))["pixel_values"]
        )
        loaded.save_pretrained(tmp_path)
        assert (tmp_path / "preprocessor_config.json").read_bytes() == first


def test_auto_classes_find_the_processor_beside_a_model(tmp_path):
    UoEConfig().save_pretrained(tmp_path)
    UoEImageProcessor().save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is UoEImageProcessor
    assert AutoImageProcessor.from_pretrained(tmp_path, fit="letterbox").fit == "letterbox"


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_the_same_processor_serves_every_backend(tmp_path, backend):
    UoEImageProcessor().save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path, backend=backend)) is UoEImageProcessor
