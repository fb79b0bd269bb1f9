"""A network from elsewhere: its file, its helpers and its packages count, wherever they lie, and nothing is run."""

import shutil
import sys
from types import SimpleNamespace

import pytest

from harness.identity import foreign_code, sources
from harness.identity.sources import code_fingerprint

NET = "from torch import nn\nK = 1\nclass Net(nn.Conv2d):\n    pass\n"


def fingerprint(variant, root=sources.ROOT):
    return code_fingerprint(str(variant), "segmentation", root)


def write(folder, files):
    """Name without suffix -> text."""
    for name, text in files.items():
        (folder / f"{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(text)


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """A folder that modules are imported from."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the networks and of one suite, which may be changed."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("variants", "harness"):
        shutil.copytree(sources.ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


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
def test_what_it_imports_from_here(line, file, moves, tree, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(line)
    before, text = fingerprint(f"{own}:Net", tree), (tree / file).read_text()
    (tree / file).write_text(text + "\nchanged = True\n")
    after = fingerprint(f"{own}:Net", tree)
    (tree / file).write_text(text)
    assert (before != after) == moves
    own.write_text(line + "\n# only a remark\n")
    assert fingerprint(f"{own}:Net", tree) == before
    own.write_text(line + "\nchanged = True\n")
    assert fingerprint(f"{own}:Net", tree) != before


@pytest.mark.parametrize("variant", ["package.module:Net", "segmentation_models_pytorch:Unet"])
def test_one_that_is_not_found_or_installed_may_reach_every_network(variant, tree):
    before, text = fingerprint(variant, tree), (tree / "variants/uvit.py").read_text()
    (tree / "variants/uvit.py").write_text("changed = True")
    after = fingerprint(variant, tree)
    (tree / "variants/uvit.py").write_text(text)
    assert after != before


@pytest.mark.parametrize("edited", ["", "helper", "package/__init__", "package/part", "package/deep/__init__",
                                    "package/deep/more"])
@pytest.mark.parametrize("variant", ["mynets:Net", "{folder}/mynets.py:Net"])
def test_the_module_and_what_it_imports_count(variant, edited, on_path):
    """Beside itself, relatively, inside functions, from a folder without ``__init__``, in a package's own file."""
    write(on_path, {"mynets": NET + "import helper\ndef f():\n    from package import part\n", "helper": "K = 1",
                       "package/__init__": "", "package/part": "from .deep import more\n", "unused": "K = 1",
                    "package/deep/__init__": "from .. import part", "package/deep/more": "K = 1"})
    variant = variant.format(folder=on_path)
    before = fingerprint(variant)
    (on_path / "unused.py").write_text("K = 7")
    assert fingerprint(variant) == before
    path = on_path / f"{edited or 'mynets'}.py"
    path.write_text(path.read_text() + "\nK = 70\n")
    assert fingerprint(variant) != before
    assert not {"mynets", "helper", "package"} & set(sys.modules), "nothing was imported"


def test_a_module_in_a_package_runs_what_the_package_imports(on_path):
    write(on_path, {"nets/__init__": "from . import setup", "nets/setup": "K = 1", "nets/unet": NET})
    before = fingerprint("nets.unet:Net")
    (on_path / "nets/setup.py").write_text("K = 70")
    assert fingerprint("nets.unet:Net") != before


def test_where_it_lies_does_not_count(tmp_path, monkeypatch):
    codes = set()
    for folder in (tmp_path / "a", tmp_path / "b/c"):
        write(folder, {"net": NET + "import helper\nfrom .package import part", "helper": "K = 1",
                       "package/part": "from .. import helper"})
        monkeypatch.chdir(folder)
        codes |= {fingerprint(f"{spelled}:Net") for spelled in ("net.py", "./net.py", "package/../net.py",
                                                                folder / "net.py")}
    assert len(codes) == 1
    (folder / "helper.py").rename(folder / "another.py")
    assert fingerprint("net.py:Net") not in codes


def test_a_package_counts_by_its_version(tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    write(tmp_path, {"net": NET + "import einops_of_mine\nimport random, numpy\n",
                     "site-packages/einops_of_mine/__init__": "raise SystemExit('was imported')"})
    monkeypatch.syspath_prepend(installed)
    known = {"torch": ["torch"], "numpy": ["numpy"]}
    monkeypatch.setattr(foreign_code, "top_levels", lambda: {**known, "einops_of_mine": ["einops-of-mine"]})

    def version(number):
        monkeypatch.setattr(foreign_code, "metadata", SimpleNamespace(version=lambda name: number))
        found = foreign_code.foreign_code(f"{tmp_path}/net.py:Net", sources.ROOT)
        return found.packages, fingerprint(f"{tmp_path}/net.py:Net")

    assert version("1")[0] == {"einops-of-mine": "1"}, "versions in every record's environment do not count"
    assert version("1") == version("1") and version("1")[1] != version("2")[1]
    monkeypatch.setattr(foreign_code, "top_levels", lambda: known)       # copied there by hand: by content
    before = version("1")[1]
    (installed / "einops_of_mine/__init__.py").write_text("changed = True")
    assert version("1")[1] != before


def test_what_is_no_python_or_not_there_is_no_error(tmp_path):
    (tmp_path / "net.py").write_text("def broken(:")
    assert fingerprint(f"{tmp_path}/net.py:Net") != fingerprint(f"{tmp_path}/absent.py:Net")
    (tmp_path / "net.py").write_text("from ................ import far\nimport absent, __main__, sys\nfrom . import *")
    assert fingerprint(f"{tmp_path}/net.py:Net")


def test_a_network_of_this_repository_by_its_path_is_followed_as_one_of_here(tree):
    variant = f"{tree}/variants/plain.py:build"
    assert fingerprint(variant, tree) == fingerprint("plain", tree)
