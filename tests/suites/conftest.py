"""Runs of tiny networks through whole suites, and what they left."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

import harness.run
from harness.record import Record


@dataclass(frozen=True)
class Made:
    """A run and the files that it left."""

    record: Record
    folder: Path

    def rows(self, name):
        with open(self.folder / name, newline="") as file:
            return list(csv.DictReader(file))

    @property
    def curves(self):
        """[(step, name, value), ...], all as they are written."""
        return [(row["step"], row["name"], row["value"]) for row in self.rows("curves.csv")]

    def check(self):
        assert self.record.status == "ok", (self.folder / "traceback.txt").read_text()
        return self


@pytest.fixture(scope="session")
def suites_cache(tmp_path_factory):
    """One cache for all, so that the classifier of the same data is trained once."""
    return tmp_path_factory.mktemp("suites-cache")


@pytest.fixture
def run(tmp_path, suites_cache, monkeypatch):
    """run(spec, data, code, runs): make the run, with a classifier of few steps."""
    from harness.metrics import classifier
    monkeypatch.setitem(classifier.RECIPE, "steps", 10)

    def make(spec, data, code="c", runs=tmp_path / "runs"):
        record = harness.run.run(spec, data, runs, suites_cache, code=code)
        return Made(record, runs / record.run_id)

    return make


@pytest.fixture(scope="session")
def made_before():
    return {}


@pytest.fixture
def usual(made_before, run, tiny_data, tiny_spec, tmp_path_factory):
    """usual(suite): the run of ``tiny_spec(suite)`` on ``tiny_data(suite)``, made once for all that look at it."""
    def make(suite):
        if suite not in made_before:
            made_before[suite] = run(tiny_spec(suite), tiny_data(suite), runs=tmp_path_factory.mktemp("usual")).check()
        return made_before[suite]

    return make
