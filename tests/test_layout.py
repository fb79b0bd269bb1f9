"""The house keeps its shape: imports go one way, one file is one thing, files stay readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("variants/**/*.py"), *ROOT.glob("harness/**/*.py"), ROOT / "bench.py"])
STANDARD = set(sys.stdlib_module_names)
NO_TORCH = ("spec", "errors", "record", "formatting", "progress", "cli", "identity.migrations", "identity.networks",
            "identity.sources", "identity.syntax", "identity.foreign_code", "execute", "execution", "dataset",
            "data_notes",
            "tracking", "yaml_file", "ablation.study", "ablation.manifest", "ablation.matching", "ablation.tuning",
            "benchmark.benchmark", "benchmark.page", "benchmark.result",
            *(f"{folder}.{path.stem}" for folder in ("stats", "analysis", "reporting")
              for path in sorted(ROOT.glob(f"harness/{folder}/*.py")) if path.stem != "__init__"))


# Lowest first: a module imports its own layer or a lower one, wherever in the file the import stands. A name covers
# the modules below it, and the longest one that fits decides.
LAYERS = (
    "errors formatting stats spec yaml_file extras",
    "record record_form run_files dataset data_notes identity",
    "datasets metrics training measurement diffusion",
    "suites",
    "run execute execution evaluation executors trackers tracking "
    "ablation.study ablation.manifest ablation.matching ablation.size_search",
    "analysis",
    "plan ablation progress",
    "reporting",
    "inspection benchmark",
    "cli cli_options cli_tools terminal",
)


def imports(path, top_level_only=False):
    """Dotted names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree)
    if top_level_only:
        nodes = tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path, **options):
    return {name.partition(".")[0] for name in imports(path, **options)} - STANDARD


def test_there_is_something_to_check():
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", sorted(ROOT.glob("variants/*.py")), ids=lambda p: p.name)
def test_variants_import_torch_and_variants_only(path):
    assert tops(path) <= {"torch", "variants"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("variants/parts/*.py")), ids=lambda p: p.name)
def test_parts_import_torch_and_parts_only(path):
    assert tops(path) <= {"torch", "variants"}
    own = [name for name in imports(path) if name.startswith("variants")]
    assert all(name.startswith("variants.parts") for name in own)


def modules():
    """Dotted name -> file, of every module of the harness and the variants; a package is its ``__init__``."""
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
            for path in SOURCES if path.name != "bench.py"}


def edges():
    """Module -> the modules of this project that it imports."""
    known = modules()
    found = {}
    for name, path in known.items():
        found[name] = set()
        for imported in imports(path):
            while imported and imported not in known:
                imported = imported.rpartition(".")[0]
            if imported and imported != name:
                found[name].add(imported)
    return found


def layer(name):
    """Number of a module's layer in LAYERS, from 1; 0 for variants and the top package, which lie below them all."""
    places = {f"harness.{part}": i for i, parts in enumerate(LAYERS, 1) for part in parts.split()}
    while name and name not in places:
        name = name.rpartition(".")[0]
    return places.get(name, 0)


def test_every_module_has_a_layer():
    assert [name for name in modules() if not layer(name) and not name.startswith("variants")] == ["harness"]


def test_no_module_imports_one_of_a_higher_layer():
    upward = [f"{name} imports {imported}" for name, its in edges().items() for imported in its
              if layer(imported) > layer(name)]
    assert not upward


def test_no_modules_import_each_other():
    """Depth first; a module that is met again on the way down closes a circle."""
    graph, done, circles = edges(), set(), []

    def visit(name, way):
        if name in way:
            circles.append(" -> ".join([*way[way.index(name):], name]))
        elif name not in done:
            for imported in sorted(graph[name]):
                visit(imported, [*way, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    assert not circles


def test_spec_imports_pydantic_only():
    assert tops(ROOT / "harness/spec.py") == {"pydantic"}


def imports_torch(*names):
    """Whether a fresh process that imports these modules of the harness has torch; raises if one does not import."""
    lines = [f"import harness.{name}" for name in names]
    done = subprocess.run([sys.executable, "-c", "\n".join(["import sys", *lines, "print('torch' in sys.modules)"])],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1] == "True"


def test_what_people_read_does_not_wait_for_torch():
    """All in one process: it has torch if any module alone would; only then are they asked one by one."""
    assert not imports_torch(*NO_TORCH) or not [name for name in NO_TORCH if imports_torch(name)]
    assert imports_torch("training.train")


def test_training_knows_neither_suite_nor_variant_nor_metric():
    own = {name for path in ROOT.glob("harness/training/*.py") for name in imports(path)
           if name.startswith(("harness", "variants"))}
    allowed = {"errors", "measurement", "spec", "training"}
    assert {name.split(".")[1] for name in own if "." in name} <= allowed


@pytest.mark.parametrize("folder", ["suites", "datasets", "metrics"])
def test_one_of_a_kind_does_not_import_another_suite_or_data_set(folder):
    """A suite imports no suite, a data set no data set: adding or removing one file touches no other."""
    for path in ROOT.glob(f"harness/{folder}/*.py"):
        others = {f"harness.{folder}.{p.stem}" for p in path.parent.glob("*.py")} - {f"harness.{folder}.__init__"}
        if folder != "metrics":                       # metrics share the rule for empty masks, and the extractor type
            assert not others & set(imports(path)), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= (60 if path.name == "__init__.py" else 300)
    assert path.stem not in ("utils", "helpers", "common", "misc")
    assert ast.get_docstring(ast.parse(path.read_text())), "says what it is for"


def test_every_source_file_is_in_the_contributors_table():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    registries = ("datasets", "metrics", "suites", "executors", "trackers")     # files are found by their names
    files = [path for path in ROOT.glob("harness/**/*.py") if path.parent.name not in registries]
    missing = [path.name for path in files if path.name != "__init__.py" and f"{path.name}`" not in text]
    assert not missing


def test_every_package_is_installed():
    configured = (ROOT / "pyproject.toml").read_text()
    packages = {".".join(p.parent.relative_to(ROOT).parts) for p in SOURCES if p.name == "__init__.py"}
    assert all(f'"{package}"' in configured for package in packages)
