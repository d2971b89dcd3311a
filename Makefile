# Everything that is done with this project, by name. `make help` lists it.

PYTHON := .venv/bin/python
FLOWS := tests/flows/test_create_rpm.py tests/flows/test_customize.py tests/flows/test_customize_scripted.py
POD_TESTS := $(addprefix tests/flows/test_,create_*.py customize*.py pod_*.py plan.py)
# tests/scheduling.py says what each worker runs.
WORKERS := --dist loadscope --no-loadscope-reorder
# Without compiled bytecode every start of Airflow costs seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo up down install uninstall env check test fuzz test-ceph test-kubernetes node test-node containers bench docs

help: ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

setup: ## install what is missing: Debian packages and .venv
	@scripts/setup

setup-test:
	@scripts/setup --test

demo: setup ## start everything and build an image from the shipped Debian recipe
	@$(PYTHON) -m ims.demo

up: setup ## start S3 and Airflow; returns when a job can run
	@$(PYTHON) -m ims.stack up

down: setup ## stop everything; data stay
	@$(PYTHON) -m ims.stack down

install: setup ## let systemd run the service, now and after each boot
	@$(PYTHON) -m ims.stack install

uninstall: ## stop the service and remove its systemd units; data stay
	@$(PYTHON) -m ims.stack uninstall

env: setup ## print shell exports for the running stack: eval "$$(make -s env)"
	@$(PYTHON) -m ims.stack env

check: ## check style and types and run the unit tests: needs no root, no services, nothing but Python 3.11
	@scripts/setup --python
	@$(PYTHON) -m pytest $(WORKERS) -n 2 -m "not stack and not system"

test: setup-test ## run all tests
	@$(PYTHON) -m pytest $(WORKERS) -n 3

fuzz: SEED := $(or $(SEED),$(shell shuf -i 1-999999999 -n 1))
fuzz: setup-test ## run the tests with random input for hours; SEED=N repeats a search
	@echo "SEED=$(SEED)"
	@$(PYTHON) -m pytest $(WORKERS) -n 2 --timeout 0 -p tests.fuzzing --hypothesis-profile=fuzz --hypothesis-seed=$(SEED) -m hypothesis

test-ceph: ## run the tests of S3 and the flows against a real Ceph RADOS Gateway over TLS
	@scripts/setup --test --ceph
	@IMS_TEST_S3=ceph $(PYTHON) -m pytest tests/storage tests/api/test_sts.py $(FLOWS) tests/flows/test_s3_outage.py

test-kubernetes: setup-test ## run the flows on the cluster of KUBECONFIG; see docs/deploy.md
	@IMS_RUNTIME=kubernetes $(PYTHON) -m pytest $(WORKERS) -n 2 -m kubernetes $(POD_TESTS)

node: ## build what a Kubernetes of one node needs; nothing if that was done before
	@scripts/setup --test --ceph --kubernetes
	@$(PYTHON) -m tests.node build

test-node: ## run the flows on such a node, with Ceph for S3
	@scripts/setup --test --ceph --kubernetes
	@IMS_TEST_S3=ceph $(PYTHON) -m tests.node run $(MAKE) test-kubernetes

containers: ## build the container images: Airflow's and that of the steps
	@scripts/containers

bench: setup-test ## measure against bare kiwi-ng, mksquashfs and upload; the API under load
	@$(PYTHON) -m tests.perf

docs: ## write the pages that are made from the code
	@scripts/setup --python
	@$(PYTHON) -m ims.settings > docs/settings.md
	@$(PYTHON) -m ims.cli.reference > docs/cli.md
	@$(PYTHON) -m ims.api.reference > docs/api.md
