"""Networks by name: whatever a file of someone's does is one line, and only a real Ctrl-C ends the command."""

import os
import signal

import pytest

from harness.errors import InputError, one_line, printable
from harness.identity import networks

NOT_PYTHON = {"a colon is missing": (b"import torch\ndef build(**k)\n    pass\n", ":2 is not Python"),
              "null bytes": (b"x = 1\0\n", "null bytes"),
              "not UTF-8": (b"x = '\xff\xfe'\n", "is not Python"),
              "nested": (b"(" * 5000 + b")" * 5000, "mine.py")}
NOT_IMPORTED = {"relative": ("from .blocks import Block\n", "relative import"),
                "absent": ("import no_such_module\n", "No module named 'no_such_module'"),
                "raises": ("1 / 0\n", "ZeroDivisionError: division by zero"),
                "exits": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
                "interrupts": ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
                "mute": ("class Mute(Exception):\n    def __str__(self): raise SystemExit\nraise Mute\n", "Mute"),
                "no factory": ("other = 1\n", "has no 'build'"),
                "a number": ("build = 3\n", "'build' is a int")}


@pytest.fixture
def write(tmp_path):
    def make(content):
        (tmp_path / "mine.py").write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"{tmp_path / 'mine.py'}:build"
    return make


@pytest.mark.parametrize("content, says", NOT_PYTHON.values(), ids=NOT_PYTHON)
def test_a_file_that_is_not_python_is_refused_before_anything_is_imported(write, content, says):
    with pytest.raises(InputError) as caught:
        networks.check(write(content))
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content, says", NOT_IMPORTED.values(), ids=NOT_IMPORTED)
def test_a_file_that_cannot_be_imported_is_one_line(write, content, says):
    networks.check(write(content))
    with pytest.raises(InputError) as caught:
        networks.factory(write(content))
    assert says in str(caught.value) and "\n" not in str(caught.value)


class Own(BaseException):
    pass


@pytest.mark.parametrize("raised", [SystemExit(0), SystemExit(), KeyboardInterrupt(), Own("mine"), GeneratorExit()])
def test_what_code_raises_to_end_the_command_ends_its_run_only(raised):
    with pytest.raises(RuntimeError, match=type(raised).__name__) as caught, networks.contained():
        raise raised
    assert caught.value.__cause__ is raised


def test_a_real_interrupt_ends_the_command():
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)     # where tests run in the background: ignored
    try:
        with pytest.raises(KeyboardInterrupt), networks.contained(), networks.contained():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)


def test_other_errors_pass():
    with pytest.raises(KeyError), networks.contained():
        raise KeyError


def test_what_an_error_says_can_be_shown_and_kept():
    assert one_line(ValueError("two\n lines \ud800 \x1b[31m é")) == r"two lines \ud800 \x1b[31m é"
    assert one_line(ValueError()) == "ValueError" and len(one_line(ValueError("x" * 10**6), 200)) == 200
    assert printable("a\nb") == r"a\nb"
