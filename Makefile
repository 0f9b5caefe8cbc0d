# Two commands: `make demo` (from private images to a distilled student) and `make test`. `make help` lists the rest.

CARGO ?= cargo
BIN := target/release
# Overrides for the demo, say `make demo ARGS="seed=7 student.seed=8"`.
ARGS ?=

.PHONY: named help setup python build demo test lint bench bench-rust experiment experiments experiments-smoke
.DEFAULT_GOAL := help

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## Fetch libtorch into the user's cache, once, and link it here
	@python3 scripts/setup_libtorch.py

python: ## Put a Python with safetensors, numpy and TensorBoard, which tests need, into the user's cache, once, and link it here
	@python3 scripts/setup_python.py

build: setup ## Build all stage binaries in release
	$(CARGO) build --release

demo: build ## Split digits over three nodes, train teachers, invert them, distil a student (under 3 minutes on two cores)
	$(BIN)/split_data +experiment=demo overwrite=true $(ARGS)
	$(BIN)/train_teachers +experiment=demo overwrite=true $(ARGS)
	$(BIN)/generate_initial +experiment=demo overwrite=true $(ARGS)
	$(BIN)/train_student +experiment=demo overwrite=true $(ARGS)

# One teacher on everything needs no split.
STAGES = $(if $(filter 1_%,$(NAME)),,split_data) train_teachers generate_initial train_student
named:
	@test -n "$(NAME)" || { echo 'say which: make experiment NAME=iid_10_sampling_n3; `make experiments` lists them' >&2; exit 2; }
experiment: named build ## Run the stages of NAME=… that are not finished (ARGS="dataset=cifar10_jpeg" for overrides)
	@set -e; for stage in $(STAGES); do echo "$$stage" >&2; $(BIN)/$$stage +experiment=$(NAME) resume=true $(ARGS); done

experiments: ## List the experiments
	@for file in config/experiment/*.yaml; do printf '%-38s %s\n' "$$(basename $$file .yaml)" "$$(sed -n '2s/^# //p' $$file)"; done

experiments-smoke: setup ## Run every experiment at tiny scale
	$(CARGO) test --release --test experiments

test: setup python ## Run all tests
	$(CARGO) test --release

bench: setup ## Compare with PyTorch on this machine, in alternation (ARGS="small-di --rounds 3"; ARGS=--help lists the cases)
	$(CARGO) build --release --bins --example bench_worker
	@python3 benches/compare.py $(ARGS)

bench-rust: setup ## Time the same steps with criterion, ours alone (ARGS=small for some)
	$(CARGO) bench --bench steps -- $(ARGS)

lint: setup ## Formatting and clippy, no warnings allowed
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
