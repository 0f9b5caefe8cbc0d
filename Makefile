# Two commands: `make demo` (from private images to a distilled student) and `make test`. `make help` lists the rest.

CARGO ?= cargo
BIN := target/release
# Overrides for the demo, say `make demo ARGS="seed=7 student.seed=8"`.
ARGS ?=

.PHONY: named compared help setup python mpi build build-mpi demo test test-mpi lint bench bench-rust gpu-pack gpu-check experiment experiments experiments-smoke compare report FORCE
.DEFAULT_GOAL := help

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## Fetch libtorch into the user's cache, once, and link it here
	@python3 scripts/setup_libtorch.py

python: ## Put a Python with safetensors, numpy and TensorBoard, which tests need, into the user's cache, once, and link it here
	@python3 scripts/setup_python.py

mpi:
	@scripts/setup_mpi.sh

build: setup ## Build all stage binaries in release
	$(CARGO) build --release

build-mpi: setup mpi ## The same with MPI, so that `mpirun` can share a stage's work out (docs/cluster.md); installs Open MPI where it is missing
	$(CARGO) build --release --features mpi

demo: build ## Split digits over three nodes, train teachers, invert them, distil a student (under 3 minutes on two cores)
	$(BIN)/split_data +experiment=demo overwrite=true $(ARGS)
	$(BIN)/train_teachers +experiment=demo overwrite=true $(ARGS)
	$(BIN)/generate_initial +experiment=demo overwrite=true $(ARGS)
	$(BIN)/train_student +experiment=demo overwrite=true $(ARGS)

# A stage of the experiment; what is finished is not run again.
run = $(BIN)/$(1) +experiment=$(NAME) resume=true
# `make -j4 experiment` trains four nodes' teachers side by side, each with its part of the cores.
JOBS = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),1)
THREADS = $(shell cores=$$(nproc); echo $$(( cores > $(JOBS) ? cores / $(JOBS) : 1 )))
nodes = $$($(BIN)/train_teachers +experiment=$(NAME) $(ARGS) --cfg job | awk '/^[a-z]/ { group = $$1 } \
	group == "split:" && $$1 == "num_nodes:" { nodes = $$2 } group == "split:" && $$1 == "save_path:" && $$2 == "null" { nodes = 1 } \
	group == "teacher:" && $$1 == "num_teachers:" && $$2 != "null" { nodes = $$2 } END { print nodes }')

named:
	@test -n "$(NAME)" || { echo 'say which: make $(firstword $(MAKECMDGOALS)) NAME=mnist_5_dirichlet; `make experiments` lists them' >&2; exit 2; }
experiment: named build ## Run the stages of NAME=… that are not finished, with -jN N teachers at a time (ARGS="…" for overrides)
ifeq ($(filter 1_%,$(NAME)),) # One teacher on everything needs no split.
	@echo split_data >&2; $(call run,split_data) $(ARGS)
endif
	@echo train_teachers >&2; [ $(JOBS) -gt 1 ] || $(call run,train_teachers) $(ARGS)
	+@[ $(JOBS) -eq 1 ] || $(MAKE) --no-print-directory $$(seq -f teacher-%.0f 0 $$(( $(nodes) - 1 ))) THREADS=$(THREADS)
	@echo generate_initial >&2; $(call run,generate_initial) $(ARGS)
	@echo train_student >&2; $(call run,train_student) $(ARGS)

compared: named
	@file=config/experiment/$(NAME).yaml; [ ! -f $$file ] || grep -q '^fed_avg:' $$file || \
		{ echo '$(NAME) has no baselines (no `fed_avg:` in its file); one that has: make compare NAME=mnist_5_dirichlet' >&2; exit 2; }
compare: compared experiment ## The baselines too, then accuracy against bytes of all of them, with a plot (NAME=mnist_5_dirichlet)
	@echo fed_avg >&2; $(call run,fed_avg) $(ARGS)
	@echo fed_md >&2; $(call run,fed_md) $(ARGS)
	@$(BIN)/inspect compare outputs/$(NAME)

# One node's teacher of experiment NAME.
teacher-%: FORCE
	@$(call run,train_teachers) teacher.only=[$*] threads=$(THREADS) $(ARGS)
FORCE:

report: build ## One HTML file of the runs in DIR=… (outputs if not given)
	@$(BIN)/inspect report $(or $(DIR),outputs)

# What an experiment is: the comment at the head of its file.
experiments: ## List the experiments
	@for file in config/experiment/*.yaml; do printf '%-38s %s\n' "$$(basename $$file .yaml)" \
		"$$(awk 'NR == 1 { next } !/^#/ { exit } { sub(/^# /, ""); printf "%s ", $$0 }' $$file)"; done

experiments-smoke: setup ## Run every experiment at tiny scale
	$(CARGO) test --release --test experiments

test: setup python ## Run all tests
	$(CARGO) test --release

# The rank is a program of the tests' own.
test-mpi: setup mpi ## Run the tests of MPI; installs Open MPI where it is missing
	$(CARGO) clippy --release --features mpi --lib --bins --test mpi --example mpi_rank -- -D warnings
	$(CARGO) build --release --features mpi --example mpi_rank
	$(CARGO) test --release --features mpi --test mpi

bench: setup ## Compare with PyTorch on this machine, in alternation (ARGS="small-di --rounds 3"; ARGS=--help lists the cases)
	$(CARGO) build --release --bins --example bench_worker
	@python3 benches/compare.py $(ARGS)

bench-rust: setup ## Time the same steps with criterion, ours alone (ARGS=small for some)
	$(CARGO) bench --bench steps -- $(ARGS)

gpu-pack: setup ## Build and pack into gpu/ what gpu-check needs on another machine (docs/gpu.md)
	@CARGO="$(CARGO)" python3 benches/gpu/pack.py

# On a CPU at tiny size (DEVICE=cpu SIZE=tiny) it runs the same code in a minute or two.
DEVICE ?= cuda
SIZE ?= full
gpu-check: setup ## Run and time everything on a GPU, against PyTorch (DEVICE=cpu SIZE=tiny to try it; docs/gpu.md)
	$(CARGO) build --release --bins --example bench_worker
	@CARGO="$(CARGO)" python3 benches/gpu/check.py --device $(DEVICE) --size $(SIZE) --out outputs/gpu-check $(ARGS)

lint: setup ## Formatting and clippy, no warnings allowed
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
