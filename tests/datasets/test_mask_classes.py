from pathlib import Path

import numpy as np
import pytest

from harness.datasets.parts.mask_classes import read_class_names, to_class_ids
from harness.errors import InputError

PATHS = [Path("masks/a.png"), Path("masks/b.png")]


def masks(*values):
    return [np.array([row], np.int32) for row in values]


@pytest.mark.parametrize(("values", "names", "ids", "named"), [
    (([0, 255], [0, 0]), None, [[0, 1], [0, 0]], ("0", "255")),
    (([255, 255], [255, 255]), None, [[1, 1], [1, 1]], ("0", "255")),
    (([0, 1], [0, 0]), None, [[0, 1], [0, 0]], ("0", "1")),
    (([0, 2], [1, 0]), None, [[0, 2], [1, 0]], ("0", "1", "2")),
    (([0, 255], [0, 0]), ("wall", "cell"), [[0, 1], [0, 0]], ("wall", "cell")),
    (([0, 3], [0, 0]), tuple("wxyz"), [[0, 3], [0, 0]], tuple("wxyz")),
])
def test_values_to_ids(values, names, ids, named):
    result, class_names = to_class_ids(PATHS, masks(*values), names)
    assert [mask[0].tolist() for mask in result] == ids and class_names == named
    assert all(mask.dtype == np.uint8 for mask in result)


@pytest.mark.parametrize(("values", "names", "message"), [
    (([0, 1], [0, 7]), tuple("abc"), r"b\.png holds the value 7, outside the range 0\.\.2"),
    (([0, 1], [0, -1]), tuple("abc"), r"b\.png holds the value -1, outside the range 0\.\.2"),
    (([0, 255], [0, 3]), ("a", "b"), r"b\.png holds the value 3, outside the range 0\.\.1"),
    (([0, 255], [254, 255]), None, r"b\.png holds the value 254; masks hold 0 and 255"),
    (([0, 255], [1, 255]), None, r"a\.png holds the value 255 and .*b\.png the value 1; masks hold either"),
    (([0, 1], [3, 0]), None, r"b\.png holds the value 3, but no mask holds 2"),
    (([0, 0], [0, 0]), None, "the value 0 only"),
])
def test_errors_name_mask_and_value(values, names, message):
    with pytest.raises(InputError, match=message):
        to_class_ids(PATHS, masks(*values), names)


def test_class_names_are_read_in_order(tmp_path):
    path = tmp_path / "classes.txt"
    assert read_class_names(path) is None
    path.write_text("\ufeffbackground\n cell \nborder\n\n", encoding="utf-8")
    assert read_class_names(path) == ("background", "cell", "border")


@pytest.mark.parametrize("text", ["", "one\n", "a\n\nb\n", "a\na\n", "\n".join(map(str, range(257)))])
def test_unusable_class_names_are_refused(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(InputError, match=r"classes\.txt"):
        read_class_names(tmp_path / "classes.txt")
