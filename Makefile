# Two commands: `make repro` and `make test`. Everything else is a shorter name for something.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VENV_LLM := .venv-llm
READY_LLM := $(VENV_LLM)/.ready
SPARK := $(VENV)/.spark
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: repro test test-llm test-gpu lint serve bench lock docs clean

repro: $(READY)
	dvc repro

test: lint $(SPARK)
	pytest

test-llm: $(READY_LLM)
	WINNOW_LLM=1 $(VENV_LLM)/bin/python -m pytest -m llm tests/enrich/llm

test-gpu: $(READY)
	@python -c "import sys, torch; torch.cuda.is_available() or sys.exit(f'make test-gpu needs a CUDA device, and torch {torch.__version__} sees none')"
	pytest -m gpu -rs

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy

serve: $(READY)
	bentoml serve service:Search --port $${PORT:-3000}

bench: $(SPARK)
	python -m benchmarks.ingest
	python -m benchmarks.search
	python -m benchmarks.noop
	python -m benchmarks.change
	python -m benchmarks.hotness
	python -m benchmarks.topk
	python -m benchmarks.lexical
	python -m benchmarks.als
	python -m benchmarks.two_tower

docs: $(READY)
	python -m docs.parameter_table

lock:
	uv pip compile --no-annotate --no-header --all-extras --python-version 3.11 pyproject.toml -o constraints.txt
	grep -v '^setuptools==' constraints.txt | uv pip compile --no-annotate --no-header --group llm -c - --python-version 3.11 -o constraints-llm.txt

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

$(SPARK): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[spark]'
	touch $(SPARK)

# The three packages are built for CUDA, and vLLM's CPU build fails to start where they lie beside it.
$(READY_LLM): pyproject.toml constraints-llm.txt
	test -x $(VENV_LLM)/bin/python || $(PYTHON) -m venv $(VENV_LLM) || python3 -m venv $(VENV_LLM)
	$(VENV_LLM)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-llm.txt
	$(VENV_LLM)/bin/python -m pip uninstall --quiet --disable-pip-version-check -y torchvision torchaudio torchcodec
	touch $(READY_LLM)
