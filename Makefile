# Every step from a bare machine with Python 3.11+ to a running, tested server.
# The stamps in .venv make a lock install once, and again only when it changes.

PYTHON ?= python3
# What pytest gets. Some tests, and no judgement on coverage: make test ARGS="-k shutdown"
ARGS = --numprocesses auto --cov
# What uv gets besides. Newer versions of everything: make lock LOCK=--upgrade
LOCK =
# What Locust gets besides: make loadtest LOCUST="--topics 50"
LOCUST =

VENV := .venv
NPM := tests/clients/npm
TOOLS := tests/deploy/tools
# Go, if it is of 1.24 or newer.
GO := $(shell PATH="$$PATH:/usr/local/go/bin"; \
	go version 2>/dev/null | grep -Eq ' go1\.(2[4-9]|[3-9][0-9])' && command -v go)
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# The base image's Python, for check-wheels; its one home is the Dockerfile.
IMAGE_PYTHON = $(shell sed -n 's/^FROM python:\([0-9.]*\)-slim AS .*/\1/p' Dockerfile)

PIP := $(BIN)/python -m pip --quiet --no-input --disable-pip-version-check
INSTALL := $(PIP) install --root-user-action ignore
# Extras stay: pip takes coverage for pinned where coverage[toml] is asked for, and then for unpinned
# as soon as there is a newer one.
COMPILE := $(BIN)/uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" $(LOCK) pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run install test test-dist test-faults test-installed test-loadtest test-docs fuzz-api check format settings types lock check-wheels dist bench bench-quick bench-compare bench-guarded loadtest loadtest-picture pictures docs clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

run: install ## serve on :8080 (PORT, HOST and the other settings come from the environment)
	@echo "The console: http://localhost:$${PORT:-8080}/ (Ctrl-C stops the server)"
	@exec $(BIN)/python server.py

install: $(VENV)/.run ## make .venv with what the server needs

test: $(VENV)/.test $(if $(shell command -v npm 2>/dev/null),$(NPM)/node_modules) $(if $(GO),$(TOOLS)/bin) ## run every test, and fail under 95 % coverage
	@$(BIN)/python -m pytest $(ARGS)

test-dist: $(VENV)/.test ## build a release twice, and install its packages (1 minute)
	@$(BIN)/python -m pytest tests/release -o faulthandler_timeout=900

test-faults: $(VENV)/.test ## hurt a real Redis in every way, and see the servers heal (5 minutes)
	@$(BIN)/python -m pytest tests/faults

test-installed: $(VENV)/.test ## build the image and start the systemd unit on a small Debian (2 minutes, as root)
	@$(BIN)/python -m pytest tests/installed -o faulthandler_timeout=900

test-loadtest: $(VENV)/.test $(VENV)/.loadtest ## try the load test with sound and faulty servers (2 minutes)
	@$(BIN)/python -m pytest tests/loadtest --numprocesses 2

test-docs: docs $(VENV)/.test ## build the site of the documentation, and try it in a browser
	@$(BIN)/python -m pytest tests/site --numprocesses auto

fuzz-api: $(VENV)/.test ## test the HTTP API with requests that schemathesis generates (2 minutes)
	@FUZZ_EXAMPLES=300 $(BIN)/python -m pytest tests/api/test_fuzz.py --override-ini faulthandler_timeout=900

check: $(VENV)/.test ## lint, check the format and the types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.test ## repair what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

settings: $(VENV)/.run ## write .env.example and docs/configuration.md again from the table of settings
	@$(BIN)/python -m cli.setting_lists

types: $(NPM)/node_modules ## write clients/js/client.d.ts again from the comments of client.js
	@$(NPM)/node_modules/.bin/tsc --project clients/js

lock: $(VENV)/.made ## write the lock files again from pyproject.toml
	@$(INSTALL) uv==$(UV_VERSION)
	@$(COMPILE) --output-file requirements.lock
	@$(COMPILE) --extra test --constraint requirements.lock --output-file requirements-test.lock
	@$(COMPILE) --extra bench --constraint requirements.lock --output-file requirements-bench.lock
	@$(COMPILE) --extra loadtest --constraint requirements.lock --output-file requirements-loadtest.lock
	@$(COMPILE) --extra docs --constraint requirements.lock --output-file requirements-docs.lock

check-wheels: $(VENV)/.made ## check that the base image's libc and Python have a wheel for each pin
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && for arch in x86_64 aarch64; do \
		$(PIP) download --dest "$$dir/$$arch" --require-hashes --only-binary :all: \
			--implementation cp --python-version $(IMAGE_PYTHON) \
			--platform manylinux_2_28_$$arch --platform manylinux_2_17_$$arch \
			--platform manylinux2014_$$arch --requirement requirements.lock || exit 1; \
		echo "python $(IMAGE_PYTHON), glibc, $$arch: $$(ls "$$dir/$$arch" | wc -l) wheels"; \
	done

