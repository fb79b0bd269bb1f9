"""A file as syntax: prose and spelling do not count, everything else does."""

import pytest

from harness.identity.syntax import Import, parsed

BASE = '''"""A module."""
import math

class A:
    """A class."""
    x: int = 1

    def f(self, y=None):
        """A method."""
        return math.sin(y) + 0.5
'''


@pytest.mark.parametrize("old, new", [
    ("A module", "Another"), ('"""A class."""\n', "\n"), ('"""A method."""\n', '# told elsewhere\n'),
    ("return math.sin(y) + 0.5", "return (math.sin(y)\n                + 5e-1)"), ("class A:", "class A:  # why")])
def test_prose_and_layout_do_not_count(old, new):
    assert parsed(BASE.replace(old, new).encode()).digest == parsed(BASE.encode()).digest


@pytest.mark.parametrize("old, new", [
    ("0.5", "0.25"), ("x: int = 1", "x: float = 1"), ("x: int = 1", "x: int = True"), ("math.sin", "math.cos"),
    ("y=None", "y=0"), ("y=None", "y"), ("    x: int = 1\n", ""), ("x: int = 1", "x: int = '1'"),
    ("return math", '"""Not the docstring."""\n        return math'), ("class A:", "@final\nclass A:")])
def test_everything_else_does(old, new):
    assert parsed(BASE.replace(old, new).encode()).digest != parsed(BASE.encode()).digest


@pytest.mark.parametrize("one, other", [("f(a)(b)", "f(a, b)"), ("[[a], b]", "[[a, b]]"), ("{**a}", "{a: a}"),
                                        ("x = 'list 1'", "x = ['list 1']"), ("1", "'1'"), ("1", "1.0")])
def test_no_two_trees_read_alike(one, other):
    assert parsed(one.encode()).digest != parsed(other.encode()).digest


@pytest.mark.parametrize("content", [b"def f(:", b"\xff\xfe", b"a = 1\0", b"(" * 5000,
                                     "x = 'é'".encode("latin-1")])
def test_what_does_not_parse_counts_by_its_bytes(content):
    assert parsed(content).imports == ()
    assert parsed(content).digest != parsed(content + b" ").digest


def test_integers_that_python_does_not_write_in_decimal():
    assert parsed(b"x = 0x" + b"1" * 9000).digest != parsed(b"x = 0x" + b"1" * 8999 + b"2").digest


def test_the_hash_is_the_same_in_every_version_of_python():
    """Computed by 3.11, 3.12 and 3.13. Another value here gives every run a new id."""
    source = 'def f(a, *, b=1, **c) -> "é":\n    return f"{a!r:>{b}} {b=}" if c else [*a, {**c}, ..., 1j, None, b"x"]\n'
    assert parsed(source.encode()).digest[:16] == "b65a98b44037ad80"


def test_imports_anywhere_and_registries():
    source = parsed(b"from . import a\nfrom ..b import c as d\ndef f():\n    import e.f, g\n"
                    b"registry = registry.FolderRegistry()")
    assert source.imports == (Import(1, ("a",)), Import(2, ("b", "c")), Import(0, ("e", "f")), Import(0, ("g",)))
    assert source.makes_registry and not parsed(b"FolderRegistry").makes_registry
