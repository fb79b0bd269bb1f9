import hashlib
import pickle
import struct

import numpy as np
import pytest

from harness.datasets import cifar10, fashion_mnist, mnist
from harness.errors import InputError

SETS = [(mnist, "MNIST/raw"), (fashion_mnist, "FashionMNIST/raw"), (cifar10, "cifar-10-batches-py")]


@pytest.fixture
def idx_files(tmp_path):
    """20 + 8 images in MNIST's IDX format (http://yann.lecun.com/exdb/mnist), pixel = number in the file."""
    for kind in ("MNIST", "FashionMNIST"):
        folder = tmp_path / kind / "raw"
        folder.mkdir(parents=True)
        for part, count in (("train", 20), ("t10k", 8)):
            images = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28)
            (folder / f"{part}-images-idx3-ubyte").write_bytes(
                struct.pack(">IIII", 0x803, count, 28, 28) + images.tobytes())
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(
                struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count)))
    return tmp_path


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_the_last_training_images_validate_and_the_official_test_is_the_test(idx_files, module):
    data = module.load(("images",), root=str(idx_files), validation=5)
    assert [image[0, 0, 0] for image in data.train.images] == list(range(15))
    assert data.validation.names == [f"train-{i:05d}" for i in range(15, 20)]
    assert data.validation.labels.tolist() == [5, 6, 7, 8, 9]
    assert data.test.names == [f"test-{i:05d}" for i in range(8)]
    assert data.test.images.shape == (8, 1, 28, 28) and data.test.images.dtype == np.uint8
    assert len(data.class_names) == 10 and data.image_size == (28, 28)


def test_caps_keep_the_first_and_leave_validation_alone(idx_files):
    data = mnist.load(("images",), root=str(idx_files), train=4, validation=5, test=3)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [4, 5, 3]
    assert data.validation.names[0] == "train-00015" and data.class_names == tuple("0123456789")


@pytest.mark.parametrize("options", [{"train": 16}, {"test": 9}, {"validation": 20}])
def test_more_than_there_are_is_refused(idx_files, options):
    with pytest.raises(InputError, match="mnist has"):
        mnist.load(("images",), root=str(idx_files), **{"validation": 5} | options)


@pytest.mark.parametrize(("module", "files"), SETS)
def test_absent_files_say_where_they_should_lie(tmp_path, module, files):
    for root in (None, str(tmp_path)):
        with pytest.raises(InputError, match=files) as error:
            module.load(("images",), root=root)
        assert "--data-root" in str(error.value) and "--download" in str(error.value)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("keep", [0, 6, 12, 4000])
def test_truncated_and_missing_files_are_one_line(idx_files, name, keep):
    path = idx_files / "MNIST" / "raw" / name
    if keep < path.stat().st_size:
        path.write_bytes(path.read_bytes()[:keep])
    else:
        path.unlink()
    with pytest.raises(InputError, match="mnist in .*raw is .*corrupt") as error:
        mnist.load(("images",), root=str(idx_files), validation=5)
    assert "\n" not in str(error.value)


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    from torchvision import datasets

    def fail(self):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried a mirror")

    monkeypatch.setattr(datasets.MNIST, "download", fail)
    with pytest.raises(InputError, match="could not be downloaded") as error:
        mnist.load(("images",), root=str(tmp_path), download=True)
    assert "\n" not in str(error.value)


def test_real_mnist(real_data):
    if not (real_data / "MNIST").is_dir():
        pytest.skip(f"no MNIST in {real_data.name}")
    data = mnist.load(("images",), root=str(real_data))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [55000, 5000, 10000]
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]           # as in the official training file
    assert np.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_cifar10_batches_become_channels_first(tmp_path, monkeypatch):
    """Five training batches of 4 and one test batch, in the official pickles' layout: rows of R, G, B planes."""
    from torchvision import datasets

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    planes = np.repeat(np.array([10, 20, 30], np.uint8), 32 * 32)
    batch = {"data": np.tile(planes, (4, 1)), "labels": [0, 1, 2, 3]}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch))
    meta = pickle.dumps({"label_names": [f"kind {i}" for i in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)      # not the official hashes
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", hashlib.md5(meta).hexdigest())

    data = cifar10.load(("images",), root=str(tmp_path), validation=5)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [15, 5, 4]
    assert data.train.images.shape == (15, 3, 32, 32) and data.train.images.dtype == np.uint8
    assert [data.test.images[0, channel].mean() for channel in range(3)] == [10, 20, 30]
    assert data.class_names[3] == "kind 3" and data.test.labels.tolist() == [0, 1, 2, 3]
