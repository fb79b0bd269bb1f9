"""Data are decoded once, opened by every process, and never read where they are torn."""

import errno
import json
import mmap
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from harness.dataset import stack
from harness.datasets import folder
from harness.datasets.parts import columns, parallel, store
from harness.datasets.parts.store import keep, open_stored, prepare
from harness.errors import InputError
from harness.spec import DataSpec

MASKS, IMAGES = ("images", "masks"), ("images",)
SPLITS = ("train", "validation", "test")


def spec(root, **options):
    return DataSpec(name="folder", root=str(root), options=options)


def equal(a, b):
    """Two data sets hold the same values, names and labels."""
    for split in SPLITS:
        one, other = getattr(a, split), getattr(b, split)
        assert list(one.names) == list(other.names)
        for field in ("images", "masks"):
            arrays = [getattr(part, field) for part in (one, other)]
            assert (arrays[0] is None) == (arrays[1] is None)
            for x, y in zip(*arrays, strict=True) if arrays[0] is not None else ():
                assert x.dtype == y.dtype and np.array_equal(x, y)
        assert np.array_equal(one.labels, other.labels)
    assert a.fingerprint == b.fingerprint and a.describe() == b.describe()


def stages(events):
    return [event["stage"] for event in events]


@pytest.fixture
def heard():
    """What a progress function heard: heard.append(event)."""
    class Heard(list):
        def __call__(self, **event):
            self.append(event)
    return Heard()


@pytest.mark.parametrize("shapes", [[(12, 10)] * 6, [(12, 10), (8, 9), (20, 7), (12, 10), (5, 5), (6, 8)]])
def test_what_is_stored_is_what_is_loaded(shapes, pairs, tmp_path):
    root = pairs(6, image=lambda i, _: np.random.default_rng(i).integers(0, 256, (*shapes[i], 3), dtype=np.uint8),
                 mask=lambda i, _: np.eye(*shapes[i], dtype=np.uint8) * 255)
    made, opened = prepare(spec(root), MASKS, tmp_path / "cache"), prepare(spec(root), MASKS, tmp_path / "cache")
    expected = folder.load(MASKS, root=str(root))
    for data in (made, opened, open_stored(tmp_path / "cache", made.fingerprint)):
        equal(data, expected)
        assert not data.train.images[0].flags.writeable


def test_class_folders_mixed_colours_and_depths(tmp_path):
    for i in range(20):
        path = tmp_path / "pets" / ("dog" if i % 4 else "cat") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 10, 3), 9 * i, np.uint8) if i % 3 else
                        np.full((12, 10), 900 * i, np.uint16)).save(path)
    data = prepare(spec(tmp_path / "pets", image_size=8), IMAGES, tmp_path / "cache")
    equal(data, folder.load(IMAGES, root=str(tmp_path / "pets"), image_size=8))
    assert data.train.images.shape == (12, 3, 8, 8) and data.train.images.dtype == np.float32


def test_several_processes_decode_what_one_does(pairs, tmp_path, monkeypatch, heard):
    root = pairs(20, image=lambda i, shape: np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8))
    monkeypatch.setattr(parallel, "ALONE_SECONDS", 0)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    equal(prepare(spec(root), MASKS, tmp_path / "cache", heard), folder.load(MASKS, root=str(root)))
    assert [event["step"] for event in heard if event["stage"] == "decoding images"] == list(range(1, 21))
    broken = root / "images" / "img7.png"
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(InputError, match=r"cannot read .*img7\.png"):
        prepare(spec(root), MASKS, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "data").glob(".building*"))


def test_a_set_in_memory_is_kept_and_travels_by_its_fingerprint(tiny_data, tmp_path):
    for task in ("segmentation", "generation"):
        data = tiny_data(task)
        kept = keep(data, tmp_path)
        equal(kept, data)
        before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
        equal(keep(tiny_data(task), tmp_path), data)
        assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
        equal(open_stored(tmp_path, data.fingerprint), data)
        pickled = pickle.dumps(kept)
        assert len(pickled) < 4000                 # paths, not values
        equal(pickle.loads(pickled), data)


