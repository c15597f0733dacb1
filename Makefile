# `make demo` and `make test` do all the set-up they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
CHECK_VERSION := import sys; sys.exit(sys.version_info < (3, 12))

.PHONY: demo test check docs constraints clean

demo: .venv/ready ## train, classify and export polygons of sample_data/
	$(BIN)/hsi-pipeline demo --out results/sample --overwrite

test: .venv/ready ## every check and test
	$(MAKE) check
	$(BIN)/pytest -q

check: .venv/ready ## style, types, imports, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: .venv/ready ## the documentation as a site, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

.venv/ready: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c '$(CHECK_VERSION)' || { \
	  echo "Python 3.12 or newer is needed, '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	  echo "Install it (pyenv, uv or your system) and say: make $(MAKECMDGOALS) PYTHON=python3.12"; \
	  exit 1; }
	@echo "making the environment in .venv: several GB, some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[dev]'
	touch $@

constraints: ## write constraints.txt anew from what is installed
	{ echo "# Exact versions that make uses; 'make constraints' writes them anew."; \
	  $(BIN)/python -m pip freeze --exclude-editable --all | grep -v -i '^pip==\|^-e '; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf .venv results site
