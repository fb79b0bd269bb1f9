"""Files that are not used are counted by kind and folder, and said."""

import numpy as np
import pytest
from PIL import Image

from harness.data_notes import passed_over_words, warnings
from harness.datasets import folder
from harness.datasets.parts.store import prepare
from harness.errors import InputError
from harness.spec import DataSpec

MASKS, IMAGES = ("images", "masks"), ("images",)


def add(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_files_beside_pairs_are_counted_by_kind_and_folder(pairs):
    root = pairs(3)
    add(root, "images/a.heic", "images/b.HEIC", "masks/readme", "old/a.png", "old/deep/b.png", "images/sub/c.png",
        "notes.txt", "scan.nii.gz")
    data = folder.load(MASKS, root=str(root))
    assert data.passed_over == {".heic": 2, "without suffix": 1, ".png in old": 2, ".png in images/sub": 1,
                                ".txt": 1, ".nii.gz": 1}
    assert data.describe()["passed_over"] == data.passed_over
    (line,) = warnings(data.describe())
    assert line.startswith("Passed over: 8 files (2 ") and "2 .png in old" in line and "1 .nii.gz" in line


def test_what_systems_leave_and_what_is_used_passes_silently(pairs):
    root = pairs(3)
    add(root, ".DS_Store", "images/._img1.png", "images/Thumbs.db", "desktop.ini", "__MACOSX/images/._a.png",
        "images/@eaDir/img1.png/SYNOFILE_THUMB_M.png", ".git/config", "results/runs/x/record.json")
    (root / "classes.txt").write_text("wall\ncell\n")
    (root / "split.csv").write_text("stem,split\nimg1,test\nimg2,val\nimg3,train\n")
    data = folder.load(MASKS, root=str(root))
    assert data.passed_over == {} and "passed_over" not in data.describe()


def test_class_folders_of_systems_are_no_classes(tmp_path):
    for i in range(10):
        path = tmp_path / "cat" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9), i, np.uint8)).save(path)
    add(tmp_path, "__MACOSX/cat.png", "@eaDir/0.png", "cat/more/9.png")
    data = folder.load(IMAGES, root=str(tmp_path), image_size=8)
    assert data.class_names == ("cat",) and data.passed_over == {".png in cat/more": 1}


def test_too_few_images_are_refused_with_what_was_passed_over(tmp_path, pairs):
    add(tmp_path / "photos", *(f"{i}.heic" for i in range(12)))
    with pytest.raises(InputError, match=r"no images in .*photos.*passed over: 12 files .12 \.heic"):
        folder.load(IMAGES, root=str(tmp_path / "photos"))
    root = pairs(2)
    add(root, "images/c.cr2")
    with pytest.raises(InputError, match=r"2 images; at least 3 .*passed over: 1 file .1 \.cr2"):
        folder.load(MASKS, root=str(root))


def test_links_that_lead_nowhere_or_in_a_circle(pairs):
    root = pairs(3)
    (root / "round").symlink_to(root)
    folder.load(MASKS, root=str(root))
    (root / "notes").symlink_to(root / "gone")
    with pytest.raises(InputError, match="notes is a symbolic link to .*gone, which does not exist"):
        folder.load(MASKS, root=str(root))


def test_stored_data_know_what_lies_beside_them_today(pairs, tmp_path):
    root = pairs(3)
    spec = DataSpec(name="folder", root=str(root))
    first = prepare(spec, MASKS, tmp_path / "cache")
    add(root, "images/new.heic")
    heard = []
    again = prepare(spec, MASKS, tmp_path / "cache", lambda **event: heard.append(event))
    assert (first.passed_over, again.passed_over) == ({}, {".heic": 1}) and not heard
    assert again.fingerprint == first.fingerprint


def test_a_line_names_the_commonest_kinds():
    counts = {f".k{i}": 10 - i for i in range(10)}
    words = passed_over_words(counts)
    assert words.startswith("passed over: 55 files (10 .k0, 9 .k1, ") and words.endswith("3 .k7, 3 more)")
