import unicodedata

import numpy as np
import pytest
from PIL import Image

from harness.datasets import folder
from harness.errors import InputError


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey(value=100, shape=(12, 10)):
    return np.full(shape, value, np.uint8)


MASKS, IMAGES = ("images", "masks"), ("images",)


def refused(root, message, needs=MASKS, **options):
    """Loading fails with one line that matches ``message``."""
    with pytest.raises(InputError, match=message) as error:
        folder.load(needs, root=str(root), **options)
    assert "\n" not in str(error.value)


# segmentation


def test_pairs_become_blocks_in_natural_order(pairs):
    data = folder.load(MASKS, root=str(pairs(12)))
    assert data.name == "my_set" and data.class_names == ("0", "255") and data.image_size == (12, 10)
    assert data.train.names == [f"img{i}" for i in range(1, 9)]
    assert (data.validation.names, data.test.names) == (["img9", "img10"], ["img11", "img12"])
    assert data.test.images[1].shape == (1, 12, 10) and data.test.images[1].max() == 110
    assert np.array_equal(data.test.masks[1], np.eye(12, 10)) and data.test.masks[1].dtype == np.uint8


def test_colour_images_of_unequal_sizes(pairs):
    shapes = [(12, 10), (8, 20), (9, 9)]
    root = pairs(3, suffix=".JPG", image=lambda i, _: np.zeros((*shapes[i], 3), np.uint8),
                 mask=lambda i, _: np.eye(*shapes[i], dtype=np.uint8))
    data = folder.load(MASKS, root=str(root))
    assert data.channels == 3 and data.image_size == (12, 20)
    assert [split.images[0].shape[1:] for split in (data.train, data.validation, data.test)] == shapes


def test_mixed_depths_become_float(pairs):
    data = folder.load(MASKS, root=str(pairs(
        3, image=lambda i, shape: np.full(shape, (51, 13107, 255)[i], np.uint16 if i == 1 else np.uint8))))
    values = [split.images[0].max() for split in (data.train, data.validation, data.test)]
    assert data.train.images[0].dtype == np.float32 and np.allclose(values, [0.2, 0.2, 1.0])


def test_class_names_and_split_come_from_files(pairs):
    root = pairs(4, mask=lambda i, shape: np.full(shape, i, np.uint8))
    (root / "classes.txt").write_text("sky\nsea\nsand\nship\nshell\n")
    (root / "split.csv").write_text("stem,split\nimg1,test\nimg2,validation\nimg3,train\nimg4,train\n")
    data = folder.load(MASKS, root=str(root))
    assert data.class_names == ("sky", "sea", "sand", "ship", "shell")
    assert (data.train.names, data.validation.names, data.test.names) == (["img3", "img4"], ["img2"], ["img1"])
    assert [mask.max() for mask in data.train.masks] == [2, 3]


def test_layout_errors(tmp_path, pairs):
    refused(tmp_path / "nowhere", "nowhere does not exist")
    refused(tmp_path, "has no folder 'images'; expected")
    root = pairs(3)
    refused(root / "images" / "img1.png", "img1.png is not a folder")
    (root / "masks").rename(root / "labels")
    refused(root, "has no folder 'masks'; expected .*masks with files of equal names")
    (root / "masks").mkdir()
    refused(root, "no images in .*masks")
    with pytest.raises(InputError, match="--data DIR"):
        folder.load(MASKS)


def test_image_without_mask_and_mask_without_image(pairs):
    root = pairs(4)
    (root / "masks" / "img2.png").unlink()
    refused(root, r"images/img2\.png has no mask; expected .*masks/img2\.\*")
    (root / "masks" / "img4.png").unlink()
    refused(root, r"images/img2\.png has no mask \(and 1 more\)")
    (root / "images" / "img2.png").unlink()
    (root / "images" / "img4.png").unlink()
    (root / "images" / "img1.png").unlink()
    refused(root, r"masks/img1\.png has no image")


def test_unequal_sizes(pairs):
    root = pairs(3)
    save(root / "masks" / "img2.png", grey(0, (12, 11)))
    refused(root, r"masks/img2\.png is 11x12 pixels but .*images/img2\.png is 10x12")


