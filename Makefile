# Each target is complete on a bare machine with Python 3.11: it makes the virtual environment and installs.
PYTHON ?= python3

.PHONY: generation segmentation test
generation segmentation: .venv/installed
	.venv/bin/python bench.py --suite $@

test: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/python -m pytest -n auto --dist worksteal

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@
