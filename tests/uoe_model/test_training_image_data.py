"""Decoding, augmentation and order of training images."""

from pathlib import Path

import pytest
import torch

from tests.uoe_model.training_data import LABELS, write_data
from uoe_model.errors import InputError
from uoe_model.training.image_data import Normalisation, augment, epoch_indices, load_images, seeded_generator


def test_images_are_decoded_once_and_the_cache_says_the_same(tmp_path: Path) -> None:
    path = write_data(tmp_path / "data") / "images" / "cifar10-train.parquet"
    first = load_images(path, cache=tmp_path / "cache")
    (stored,) = (tmp_path / "cache").iterdir()
    written = stored.stat().st_mtime_ns
    second = load_images(path, cache=tmp_path / "cache")
    assert stored.stat().st_mtime_ns == written
    assert torch.equal(first.pixels, second.pixels)
    assert first.pixels.shape == (30, 3, 8, 8)
    assert first.names == LABELS
    assert first.labels[:4].tolist() == [0, 1, 2, 0]


def test_a_missing_file_says_what_the_data_folder_must_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        load_images(tmp_path / "images" / "cifar10-train.parquet")


def test_every_augmented_image_is_a_crop_perhaps_mirrored() -> None:
    pixels = torch.randint(1, 256, (40, 3, 5, 5), dtype=torch.uint8, generator=seeded_generator(0))
    changed = augment(pixels, seeded_generator(1), padding=2, flip=True)
    places = set()
    for before, after in zip(torch.nn.functional.pad(pixels, (2, 2, 2, 2)), changed, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            for crop in (before[:, top : top + 5, left : left + 5],)
            if torch.equal(after, crop.flip(-1) if mirrored else crop)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 20
    assert {mirrored for *_, mirrored in places} == {False, True}


def test_without_padding_and_mirrors_images_stay() -> None:
    pixels = torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(augment(pixels, seeded_generator(3), padding=0, flip=False), pixels)


def test_every_epoch_shows_every_image_once_across_batch_borders() -> None:
    drawn = torch.cat([epoch_indices(10, batch_size=4, step=step, seed=5) for step in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    later = epoch_indices(10, batch_size=4, step=3, seed=5)
    assert torch.equal(later, epoch_indices(10, batch_size=4, step=3, seed=5))
    assert not torch.equal(later, epoch_indices(10, batch_size=4, step=3, seed=6))


def test_normalisation_by_hand() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    values = Normalisation(mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 1.0)).apply(pixels)
    torch.testing.assert_close(values.flatten(), torch.tensor([-1.0, 2.0, 0.0]))
