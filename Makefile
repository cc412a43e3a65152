# Each target is one command for a person. PYTHON=/path/to/python3.12 makes the environment with another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
CODE := operator proxy tests

.PHONY: demo test check bench chart fuzz reference venv clean
.DEFAULT_GOAL := demo

demo: venv ## Start the demo: two apps, images, messages and a TCP echo behind Portway.
	@$(BIN)/portway demo

test: venv ## Run every test that can run here.
	$(BIN)/python -m pytest

check: venv ## Lint, format, types, import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv ## Portway beside the proxies that are installed here; ARGS="--quick" for one short round.
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

reference: venv ## Write docs/annotations.md and docs/check.schema.json from the code.
	$(BIN)/python -m portway_operator.annotations.reference > docs/annotations.md
	$(BIN)/python -m portway_operator.check.forms > docs/check.schema.json

chart: venv ## Write the chart's values.schema.json and README.md from the comments of its values.yaml.
	PYTHONPATH=tests $(BIN)/python -m chart.documents

fuzz: venv ## Go on with fuzzing from the corpus; ARGS="exchange --seconds 600" for one target.
	$(BIN)/python -m pip install --quiet -c constraints.txt --group fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

venv: $(STAMP)

# pip comes first: --group and --build-constraint need a new one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Portway needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt --build-constraint constraints.txt -e . --group dev
	@touch $@

clean: ## Remove what the targets made.
	rm -rf $(VENV) .fuzz build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
