"""The fingerprint of a run's code follows the files that the run can reach, and no others."""

import shutil

import pytest

from harness import sources
from harness.sources import ROOT, code_fingerprint

NETWORKS = ("plain", "no_skip", "dit", "unetpp", "fcn")


@pytest.fixture
def tree(tmp_path):
    """A copy of the sources that may be changed."""
    for folder in ("variants", "harness"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def moved_by(file, tree):
    """Which (network, suite) have another fingerprint after a line is added to ``file``."""
    def all_of_them():
        return {(variant, suite): code_fingerprint(variant, suite, tree)
                for variant in NETWORKS for suite in ("segmentation", "generation")}

    before = all_of_them()
    path = tree / file
    path.write_text((path.read_text() if path.exists() else "") + "\n# changed\n")
    return {run for run, code in all_of_them().items() if code != before[run]}


def runs(*variants, suites=("segmentation", "generation")):
    return {(variant, suite) for variant in variants for suite in suites}


@pytest.mark.parametrize("file, moved", [
    ("variants/dit.py", runs("dit")),
    ("variants/parts/unet.py", runs("plain", "no_skip", "unetpp")),
    ("variants/parts/blocks.py", runs("plain", "no_skip", "unetpp", "fcn")),
    ("variants/plain.py", runs("plain", "no_skip")),            # which is plain without skips
    ("variants/a_new_one.py", set()),
    ("variants/presets/dit.py", set()),
    ("variants/registry.py", set()), ("variants/__init__.py", set()), ("harness/suites/__init__.py", set()),
    ("harness/reporting/report.py", set()), ("harness/datasets/digits.py", set()),
    ("harness/suites/generation.py", runs(*NETWORKS, suites=("generation",))),
    ("harness/suites/segmentation.py", runs(*NETWORKS, suites=("segmentation",))),
    ("harness/diffusion.py", runs(*NETWORKS, suites=("generation",))),
    ("harness/metrics/fidelity.py", runs(*NETWORKS, suites=("generation",))),
    ("harness/metrics/overlap.py", runs(*NETWORKS, suites=("segmentation",))),
    ("harness/losses.py", runs(*NETWORKS, suites=("segmentation",))),
    ("harness/measure.py", runs(*NETWORKS)), ("harness/train.py", runs(*NETWORKS)),
    ("harness/run.py", runs(*NETWORKS))])
def test_a_changed_file_moves_the_runs_that_reach_it(file, moved, tree):
    assert moved_by(file, tree) == moved


def test_the_copy_has_the_fingerprints_of_the_original(tree):
    assert code_fingerprint("plain", "segmentation") == code_fingerprint("plain", "segmentation", tree)


def test_an_import_inside_a_function_counts(tree):
    path = tree / "variants/plain.py"
    path.write_text(path.read_text() + "\n\ndef later():\n    from variants.parts import tokens\n    return tokens\n")
    assert ("plain", "segmentation") in moved_by("variants/parts/tokens.py", tree)


@pytest.mark.parametrize("line, file, moves", [
    ("from variants.parts.blocks import PlainBlock", "variants/parts/blocks.py", True),
    ("from variants.parts.blocks import PlainBlock", "variants/parts/unet.py", False),
    ("from variants import plain", "variants/plain.py", True),
    ("from variants import plain", "variants/dit.py", False),
    ("import variants.dit", "variants/dit.py", True),
    ("import variants", "variants/dit.py", True),                   # variants.build may be told any name
    ("from variants import build", "variants/dit.py", True),
    ("from variants import presets", "variants/presets/dit.py", True),
    ("import torch", "variants/plain.py", False)])
def test_a_network_elsewhere_counts_with_what_it_imports(line, file, moves, tree, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(line)
    before = code_fingerprint(f"{own}:Net", "segmentation", tree)
    (tree / file).write_text((tree / file).read_text() + "\n# changed\n")
    after = code_fingerprint(f"{own}:Net", "segmentation", tree)
    assert (before != after) == moves
    own.write_text(line + "\n# changed\n")
    assert code_fingerprint(f"{own}:Net", "segmentation", tree) != after


def test_an_installed_network_may_reach_every_part(tree):
    before = code_fingerprint("package.module:Net", "segmentation", tree)
    (tree / "variants/uvit.py").write_text("changed = True")
    assert code_fingerprint("package.module:Net", "segmentation", tree) != before


def test_relative_imports_and_files_that_are_not_python():
    assert sources.imported(b"from . import a\nfrom ..b import c", ("variants", "parts", "x")) == (
        "variants.parts.a", "variants.b.c")
    assert sources.imported(b"this is not Python") == ()


def test_every_file_of_a_pattern_is_there():
    assert all(any(ROOT.glob(pattern)) for pattern in sources.MOVES_NUMBERS)
    assert all((ROOT / name).is_file() for name in (*sources.FIND_BY_NAME, *sources.EVERY_RUN))
