# Each target is one command for a person. PYTHON=/path/to/python3.12 makes the environment with another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE = portway:$(VERSION)
# Another image under the same name is another pod.
IMAGE_ID = $$(docker image inspect --format '{{.Id}}' $(IMAGE))
CODE := operator proxy tests

.PHONY: demo test check bench chart fuzz image kind kind-down reference screenshots venv clean
.DEFAULT_GOAL := demo

demo: venv ## Start the demo: two apps, images, messages and a TCP echo behind Portway.
	@$(BIN)/portway demo

test: venv ## Run every test that can run here.
	$(BIN)/python -m pytest

check: venv ## Lint, format, types, import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv ## Portway beside the proxies that are installed here; ARGS="--quick" for one short round.
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

reference: venv ## Write the pages of docs that list what the code has: annotations, flags, keys, metrics, problems.
	$(BIN)/python -m portway_operator.annotations.reference > docs/annotations.md
	$(BIN)/python -m portway_operator.check.forms > docs/check.schema.json
	$(BIN)/python -m portway_operator.diff.forms > docs/diff.schema.json
	$(BIN)/python -m portway_proxy.explain.schema > docs/explain.schema.json
	PYTHONPATH=tests $(BIN)/python -m reference.pages

chart: venv ## Write the chart's values.schema.json and README.md from the comments of its values.yaml.
	PYTHONPATH=tests $(BIN)/python -m chart.documents

screenshots: venv ## Draw the pictures of docs/dashboard, with chromium and what is served for real.
	PYTHONPATH=tests $(BIN)/python -m dashboard.screenshots docs/dashboard

image: ## Build the image with docker; BASE=... has Python, IMAGE=... is its name.
	docker build $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(VERSION) -t $(IMAGE) .

kind: image ## A kind cluster with Portway and the demo, tried by HTTP, HTTPS and TCP on this machine's ports.
	kind get clusters | grep -qx portway || kind create cluster --config manifests/kind/cluster.yaml --wait 120s
	kind load docker-image $(IMAGE) --name portway
	helm upgrade --install portway charts/portway --kube-context kind-portway --namespace portway --create-namespace \
	  --values manifests/kind/values.yaml --wait --timeout 180s \
	  --set-string controller.podAnnotations.image=$(IMAGE_ID) --set-string operator.podAnnotations.image=$(IMAGE_ID)
	kubectl --context kind-portway apply -f manifests/demo/apps.yaml
	kubectl --context kind-portway apply -f manifests/demo/ingress.yaml --server-side --force-conflicts
	kubectl --context kind-portway wait --for=condition=Available deployment --all --timeout=120s
	@./manifests/kind/try.sh

kind-down: ## Remove the kind cluster.
	kind delete cluster --name portway

fuzz: venv ## Go on with fuzzing from the corpus; ARGS="exchange --seconds 600" for one target.
	$(BIN)/python -m pip install --quiet -c constraints.txt --group fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

venv: $(STAMP)

# pip comes first: --group and --build-constraint need a new one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Portway needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt --build-constraint constraints.txt -e . --group dev
	@touch $@

clean: ## Remove what the targets made.
	rm -rf $(VENV) .fuzz build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
