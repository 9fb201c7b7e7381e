import cv2
import numpy as np
import pytest
from PIL import Image

from anomaly.datasets.images import read_image, read_label
from anomaly.errors import InputError
from tests.anomaly.set_trees import label, photo, write


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_read_image_gives_opencvs_pixels_in_rgb_order(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", photo(3, 40, 50))
    expected = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(int)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((40, 50, 3), np.uint8)
    assert np.abs(image - expected).max() <= (2 if suffix == ".jpg" else 0)


def test_read_image_drops_alpha_without_blending(tmp_path):
    rgb = photo()
    alpha = np.zeros((*rgb.shape[:2], 1), np.uint8)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", np.dstack([rgb, alpha]))), rgb)


def test_read_image_repeats_grey(tmp_path):
    grey = photo()[..., 0]
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", grey)), np.dstack([grey] * 3))


def test_read_image_ignores_exif_orientation_unless_asked(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show", clockwise
    path = tmp_path / "a.png"
    Image.fromarray(photo(0, 6, 8)).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), photo(0, 6, 8))
    np.testing.assert_array_equal(read_image(path, upright=True), np.rot90(photo(0, 6, 8), -1))


def test_read_image_refuses_16_bit(tmp_path):
    with pytest.raises(InputError, match=r"a\.png.*8-bit.*I;16"):
        read_image(write(tmp_path / "a.png", np.full((4, 4), 3000, np.uint16)))


def test_read_label_gives_stored_values(tmp_path):
    values = label((0, 2, 12, 255))
    np.testing.assert_array_equal(read_label(write(tmp_path / "a.png", values)), values)


def test_read_label_takes_palette_indices(tmp_path):
    values = label((0, 2, 1))
    picture = Image.fromarray(values, mode="P")
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), values)


def test_read_label_takes_one_bit_masks_as_0_and_1(tmp_path):
    values = label((0, 1, 1))
    np.testing.assert_array_equal(read_label(write(tmp_path / "a.png", values.astype(bool))), values)


def test_read_label_takes_16_bit_files_that_fit(tmp_path):
    values = label((0, 2, 255))
    read = read_label(write(tmp_path / "a.png", values.astype(np.uint16)))
    np.testing.assert_array_equal(read, values)
    assert read.dtype == np.uint8


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (photo(), "mode 'RGB'.*colour"),
        (np.dstack([photo(), photo()[..., :1]]), "mode 'RGBA'.*colour"),
        (np.full((4, 4), 256, np.uint16), "found values from 256 to 256"),
    ],
)
def test_read_label_refuses_what_is_no_class_id_map(tmp_path, pixels, found):
    with pytest.raises(InputError, match=rf"color\.png: expected a map of class indices.*{found}"):
        read_label(write(tmp_path / "color.png", pixels))


@pytest.mark.parametrize("read", [read_image, read_label])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.9])
def test_truncated_file_is_refused(tmp_path, read, suffix, share):
    pixels = photo(0, 200, 200) if read is read_image or suffix == ".webp" else photo(0, 200, 200)[..., 0]
    path = write(tmp_path / f"cut{suffix}", pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=rf"cut\{suffix}: .*get the file again"):
        read(path)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_missing_empty_and_foreign_files_are_refused(tmp_path, read):
    with pytest.raises(InputError, match=r"none\.png: expected an image file, found none"):
        read(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match=r"empty\.png: .*0 bytes"):
        read(tmp_path / "empty.png")
    (tmp_path / "page.png").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"page\.png: .*cannot be decoded"):
        read(tmp_path / "page.png")


def test_damaged_png_never_gives_another_exception(tmp_path):
    whole = bytearray(write(tmp_path / "a.png", photo(1, 20, 20)).read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(600):
        damaged = whole.copy()
        for position in rng.integers(60 if trial % 2 else len(whole), size=2):  # half of them in the head
            damaged[position] ^= int(rng.integers(1, 256))
        (tmp_path / "b.png").write_bytes(damaged)
        try:
            assert read_image(tmp_path / "b.png").ndim == 3
        except InputError:
            refused += 1
    assert refused > 20


def test_absurdly_large_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(InputError, match=r"a\.png: .*cannot be decoded"):
        read_image(write(tmp_path / "a.png", photo(0, 10, 10)))
