import numpy as np
import pytest

from harness.datasets.parts.splits import contiguous, from_csv, natural_key, stratified
from harness.errors import InputError


@pytest.mark.parametrize("count", [3, 4, 5, 7, 30, 31, 1000])
def test_blocks_cover_everything_in_order(count):
    parts = contiguous(count)
    assert [i for part in parts for i in part] == list(range(count))
    assert all(len(part) >= 1 for part in parts)
    assert abs(len(parts[1]) - count / 6) <= 1


def test_thirty_slices_are_cut_as_published():
    assert contiguous(30) == (range(20), range(20, 25), range(25, 30))


@pytest.mark.parametrize("labels", [[0] * 10, [0] * 5 + [1] * 5, list(range(12)), [0] * 90 + [1] * 7 + [2] * 3])
def test_stratified_parts_are_disjoint_complete_and_filled(labels):
    labels = np.array(labels)
    parts = stratified(labels, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, (0.6, 0.1, 0.3), strict=True):
        assert len(part) >= 1 and abs(len(part) - share * len(labels)) <= 1
    for label in np.unique(labels):
        assert abs((labels[parts[0]] == label).sum() - 0.6 * (labels == label).sum()) <= 2


def test_numbers_in_names_sort_by_value():
    names = ["img10", "img2", "a", "img2b", "10", "9", "img02"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "img02", "img2", "img2b", "img10"]


def test_csv_decides(tmp_path):
    path = tmp_path / "split.csv"
    for text in ("c,test\na,train\nb, validation\nd,train\n", "c,testing\na,training\nb, val\nd,train\n"):
        path.write_text("stem,split\n" + text)
        assert from_csv(path, ["a", "b", "c", "d"]) == ([0, 3], [1], [2])


@pytest.mark.parametrize(("text", "message"), [
    ("a,train\n", "stem,split"),
    ("stem,split\na,train\nb,validation\nc,tset\n", "'tset'; did you mean 'test'"),
    ("stem,split\na,train\nb,validation\nc,test\nz,test\n", "'z'"),
    ("stem,split\na,train\nb,validation\n", "'c'"),
    ("stem,split\na,train\na,test\nb,validation\nc,test\n", "'a' twice"),
    ("stem,split\na,train\nb,train\nc,test\n", "into validation"),
    ("stem,split\na\n", "split.csv: unknown split ''"),
])
def test_csv_errors_name_file_and_row(tmp_path, text, message):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        from_csv(path, ["a", "b", "c"])
    assert "split.csv" in str(error.value)


def test_a_cell_beyond_measure_is_named_with_its_line(tmp_path):
    path = tmp_path / "split.csv"
    for text, line in (("stem,split\na,train\n" + "b" * 200_000 + ",test\n", 3), ("s" * 200_000 + "\n", 1)):
        path.write_text(text)
        with pytest.raises(InputError, match=f"split.csv:{line}: field larger than field limit"):
            from_csv(path, ["a"])


def test_csv_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "split.csv"
    path.write_bytes("stem,split\nZürich,train\n".encode("cp1252"))
    with pytest.raises(InputError, match="not UTF-8"):
        from_csv(path, ["Zürich"])
