# Two commands do everything on a fresh machine: `make compile` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Further flags of the run: make compile ARGS=--quick
ARGS =

.PHONY: compile test check audit weights notebooks clean

compile: weights
	$(BIN)/python -m synth_dspy.compile contract_qa $(ARGS)

test: weights check
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Executes the notebooks in order and writes them with their outputs: make notebooks NAMES="02_rag 03_optimize"
notebooks: weights
	$(BIN)/python notebooks/execute.py $(NAMES)

# Known vulnerabilities of the pinned packages; needs the network, and an environment of its own for its own packages.
AUDITED = $(VENV)/audit/report.txt
audit: constraints.txt
	$(PYTHON) -m venv $(VENV)/audit
	@{ $(VENV)/audit/bin/python -m pip install --quiet --timeout 60 pip-audit && \
	$(VENV)/audit/bin/pip-audit --no-deps --disable-pip --progress-spinner off -r constraints.txt; } > $(AUDITED) 2>&1; \
	status=$$?; \
	if grep -qE '^(No known|Found [0-9]+ known)' $(AUDITED); then cat $(AUDITED); exit $$status; fi; \
	echo "The vulnerability service could not be asked, so nothing was audited: see $(AUDITED), or try with a network."

weights: $(VENV)/ready
	$(BIN)/python -m synth_dspy.weights pull smollm2-135m-instruct all-minilm-l6-v2

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --timeout 60 --retries 10 --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --timeout 60 --retries 10 --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
