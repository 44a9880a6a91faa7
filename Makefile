# Two commands do all the set-up: `make run` and `make test`. Either may be the first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := . plugins/dsrl-procedural plugins/dsrl-bm25 plugins/dsrl-transformers plugins/dsrl-openai \
	plugins/dsrl-anthropic contrib_tasks
READY := $(VENV)/.ready
# Small models on busy cores are quicker on one thread each.
export OMP_NUM_THREADS ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1

.PHONY: run test test-slow lint docs bench clean

run: $(READY)
	$(BIN)/dsrl run --task mednli

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/generate.py

$(READY): constraints.txt pyproject.toml $(wildcard plugins/*/pyproject.toml) contrib_tasks/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation \
		$(patsubst %,-e %,$(PACKAGES)) -e ".[dev]" -e "plugins/dsrl-transformers[lora]" -e "plugins/dsrl-openai[test]"
	touch $@

clean:
	rm -rf $(VENV) .dsrl runs
