from pathlib import Path

import pytest

from harness.datasets.parts.mask_classes import Classes, read_class_names, read_classes
from harness.errors import InputError

PATHS = [Path("masks/a.png"), Path("masks/b.png")]


@pytest.mark.parametrize(("values", "names", "classes"), [
    (([0, 255], [0]), None, Classes(("0", "255"), True, None)),
    (([0, 1], [0]), None, Classes(("0", "1"), False, None)),
    (([0, 2], [0, 1]), None, Classes(("0", "1", "2"), False, None)),
    (([0, 255], [0]), ("wall", "cell"), Classes(("wall", "cell"), True, None)),
    (([0, 3], [0]), tuple("wxyz"), Classes(tuple("wxyz"), False, None)),
    (([0, 255], [1, 255]), None, Classes(("0", "1"), False, 255)),
    (([0, 255], [0, 1]), ("wall", "cell"), Classes(("wall", "cell"), False, 255)),
    (([0, 1], [255]), tuple("abc"), Classes(tuple("abc"), False, 255)),
    (([0, 254], [0, 255]), tuple(map(str, range(256))), Classes(tuple(map(str, range(256))), False, None)),
])
def test_values_to_classes(values, names, classes):
    assert read_classes(PATHS, values, names) == classes


@pytest.mark.parametrize(("values", "names", "message"), [
    (([0, 1], [0, 7]), tuple("abc"), r"b\.png holds the value 7, outside the range 0\.\.2"),
    (([0, 1], [0, -1]), tuple("abc"), r"b\.png holds the value -1, outside the range 0\.\.2"),
    (([0, 255], [0, 3]), ("a", "b"), r"b\.png holds the value 3, outside the range 0\.\.1"),
    (([0, 255], [254, 255]), None, r"b\.png holds the value 254; masks hold 0 and 255"),
    (([0, 1], [3, 0]), None, r"b\.png holds the value 3, but no mask holds 2"),
    (([0], [0]), None, "the value 0 only"),
    (([255], [255]), None, "the value 255 only"),
    (([2], [2]), tuple("abc"), "the value 2 only"),
    (([1], [255]), None, "the value 1 .and 255, which does not count. only"),
    (([0, 255], [0]), tuple("abc"), "the value 0 .and 255, which does not count. only"),
])
def test_errors_name_mask_and_value(values, names, message):
    with pytest.raises(InputError, match=message):
        read_classes(PATHS, values, names)


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