dist: $(VENV)/.test ## build the files of a release in dist/, from the last commit
	@$(BIN)/python release/dist.py

bench: $(VENV)/.bench ## measure everything beside every peer and write it down (over an hour); ONLY=KEYS SERVERS=NAMES prints some
	@$(BIN)/python bench/run.py $(if $(ONLY),--only $(ONLY)) $(if $(SERVERS),--servers $(SERVERS))

bench-quick: $(VENV)/.run ## measure the headline rows (under 3 minutes)
	@$(BIN)/python bench/run.py --quick

bench-compare: $(VENV)/.run ## measure the working tree against a revision: make bench-compare REV=HEAD~1
	@$(BIN)/python bench/run.py --compare $(or $(REV),HEAD)

bench-guarded: $(VENV)/.run ## measure what access and limits cost (five minutes)
	@$(BIN)/python bench/run.py --guarded

loadtest: $(VENV)/.loadtest ## load-test a server for a minute; MINUTES=10 USERS=1000 STORM=1 URL=http://... LOCUST="OPTIONS"
	@$(VENV)/loadtest/bin/python loadtest/run.py $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(USERS),--users $(USERS)) $(if $(STORM),--storm) $(if $(URL),--url $(URL)) $(LOCUST)

loadtest-picture: $(VENV)/.test ## draw the newest report as docs/images/loadtest.png; REPORT=FILE draws another
	@$(BIN)/python -m loadtest.picture $(REPORT)

pictures: $(VENV)/.test $(VENV)/.bench ## take the pictures of examples/ and of the console again
	@PYTHONPATH=clients/python $(BIN)/python -m tests.examples.pictures
	@$(BIN)/python -m tests.console.pictures

# The variable silences a notice of the theme on every build; decision 0073 has what it says. With
# --quiet, MkDocs would not count warnings, and so not fail.
docs: $(VENV)/.docs ## build the documentation as a site in site/, and fail on a broken link
	@NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/python -m mkdocs build

clean: ## remove .venv and every cache
	@rm -rf $(VENV) dist site $(NPM)/node_modules $(TOOLS)/bin .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		"$(PYTHON) is missing or older than 3.11: install Python 3.11, or name one that is there" \
		"with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
		"$(PYTHON) cannot make a virtual environment: install its venv module" \
		"(on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements.lock $(VENV)/.made
	@echo "installing $<"
	@$(INSTALL) --require-hashes --requirement $<
	@touch $@

$(VENV)/.bench: requirements-bench.lock $(VENV)/.made
	@echo "installing $<"
	@$(INSTALL) --require-hashes --requirement $<
	@touch $@

# Its own environment; pyproject.toml says why. The lock also has what the server needs.
$(VENV)/.loadtest: requirements-loadtest.lock $(VENV)/.made
	@echo "installing $<"
	@$(BIN)/python -m venv --without-pip $(VENV)/loadtest
	@$(PIP) --python $(VENV)/loadtest/bin/python install --root-user-action ignore \
		--require-hashes --requirement $<
	@touch $@

$(VENV)/.docs: requirements-docs.lock $(VENV)/.made
	@echo "installing $<"
	@$(BIN)/python -m venv --without-pip $(VENV)/docs
	@$(PIP) --python $(VENV)/docs/bin/python install --root-user-action ignore \
		--require-hashes --requirement $<
	@touch $@

# The test lock holds every pin of the other one (a test compares them), so it stamps both.
$(VENV)/.test: requirements-test.lock $(VENV)/.made
	@echo "installing $<"
	@$(INSTALL) --require-hashes --requirement $<
	@touch $(VENV)/.run $@

# Bundlers and a WebSocket for the tests of the JavaScript client, which are skipped without npm.
$(NPM)/node_modules: $(NPM)/package-lock.json
	@echo "installing $<"
	@npm ci --prefix $(NPM) --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# The checkers of the files in deploy/ and .github/.
$(TOOLS)/bin: $(addprefix $(TOOLS)/,go.mod go.sum compose.go actionlint.mod actionlint.sum)
	@echo "building $@"
	@cd $(TOOLS) && $(GO) build -buildvcs=false -o bin/ . sigs.k8s.io/kustomize/kustomize/v5
	@cd $(TOOLS) && $(GO) build -buildvcs=false -modfile=actionlint.mod -o bin/ \
		github.com/rhysd/actionlint/cmd/actionlint
	@touch $@