def test_embedded_sets_are_stored_once(tmp_path, monkeypatch):
    from harness.datasets import digits
    first = prepare(DataSpec(name="digits"), IMAGES, tmp_path)
    expected = digits.load(IMAGES)
    monkeypatch.setattr(digits, "load", lambda needs, root=None, download=False, seed=0: pytest.fail("loaded again"))
    equal(prepare(DataSpec(name="digits"), IMAGES, tmp_path), expected)
    assert first.train.images.shape == (1078, 1, 8, 8)
    assert first.describe()["fields"] == ["images", "labels"]


@pytest.mark.parametrize("change, words", [
    (lambda root: Image.fromarray(np.zeros((12, 10), np.uint8)).save(root / "images" / "img2.png"),
     "images/img2.png was changed"),
    (lambda root: [shutil.copy(root / kind / "img1.png", root / kind / "img9.png") for kind in ("images", "masks")],
     "images/img9.png was added"),
    (lambda root: [(root / kind / "img6.png").unlink() for kind in ("images", "masks")], "images/img6.png was removed"),
    (lambda root: (root / "classes.txt").write_text("wall\ncell\n"), "classes.txt was added")])
def test_a_change_is_noticed_and_named(change, words, pairs, tmp_path, heard):
    root = pairs(6)
    before = prepare(spec(root), MASKS, tmp_path / "cache")
    change(root)
    after = prepare(spec(root), MASKS, tmp_path / "cache", heard)
    assert after.fingerprint != before.fingerprint and any(words in stage for stage in stages(heard))
    equal(after, folder.load(MASKS, root=str(root)))
    equal(open_stored(tmp_path / "cache", before.fingerprint), before)         # of runs that are still going


def test_same_content_elsewhere_shares_a_store_and_keeps_its_name(pairs, tmp_path):
    root = pairs(6)
    one = prepare(spec(root), MASKS, tmp_path / "cache")
    other = prepare(spec(shutil.copytree(root, tmp_path / "copy")), MASKS, tmp_path / "cache")
    assert (one.fingerprint, one.name, other.name) == (other.fingerprint, "my_set", "copy")
    assert prepare(spec(root), MASKS, tmp_path / "cache").name == "my_set"


@pytest.mark.parametrize("damage, words", [
    (lambda at: os.truncate(at / "images.bin", 100), "images.bin has 100 bytes, not 720"),
    (lambda at: (at / "masks.bin").unlink(), "masks.bin is missing"),
    (lambda at: (at / "index.json").write_text("{"), "index.json cannot be read"),
    (lambda at: (at / "names.json").write_text(""), "names.json has 0 bytes")])
def test_a_torn_store_is_never_read(damage, words, pairs, tmp_path, heard):
    root, cache = pairs(6), tmp_path / "cache"
    data = prepare(spec(root), MASKS, cache)
    damage(data.folder)
    with pytest.raises(InputError, match=f"are damaged .{words}"):
        open_stored(cache, data.fingerprint)
    equal(prepare(spec(root), MASKS, cache, heard), folder.load(MASKS, root=str(root)))
    assert any(words in stage for stage in stages(heard))
    with pytest.raises(InputError, match="no data of fingerprint 0123"):
        open_stored(cache, "0123")


def test_files_that_change_while_they_are_read(pairs, tmp_path, monkeypatch):
    root, load = pairs(6), folder.load

    def slow(needs, *, root, download, decode):
        data = load(needs, root=root, decode=decode)
        os.utime(f"{root}/images/img3.png", ns=(1, 1))
        return data

    monkeypatch.setattr(folder, "load", slow)
    with pytest.raises(InputError, match=r"images/img3\.png was changed while the data were read; repeat"):
        prepare(spec(root), MASKS, tmp_path / "out" / "cache")
    assert not (tmp_path / "out").exists()


def test_what_is_refused_leaves_nothing_behind(pairs, tmp_path):
    root = pairs(6)
    (root / "masks" / "img2.png").unlink()
    for name, at, needs, words in (("folder", root, MASKS, "has no mask"), ("digits", None, MASKS, "has no masks"),
                                   ("folder", tmp_path / "nowhere", MASKS, "does not exist")):
        with pytest.raises(InputError, match=words):
            prepare(DataSpec(name=name, root=at and str(at)), needs, tmp_path / "out" / "cache")
    with pytest.raises(InputError, match="unexpected keyword argument 'colour'"):
        prepare(spec(root, colour=1), MASKS, tmp_path / "out" / "cache")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_named(pairs, tmp_path, monkeypatch):
    root, append = pairs(6), parallel.append

    def full(read, items, file):
        if file.tell() > 300:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(read, items, file)

    monkeypatch.setattr(parallel, "append", full)
    with pytest.raises(InputError, match=r"no room for decoded data in .*data: they take about .* MiB or more, and "
                                         r"the disk / has .* MiB free|the disk /\S+ has"):
        prepare(spec(root), MASKS, tmp_path / "out" / "cache")
    assert not (tmp_path / "out").exists()


