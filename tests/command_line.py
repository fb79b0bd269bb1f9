"""The command line in this process, and what it must say of wrong input."""

from click.testing import CliRunner

from harness.cli import main


def bench(*args, cwd=None):
    # wide, so that no path is broken over two lines, however long the folder of tests is
    return CliRunner(env={"COLUMNS": "300"}).invoke(main, [str(arg) for arg in args])


def refused(result, *words):
    """One line on stderr, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    assert all(word in lines[0] for word in words), lines[0]
