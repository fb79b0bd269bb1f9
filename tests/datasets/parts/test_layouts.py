"""Folders as people have them: split folders, groups that stay together, pixels that do not count."""

import shutil

import numpy as np
import pytest
from PIL import Image

from harness.datasets import folder
from harness.datasets.parts.splits import deal_groups
from harness.errors import InputError

MASKS, IMAGES = ("images", "masks"), ("images",)


def parted(pairs, names):
    """The pairs' folder with six cases, dealt into folders of these names: 3, 2 and 1."""
    root, first = pairs(6), 1
    for name, count in zip(names, (3, 2, 1), strict=True):
        for kind in ("images", "masks"):
            (root / name / kind).mkdir(parents=True)
            for i in range(first, first + count):
                shutil.move(root / kind / f"img{i}.png", root / name / kind)
        first += count
    for kind in ("images", "masks"):
        (root / kind).rmdir()
    return root


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "validation", "testing"),
                                   ("Train", "valid", "Test")])
def test_split_folders_of_images_and_masks(names, pairs):
    root = parted(pairs, names)
    (root / "classes.txt").write_text("wall\ncell\n")
    data = folder.load(MASKS, root=str(root))
    assert (data.train.names, data.validation.names, data.test.names) == (
        [f"{names[0]}/img{i}" for i in (1, 2, 3)], [f"{names[1]}/img4", f"{names[1]}/img5"], [f"{names[2]}/img6"])
    assert data.class_names == ("wall", "cell") and data.groups is None
    assert [image.max() for image in data.validation.images] == [30, 40]
    images = folder.load(IMAGES, root=str(root), image_size=8)          # the same folder, to generate
    assert [len(part) for part in (images.train, images.validation, images.test)] == [3, 2, 1]


def test_split_folders_of_classes_and_of_loose_images(tmp_path):
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        for i in range(count):
            for root, kind in (("classes", ("cat", "dog")[i % 2]), ("loose", ".")):
                path = tmp_path / root / split / kind / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((9, 9), i, np.uint8)).save(path)
    data = folder.load(IMAGES, root=str(tmp_path / "classes"), image_size=8)
    assert [part.labels.tolist() for part in (data.train, data.validation, data.test)] == [
        [0, 0, 0, 1, 1, 1], [0, 1], [0, 0, 1, 1]]
    assert data.class_names == ("cat", "dog") and data.validation.names == ["val/cat/0.png", "val/dog/1.png"]
    loose = folder.load(IMAGES, root=str(tmp_path / "loose"), image_size=8)
    assert loose.train.labels is None and len(loose.train) == 6
    (tmp_path / "classes" / "test" / "cat").rename(tmp_path / "classes" / "test" / "eel")
    with pytest.raises(InputError, match="test has the class folder 'eel', unlike .*train"):
        folder.load(IMAGES, root=str(tmp_path / "classes"))


@pytest.mark.parametrize("change, words", [
    (lambda root: shutil.rmtree(root / "test"), " train, val, .*none for test"),
    (lambda root: shutil.copytree(root / "val", root / "valid"), "val and .*valid .*both for validation"),
    (lambda root: shutil.copytree(root / "val" / "images", root / "images"), "images .*beside .*train"),
    (lambda root: (root / "split.csv").write_text("stem,split\n"), "split.csv .*train, val, test"),
    (lambda root: shutil.rmtree(root / "val" / "masks"), "val .*no folder 'masks'.*val/images")])
def test_split_folders_that_do_not_fit(change, words, pairs):
    root = parted(pairs, ("train", "val", "test"))
    change(root)
    with pytest.raises(InputError, match=words):
        folder.load(MASKS, root=str(root))


def test_groups_stay_together(pairs):
    root = pairs(12)
    rows = [f"img{i + 1},{'abcdef'[i // 2]}" for i in range(12)]
    (root / "split.csv").write_text("\n".join(["stem,group", *rows]))
    data = folder.load(MASKS, root=str(root))
    assert data.train.names == [f"img{i}" for i in range(1, 9)]
    assert data.describe()["groups"] == {"train": 4, "validation": 1, "test": 1}
    split = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    (root / "split.csv").write_text("\n".join(["stem,split,group"] + [
        f"img{i + 1},{split[i]},{'abcdef'[i // 2]}" for i in range(12)]))
    again = folder.load(MASKS, root=str(root))
    assert again.fingerprint == data.fingerprint and again.groups == data.groups
    (root / "split.csv").write_text("\n".join(["stem,split,group"] + [
        f"img{i + 1},{split[i]},{'abcdef'[i // 3]}" for i in range(12)]))
    with pytest.raises(InputError, match="puts group 'c' into train and into validation; what belongs"):
        folder.load(MASKS, root=str(root))
    (root / "split.csv").write_text("\n".join(["stem,group", *rows[:-1], "img12,"]))
    with pytest.raises(InputError, match="does not say which group image 'img12' is in"):
        folder.load(MASKS, root=str(root))


@pytest.mark.parametrize("groups, sizes", [
    ("aaaabbccd", (6, 2, 1)), ("abababcd", (6, 1, 1)), ("abc", (1, 1, 1)), ("abbbbbbbbbbb" "c", (1, 11, 1)),
    ("aabbccddeeffgghhiijj", (14, 2, 4))])
def test_whole_groups_are_dealt_near_the_shares(groups, sizes, tmp_path):
    parts = deal_groups(groups, (2 / 3, 5 / 6), tmp_path)
    assert tuple(map(len, parts)) == sizes and sorted(sum(parts, [])) == list(range(len(groups)))
    held = [{groups[i] for i in part} for part in parts]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_two_groups_are_too_few(tmp_path):
    with pytest.raises(InputError, match="split.csv has 2 groups; at least 3"):
        deal_groups("aabb", (2 / 3, 5 / 6), tmp_path / "split.csv")


def test_groups_of_labelled_images(tmp_path):
    rows = []
    for i in range(20):
        path = tmp_path / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9), i, np.uint8)).save(path)
        rows.append(f"{path.parent.name}/{i},film{i // 2}")
    (tmp_path / "split.csv").write_text("\n".join(["stem,group", *rows]))
    data = folder.load(IMAGES, root=str(tmp_path), image_size=8)
    films = [{int(image.max()) // 2 for image in part.images} for part in (data.train, data.validation, data.test)]
    assert [len(each) for each in films] == [6, 1, 3] == list(data.groups.values())
    assert len(set.union(*films)) == 10


def test_255_beside_class_ids_does_not_count(pairs):
    def mask(i, shape):
        mask = np.zeros(shape, np.uint8)
        mask[2:5] = 1 + i % 2 if i else 0          # the first holds 0 and 255 only
        mask[5] = 255
        return mask

    root = pairs(6, mask=mask)
    data = folder.load(MASKS, root=str(root))
    assert data.class_names == ("0", "1", "2") and data.ignore == 255
    assert set(np.unique(data.train.masks[0])) == {0, 255}
    described = data.describe()
    assert described["ignore"] == 255 and described["ignored_pixels"] == {"train": 40, "validation": 10, "test": 10}
