# Everything a developer or a first user types. Each target may be run again at any time.
VENV := .venv
PYTHON ?= python3
# sudo drops the environment; of what pilvi itself reads nothing may get lost on the way.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=KUBECONFIG,PILVI_HOME,PILVI_CACHE)
PYTEST := $(SUDO) $(VENV)/bin/pytest

.PHONY: help up down test soak check bench environment packages kit lock clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: packages environment kit ## system packages, environment, kit, cloud, first cluster
	$(SUDO) $(VENV)/bin/pilvi up -f examples/first-cluster.yaml

down: environment ## stop the cloud; data stays
	$(SUDO) $(VENV)/bin/pilvi down

# Other file systems to try disks on, and a second reader of what is written.
TEST_PACKAGES := btrfs-progs e2fsprogs libarchive-tools xfsprogs

test: packages environment kit ## the whole test suite, linters included
	@scripts/install-packages $(TEST_PACKAGES)
	$(PYTEST)

soak: packages environment kit ## the long tests: every kill point, many rounds
	$(PYTEST) -m soak tests/e2e tests/host

check: environment ## linters and unit tests only; needs neither root nor kit
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pytest tests/unit

bench: packages environment kit ## the table of docs/explanation/performance.md
	@scripts/install-packages $(TEST_PACKAGES) fio
	$(SUDO) $(VENV)/bin/python -m bench $(if $(MACHINES),--machines $(MACHINES)) $(if $(VIRTUAL_MACHINES),--virtual-machines)

packages: ## Debian packages that pilvi runs
	@scripts/install-packages

environment: $(VENV)/.installed ## Python environment in .venv

$(VENV)/.installed: requirements.lock pyproject.toml
	@scripts/make-environment $(PYTHON) $(VENV)

kit: environment ## toolchain and images, about ten minutes the first time
	$(SUDO) $(VENV)/bin/pilvi kit build

lock: ## choose newest versions of all Python packages again
	uv export --quiet --upgrade --all-groups --no-emit-project --no-header --no-annotate --output-file requirements.lock

clean: ## remove the environment; the cloud and the kit stay
	rm -rf $(VENV)