def test_the_second_of_two_builders_waits_and_opens(pairs, tmp_path, heard):
    root, cache = pairs(6), tmp_path / "cache"
    data = prepare(spec(root), MASKS, cache)
    [request] = (cache / "data" / "requests").glob("*.json")
    known = request.read_bytes()
    request.unlink()
    made = []
    with FileLock(request.with_suffix(".lock")):   # as the first does
        second = threading.Thread(target=lambda: made.append(prepare(spec(root), MASKS, cache, heard)))
        second.start()
        while not heard:
            time.sleep(0.01)
        assert stages(heard) == ["waiting for another process that decodes the same data"]
        request.write_bytes(known)
    second.join()
    equal(made[0], data)
    assert len(heard) == 1                         # nothing was decoded


def test_a_killed_builder_leaves_nothing_that_counts(pairs, tmp_path):
    """Its folder goes when the next one builds; its lock is free."""
    root, cache = pairs(6), tmp_path / "cache"
    code = ("import os, signal, sys\nfrom harness.datasets.parts import store\nfrom harness.spec import DataSpec\n"
            "store.write_store = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            "store.prepare(DataSpec(name='folder', root=sys.argv[1]), ('images', 'masks'), store.Path(sys.argv[2]))")
    killed = subprocess.run([sys.executable, "-c", code, str(root), str(cache)], timeout=60)
    [leftover] = (cache / "data").glob(".building*")
    assert killed.returncode == -9 and (leftover / "images.bin").exists()
    equal(prepare(spec(root), MASKS, cache), folder.load(MASKS, root=str(root)))
    assert not leftover.exists()


def test_pages_that_were_read_are_given_back(pairs, tmp_path, monkeypatch):
    """Reading goes on over the limit, views that are held stay valid."""
    given_back = []

    class Watched(mmap.mmap):
        def madvise(self, *advice):
            given_back.append(advice)
            super().madvise(*advice)

    monkeypatch.setattr(columns.mmap, "mmap", Watched)
    data = prepare(spec(pairs(12)), MASKS, tmp_path / "cache")
    monkeypatch.setattr(columns, "KEPT_BYTES", 200)
    given_back.clear()
    held = data.train.images[0]
    everything = [image.copy() for _ in range(3) for image in data.train.images]
    assert all(np.array_equal(image, 10 * (i % 8) * np.ones_like(image)) for i, image in enumerate(everything))
    assert (held == 0).all()
    if hasattr(mmap, "MADV_DONTNEED"):             # 25 images of 120 bytes were read: at most two are kept at a time
        assert len(given_back) >= 12 and set(given_back) == {(mmap.MADV_DONTNEED,)}


def test_a_column_is_an_array_where_items_have_one_shape(tiny_data, tmp_path):
    images = keep(tiny_data("generation"), tmp_path).train.images
    expected = np.stack(tiny_data("generation").train.images)
    assert images.shape == expected.shape and len(images) == 16 and images.item_shapes() == {(1, 16, 16)}
    assert np.array_equal(images, expected) and np.array_equal(images[-1], expected[-1])
    assert np.array_equal(images[3:7], expected[3:7]) and np.array_equal(stack(images, [5, 1]), expected[[5, 1]])
    for outside in (16, -17):
        with pytest.raises(IndexError):
            images[outside]


def test_requests_say_nothing_of_this_machine(pairs, tmp_path):
    prepare(spec(pairs(6)), MASKS, tmp_path / "cache")
    [request] = (tmp_path / "cache" / "data" / "requests").glob("*.json")
    assert set(json.loads(request.read_bytes())["files"]) >= {"images/img1.png", "masks/img6.png"}
    assert str(tmp_path) not in request.read_text()
    assert store.prepare is prepare
