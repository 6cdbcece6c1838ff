PYTHON ?= python3

.PHONY: setup demo test lint soak bench format docs lock clean

setup demo test lint soak bench:
	$(PYTHON) -m tools.run $@

format: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: setup
	.venv/bin/python -m tools.docs.generate_indicator_docs
	.venv/bin/python -m tools.docs.generate_docs_index

# Newer versions: make lock UPGRADE=--upgrade
lock: setup
	.venv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --quiet $(UPGRADE) --custom-compile-command "make lock" \
	  --output-file requirements.txt

clean:
	rm -rf .venv build dist out *.egg-info .pytest_cache .ruff_cache .hypothesis
