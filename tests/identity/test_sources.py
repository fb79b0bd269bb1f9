"""The fingerprint of a run's code follows every file that the run can reach, and no others; prose never."""

import shutil
from contextlib import contextmanager
from fnmatch import fnmatchcase

import pytest

import variants
from harness import datasets, suites
from harness.identity.sources import EXEMPT, ROOT, RUN, code_fingerprint, exempt, reached
from harness.identity.syntax import read_source

NETWORKS, SUITES = ("plain", "no_skip", "dit", "unetpp", "fcn"), ("segmentation", "generation")


def all_of_them(tree):
    return {(variant, suite): code_fingerprint(variant, suite, tree) for variant in NETWORKS for suite in SUITES}


def copy_of_the_sources(folder):
    for name in ("variants", "harness"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    tree = copy_of_the_sources(tmp_path_factory.mktemp("sources"))
    return tree, all_of_them(tree)


@contextmanager
def changed(path, *, add="changed = True\n", replace=None):
    """The file with ``add`` at its end, or with one text for another; afterwards as it was."""
    before = path.read_text() if path.exists() else None
    after = (before or "") + add if replace is None else before.replace(*replace)
    assert after != before
    path.write_text(after)
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_text(before)


def moved(copied):
    """Which (network, suite) have another fingerprint than before."""
    tree, before = copied
    return {run for run, code in all_of_them(tree).items() if code != before[run]}


def runs(*variants, suites=SUITES):
    return {(variant, suite) for variant in variants for suite in suites}


@pytest.mark.parametrize("file, reaches", [
    ("variants/dit.py", runs("dit")),
    ("variants/parts/unet.py", runs("plain", "no_skip", "unetpp")),
    ("variants/parts/blocks.py", runs("plain", "no_skip", "unetpp", "fcn")),
    ("variants/plain.py", runs("plain", "no_skip")),            # which is plain without skips
    ("variants/a_new_one.py", set()),
    ("variants/presets/dit.py", set()),
    ("variants/registry.py", set()), ("variants/__init__.py", set()), ("harness/suites/__init__.py", set()),
    ("harness/reporting/report.py", set()), ("harness/datasets/digits.py", set()), ("harness/execute.py", set()),
    ("harness/suites/generation.py", runs(*NETWORKS, suites=("generation",))),
    ("harness/suites/segmentation.py", runs(*NETWORKS, suites=("segmentation",))),
    ("harness/diffusion.py", runs(*NETWORKS, suites=("generation",))),
    ("harness/metrics/fidelity.py", runs(*NETWORKS, suites=("generation",))),
    ("harness/metrics/overlap.py", runs(*NETWORKS, suites=("segmentation",))),
    ("harness/metrics/__init__.py", runs(*NETWORKS)),
    ("harness/training/losses.py", runs(*NETWORKS, suites=("segmentation",))),
    ("harness/measurement/costs.py", runs(*NETWORKS)), ("harness/run.py", runs(*NETWORKS))])
def test_a_statement_moves_the_runs_that_reach_its_file(file, reaches, copied):
    with changed(copied[0] / file):
        assert moved(copied) == reaches


@pytest.mark.parametrize("file, change", [
    ("variants/parts/unet.py", dict(replace=('"""', '"""Edited. ', 1))),
    ("variants/parts/unet.py", dict(add="\n\n# only a remark\n")),
    ("harness/run.py", dict(replace=("\n\n\n", "\n\n\n\n"))),
    ("harness/suites/segmentation.py", dict(replace=('"""', '"""Edited. ', 1)))])
def test_prose_moves_nothing(file, change, copied):
    with changed(copied[0] / file, **change):
        assert moved(copied) == set()


@pytest.mark.parametrize("module, line", [
    ("harness/a_new_module.py", "import harness.a_new_module"),
    ("harness/a_new_room/work.py", "from harness.a_new_room import work"),
    ("harness/a_new_room/work.py", "from ..a_new_room.work import anything"),
    ("harness/a_new_room/__init__.py", "def later():\n    from harness.a_new_room import x"),
    ("variants/parts/a_new_part.py", "from variants.parts.a_new_part import Part"),
    ("harness/samplers/by_name.py", "from harness import samplers")])
def test_a_new_module_that_a_suite_imports_counts(module, line, copied):
    """Also in a folder that did not exist, and one that a registry in it loads by its name."""
    path, suite = copied[0] / module, copied[0] / "harness/suites/segmentation.py"
    path.parent.mkdir(exist_ok=True)
    if "samplers" in module:
        (path.parent / "__init__.py").write_text("registry = FolderRegistry(__name__, 'sampler', None)\n")
    with changed(suite, add=f"{line}\n"):
        path.write_text("K = 1\n")
        before = code_fingerprint("plain", "segmentation", copied[0])
        path.write_text("K = 10\n")
        assert code_fingerprint("plain", "segmentation", copied[0]) != before
        path.unlink()
    if path.parent.name in ("a_new_room", "samplers"):
        shutil.rmtree(path.parent)
    assert moved(copied) == set()


def test_the_copy_has_the_fingerprints_of_the_original(copied):
    assert code_fingerprint("plain", "segmentation") == copied[1]["plain", "segmentation"]


def all_reached():
    """Files that some run of some network in some suite on some data reaches."""
    starts = [RUN, *(f"harness/suites/{name}.py" for name in suites.registry.names())]
    by_name = [*(f"variants/{name}.py" for name in variants.names()),
               *(f"harness/datasets/{name}.py" for name in datasets.registry.names())]
    files = reached([(ROOT / name, True) for name in starts], ROOT)
    files |= reached([(ROOT / name, True) for name in by_name], ROOT, by_name=True)
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_every_exemption_is_reached_by_some_run_and_says_why():
    names = all_reached()
    stale = [pattern for pattern in EXEMPT if not any(fnmatchcase(name, pattern) for name in names)]
    assert not stale, "no run reaches these: take them out of EXEMPT"
    assert all(len(reason.split()) >= 3 for reason in EXEMPT.values())


def test_nothing_exempt_makes_batches():
    """How data become batches moves numbers, wherever it is written."""
    making = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("harness/**/*.py")
              if exempt(path.relative_to(ROOT).as_posix()) and any(
                  word in line for line in path.read_text().splitlines() if line.startswith(("def ", "class "))
                  for word in ("batch", "Batch"))]
    assert not making


def test_what_is_reached_is_known_file_by_file():
    """No suite reaches what only shows or schedules; each counts what makes its numbers."""
    counted = {name for name in all_reached() if not exempt(name)}
    assert not [name for name in counted if name.startswith(("harness/reporting", "harness/analysis", "harness/stats"))]
    assert {"harness/run.py", "harness/measurement/costs.py", "harness/diffusion.py", "harness/training/losses.py",
            "harness/measurement/roofline.py", "harness/measurement/memory.py", "variants/parts/unet.py"} <= counted


def test_a_file_is_parsed_once(copied, monkeypatch):
    code_fingerprint("plain", "segmentation", copied[0])
    monkeypatch.setattr("harness.identity.syntax.parsed", lambda content: pytest.fail("parsed again"))
    assert code_fingerprint("plain", "segmentation", copied[0]) == copied[1]["plain", "segmentation"]
    with pytest.raises(pytest.fail.Exception), changed(copied[0] / "harness/run.py"):
        read_source(copied[0] / "harness/run.py")
