"""YAML files that people write: every mistake is one line with file, line and the nearest name."""

import pytest
from pydantic import Field

from harness.errors import InputError
from harness.spec import Frozen
from harness.yaml_file import YamlFile


class Wheel(Frozen):
    spokes: int = Field(gt=0)


class Cart(Frozen):
    name: str
    wheels: dict[str, Wheel] = {}
    spare: Wheel | None = None
    loads: tuple[Wheel, ...] = ()


def read(tmp_path, text):
    path = tmp_path / "cart.yaml"
    path.write_text(text)
    return YamlFile(path).validate(Cart)


def test_a_good_file_is_its_model(tmp_path):
    assert read(tmp_path, "name: a\nwheels:\n  left: {spokes: 3}\n") == Cart(name="a", wheels={"left": Wheel(spokes=3)})


@pytest.mark.parametrize("text, line, says", [
    ("name: a\n wheels: [", 2, "not YAML"),
    ("name: [a\n", 2, "not YAML"),
    ("- name\n", 1, "expected a mapping"),
    ("", 1, "expected a mapping"),
    ("name: a\nname: b\n", 2, "'name' is given twice"),
    ("name: a\nwheels:\n  left: {spokes: 3}\n  left: {spokes: 4}\n", 4, "'left' is given twice"),
    ("name: a\nwheel: {}\n", 2, "unknown entry 'wheel'; did you mean 'wheels'?"),
    ("name: a\nwheels:\n  left:\n    spoke: 3\n", 4, "unknown entry 'spoke'; did you mean"),
    ("name: a\nwheels:\n  left: {}\n", 3, "wheels.left.spokes: Field required"),
    ("name: a\nwheels:\n  left:\n    spokes: 3\n    spoke: 3\n", 5, "unknown entry 'spoke'; did you mean 'spokes'?"),
    ("name: a\nspare:\n  spokes: 3\n  hub: 1\n", 4, "unknown entry 'hub' (known: spokes)"),
    ("name: a\nloads:\n  - spokes: 3\n  - spokes: 0\n", 4, "loads.1.spokes: Input should be greater than 0"),
    ("wheels: {}\n", 1, "name: Field required"),
    ("name: a\nwheels: " + "{a: " * 1500 + "}" * 1500 + "\n", 2, "nested deeper than 100 levels"),
    ("name: a\nwheels: " + "{" * 1500 + "\n", 2, "nested deeper than 100 levels"),
    ("a0: &a0 [1, 1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)), 16,
     "more than 100,000 values, with its aliases written out"),
    ("name: !!python/object/apply:os.system [true]\n", 1, "not YAML: could not determine a constructor"),
])
def test_every_mistake_has_its_line(tmp_path, text, line, says):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'cart.yaml'}:{line}: ")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_bytes_that_are_not_text(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        YamlFile(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe\x00")
    with pytest.raises(InputError, match="not YAML"):
        YamlFile(tmp_path / "bytes.yaml")


@pytest.mark.parametrize("value", ["!!int ''", "!!float ''", "!!bool maybe", "2026-99-99", "9" * 5000])
def test_a_value_that_pyyaml_cannot_make_is_one_line(tmp_path, value):
    with pytest.raises(InputError, match="not YAML") as caught:
        read(tmp_path, f"name: a\nwheels: {value}\n")
    assert "\n" not in str(caught.value)


def test_anchors_that_hold_themselves_end(tmp_path):
    (tmp_path / "loop.yaml").write_text("name: a\nwheels: &w\n  left: *w\n")
    with pytest.raises(InputError, match="loop.yaml:2: a cycle"):
        YamlFile(tmp_path / "loop.yaml")
