# Everything from a fresh clone: `make demo` and `make test` make their own .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two threads of PyTorch on a busy machine of two cores can end up on one of them; one thread is steady.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench format clean

demo: $(VENV)/.installed
	$(BIN)/trainwatt estimate resnet18 --batch 32 --device raspberry-pi-4b --device jetson-nano --device zcu102 --top 5
	@mkdir -p out
	$(BIN)/trainwatt trace resnet18 --batch 32 -o out/resnet18.graph
	$(BIN)/trainwatt estimate out/resnet18.graph --device jetson-nano --apply "sparse-update{last=5},gradient-filter{patch=4,last=4}" --top 10 --timeline out/resnet18-jetson-nano.json
	@echo
	@echo "out/resnet18-jetson-nano.json opens in Perfetto (ui.perfetto.dev) or chrome://tracing."

test: $(VENV)/.developing
	$(BIN)/pytest -n 2

check: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	rm -rf dist && $(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(BIN)/check-wheel-contents dist/*.whl

bench: $(VENV)/.developing
	$(BIN)/python benchmarks/trace_speed.py
	$(BIN)/python benchmarks/pricing_speed.py
	$(BIN)/python benchmarks/device_models_speed.py
	$(BIN)/python benchmarks/huge_trace.py
	$(BIN)/python benchmarks/peak_memory.py
	$(BIN)/python benchmarks/gradient_filter_speed.py
	$(BIN)/python benchmarks/accuracy_on_digits.py

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and exactly: a range alone may resolve to a build with gigabytes of CUDA.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable ".[test,check]"
	touch $@
