# make demo   set up, then photos to report on the embedded digits     (8 minutes at most on 2 cores)
# make test   set up, then the tests                                   (20 minutes at most on 2 cores)
# make setup  the installation alone, into .venv; does nothing when current
# make docs   write docs/reference from the code
# make notebook  run docs/demo.ipynb and keep its output               (2 minutes on 2 cores)
# make lock   resolve the dependencies again (needs uv)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
UV_COMPILE = uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
             --no-emit-index-url --no-annotate --no-header --quiet pyproject.toml

.PHONY: setup demo test lint docs notebook lock clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements/dev.lock
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	rm -rf runs/demo
	$(BIN)/kd2mobile distill --baseline --run runs/demo
	$(BIN)/kd2mobile export --tflite --run runs/demo
	$(BIN)/kd2mobile benchmark --run runs/demo --json runs/demo/records.json
	$(BIN)/kd2mobile report --run runs/demo

test: setup lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python docs/reference/make.py

notebook: setup
	rm -rf build/notebook
	mkdir -p build/notebook
	cd build/notebook && ../../$(BIN)/python ../../docs/run_notebook.py ../../docs/demo.ipynb ../../docs/demo.ipynb

lock:
	$(UV_COMPILE) -o requirements/core.lock
	$(UV_COMPILE) --extra train -o requirements/train.lock
	$(UV_COMPILE) --extra train --extra compress --extra test -o requirements/dev.lock

clean:
	rm -rf $(VENV) .environments dist build