def test_two_files_of_one_stem(pairs):
    root = pairs(3)
    save(root / "images" / "img2.tif", grey())
    refused(root, r"img2\.png and .*img2\.tif have the same stem")


@pytest.mark.parametrize(("count", "message"), [(1, "1 single image; at least 3"), (2, "2 images; at least 3")])
def test_too_few(pairs, count, message):
    refused(pairs(count), message)


@pytest.mark.parametrize("colour", [[0], [3], [0, 1, 3]])
def test_grey_among_colour_becomes_colour(pairs, colour):
    root = pairs(4, image=lambda i, shape: np.full(shape, 10 * i + 5, np.uint8))
    for i in colour:
        save(root / "images" / f"img{i + 1}.png", np.full((12, 10, 3), (1, 2, 3), np.uint8))
    data = folder.load(MASKS, root=str(root))
    assert data.channels == 3
    images = [image for split in (data.train, data.validation, data.test) for image in split.images]
    for i, image in enumerate(images):
        assert image[:, 0, 0].tolist() == ([1, 2, 3] if i in colour else [10 * i + 5] * 3)


def test_truncated_image_and_mask(pairs):
    root = pairs(3, image=lambda i, shape: np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8),
                 shape=(64, 64))
    for kind in ("masks", "images"):
        path = root / kind / "img2.png"
        path.write_bytes(path.read_bytes()[:70])
        refused(root, f"cannot read .*{kind}/img2.png")


def test_mask_value_outside_the_named_classes(pairs):
    root = pairs(3, mask=lambda i, shape: np.full(shape, (0, 1, 7)[i], np.uint8))
    (root / "classes.txt").write_text("a\nb\nc\n")
    refused(root, r"masks/img3\.png holds the value 7, outside the range 0\.\.2")


def test_a_mask_of_class_ids_in_a_lossy_file_is_refused(pairs):
    root = pairs(3, mask=lambda i, shape: np.eye(*shape, dtype=np.uint8))      # as JPEG, its ids of 1 become 0
    (root / "masks" / "img2.png").unlink()
    Image.fromarray(np.eye(12, 10, dtype=np.uint8)).save(root / "masks" / "img2.jfif", format="JPEG")
    refused(root, r"masks/img2\.jfif is compressed as JPEG, which changes values; save masks without loss, as PNG")


def test_image_size_is_refused_for_segmentation(pairs):
    refused(pairs(3), "image_size is for generation", image_size=32)


# generation


@pytest.fixture
def classes(tmp_path):
    root = tmp_path / "pets"
    for i in range(20):
        save(root / ("dog" if i % 4 else "cat") / f"{i}.png", grey(10 * i))
    return root


def test_class_folders_become_labels(classes):
    (classes / ".cache").mkdir()
    data = folder.load(IMAGES, root=str(classes), image_size=8)
    assert data.name == "pets" and data.class_names == ("cat", "dog")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [12, 2, 6]
    names = [*data.train.names, *data.validation.names, *data.test.names]
    assert len(set(names)) == 20 and "cat/0.png" in names
    for split in (data.train, data.validation, data.test):
        assert {(image.shape, str(image.dtype)) for image in split.images} == {((1, 8, 8), "uint8")}
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            kind, number = name.removesuffix(".png").split("/")
            assert data.class_names[label] == kind and (image == 10 * int(number)).all()
    again, other = (folder.load(IMAGES, root=str(classes), image_size=8, seed=seed) for seed in (0, 1))
    assert again.test.names == data.test.names != other.test.names


