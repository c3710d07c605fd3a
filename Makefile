# make demo   set up, then photos to report on the embedded digits     (5 minutes at most on 2 cores)
# make test   set up, then the tests                                   (30 minutes at most on 2 cores)
# make setup  the installation alone, into .venv; does nothing when current
# make web    LiteRT.js by npm, into export/web/node_modules
# make docs   write docs/reference from the code
# make notebook  run docs/demo.ipynb and keep its output               (2 minutes on 2 cores)
# make torture  kills, faults and damaged files by the ten thousand; MINUTES=60 stops, the next call goes on
# make lock   resolve the dependencies again (needs uv)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WEB    := export/web/node_modules/.package-lock.json
UV_COMPILE = uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
             --no-emit-index-url --no-annotate --no-header --quiet pyproject.toml

.PHONY: setup web demo test lint docs notebook torture lock clean

setup: $(STAMP)

$(STAMP): pyproject.toml requirements/dev.lock
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# LiteRT.js, for the tests of the browser. Without npm, or a network, they are skipped and say so.
web: $(WEB)

$(WEB): export/web/package-lock.json
	command -v npm >/dev/null && npm ci --prefix export/web --no-audit --no-fund || echo "no LiteRT.js: the browser's tests are skipped"

demo: setup
	rm -rf runs/demo
	$(BIN)/kd2mobile distill --baseline --run runs/demo
	$(BIN)/kd2mobile export --tflite --precision fp32,int8 --run runs/demo
	$(BIN)/kd2mobile benchmark --run runs/demo --json=runs/demo/records.json
	$(BIN)/kd2mobile report --run runs/demo

test: setup web lint
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

torture: setup
	$(BIN)/python -m tests.torture $(if $(MINUTES),--minutes $(MINUTES))

lock:
	$(UV_COMPILE) -o requirements/core.lock
	$(UV_COMPILE) --extra train -o requirements/train.lock
	$(UV_COMPILE) --extra train --extra compress --extra test -o requirements/dev.lock

clean:
	rm -rf $(VENV) .environments dist build export/web/node_modules