def test_a_flat_folder_has_no_labels_and_mixed_colour_becomes_colour(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png", grey() if i % 2 else np.full((12, 10, 3), (200, 0, 0), np.uint8))
    data = folder.load(IMAGES, root=str(tmp_path))
    assert data.class_names == () and data.train.labels is None and data.channels == 3
    assert data.image_size == (32, 32)
    assert sorted({tuple(image[:, 0, 0]) for image in data.train.images}) == [(100, 100, 100), (200, 0, 0)]


def test_images_are_cut_to_the_centre_and_antialiased(tmp_path):
    stripes = np.zeros((64, 96), np.uint8)
    stripes[:, ::2] = 200                            # finer than the target: must average, not alias
    stripes[:, :16] = stripes[:, 80:] = 255          # outside the centred square
    for i in range(10):
        save(tmp_path / f"{i}.png", stripes)
    image = folder.load(IMAGES, root=str(tmp_path), image_size=8).train.images[0]
    assert np.abs(image[..., 1:-1].astype(int) - 100).max() <= 3
    assert image.max() < 128                         # the filter reaches a little beyond the cut, no more


def test_16_bit_stays_float(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png", np.full((12, 10), 6554, np.uint16))
    images = np.stack(folder.load(IMAGES, root=str(tmp_path), image_size=8).train.images)
    assert images.dtype == np.float32 and np.allclose(images, 6554 / 65535, atol=1e-6)


def test_generation_errors(tmp_path, classes, pairs):
    refused(pairs(3), "laid out for segmentation; for generation give .*images", needs=IMAGES)
    refused(classes, "image_size must be", needs=IMAGES, image_size=0)
    (classes / "eel").mkdir()
    refused(classes, "no images in the class folder .*eel", needs=IMAGES)
    save(classes / "stray.png", grey())
    refused(classes, r"\(stray\.png\) and in its folder 'cat'", needs=IMAGES)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "no images in .*empty", needs=IMAGES)
    save(empty / "one.png", grey())
    refused(empty, "1 single image; at least 10", needs=IMAGES)


def test_unreadable_image_in_a_class_folder(classes):
    (classes / "cat" / "4.png").write_bytes(b"")
    refused(classes, r"cannot read .*cat/4\.png: the file is empty", needs=IMAGES)


# names


def decomposed(text):
    return unicodedata.normalize("NFD", text)


def test_names_differ_only_in_how_accents_are_written(pairs):
    root = pairs(4)
    for i in range(1, 5):
        (root / "images" / f"img{i}.png").rename(root / "images" / decomposed(f"Gewebe für é {i}.png"))
        (root / "masks" / f"img{i}.png").rename(root / "masks" / f"Gewebe für é {i}.png")
    rows = [f"Gewebe für é {i},{split}" for i, split in enumerate(("test", "val", "train", "train"), 1)]
    (root / "split.csv").write_text("\n".join(["stem,split", *rows]), encoding="utf-8")
    data = folder.load(MASKS, root=str(root))
    assert data.test.names == ["Gewebe für é 1"] and len(data.train) == 2
    save(root / "images" / "Gewebe für é 2.png", grey())
    refused(root, "have the same stem .accents are written as one character or as two.")


def test_class_folders_and_names_of_images_are_composed(tmp_path):
    for i in range(10):
        save(tmp_path / decomposed("Käse") / decomposed(f"ü{i}.png"), grey(10 * i))
    (tmp_path / "split.csv").write_text("stem,split\n" + "".join(
        f"Käse/ü{i},{'test' if i == 2 else 'val' if i == 1 else 'train'}\n" for i in range(10)), encoding="utf-8")
    data = folder.load(IMAGES, root=str(tmp_path), image_size=8)
    assert data.class_names == ("Käse",) and data.test.names == ["Käse/ü2.png"]
    save(tmp_path / "Käse" / "ü2.png", grey())
    refused(tmp_path, "two class folders 'Käse'", needs=IMAGES)
    flat = tmp_path / decomposed("Käse")
    save(flat / "ü3.png", grey())
    refused(flat, "have the same name .accents", needs=IMAGES)


# the real stack


def test_isbi_2012_is_cut_into_20_5_and_5_slices(real_data):
    if not (real_data / "isbi2012").is_dir():
        pytest.skip(f"no isbi2012 in {real_data.name}")
    data = folder.load(MASKS, root=str(real_data / "isbi2012"))
    stems = [f"{i:02d}" for i in range(30)]
    assert (data.train.names, data.validation.names, data.test.names) == (stems[:20], stems[20:25], stems[25:])
    assert data.name == "isbi2012" and data.channels == 1 and data.image_size == (512, 512)
    assert data.class_names == ("0", "255")
    assert 0.7 < np.mean([mask.mean() for mask in data.train.masks]) < 0.85     # cells; the rest is membrane
