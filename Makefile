# Two commands: `make demo` (from private images to a distilled student) and `make test`.
# `make help` lists the rest.

CARGO ?= cargo
# Overrides for the stages, for example `make demo ARGS="seed=7 student.seed=8"`.
ARGS ?=

# jemalloc's own build fails where a path has blanks: such a checkout is built in the user's cache.
ifneq ($(words $(CURDIR)),1)
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fed-distill
export CARGO_TARGET_DIR ?= $(CACHE)/target-$(shell printf %s "$(CURDIR)" | cksum | cut -d' ' -f1)
endif

# The folder of the binaries. CARGO_TARGET_DIR, CARGO_BUILD_TARGET and cargo's config files move it,
# so cargo is asked, once, after the build. Before make 4.4 `$(shell …)` sees no exported variables;
# `make -n` must not build.
BUILD = $(CARGO) build --release --bins $(MORE)
ask = $(and $(CARGO_TARGET_DIR),CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)") \
	$(BUILD) --message-format=json 2>/dev/null | sed -n 's|.*"executable":"$(1)",.*|\1|p'
ANSWER = $(or $(shell $(call ask,\(.*\)/inspect)),$(error cargo does not report where the binaries \
	are))
# Features of the binaries. Some targets need those of `serve` and `join`; `export FEATURES=net,mpi`
# gives all targets those of MPI too, so that none builds the binaries without them again.
WITH := $(if $(FEATURES),--features $(FEATURES))
MORE = $(WITH)
build where federation bench-federation: MORE = $(or $(WITH),--features net)
bench: MORE = $(WITH) --bench worker
# The features that everything is tested with. FEATURES=net,mpi compiles the tests of MPI with the
# others; these targets share what they build.
export FEATURES ?= net
gpu-check: MORE = --features $(FEATURES) --bench worker
BIN = $(if $(DRY),target/release,$(eval BIN := $$(subst $$(CURDIR)/,,$$(ANSWER)))$(BIN))
DRY = $(findstring n,$(firstword -$(MAKEFLAGS)))

.PHONY: help setup python mpi build stages build-mpi where binaries demo demo-parties named \
	experiment compared compare federation setting protocol findings report experiments \
	experiments-smoke test test-mpi test-browser soak bench bench-rust bench-federation \
	gpu-pack gpu-check lint deny FORCE
.DEFAULT_GOAL := help

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## Fetch libtorch into the user's cache, once, and link it here
	@python3 scripts/setup_libtorch.py

# With safetensors, numpy and TensorBoard.
python: ## Put the Python that tests need into the user's cache, once, and link it here
	@python3 scripts/setup_python.py

mpi:
	@scripts/setup_mpi.sh

# `serve` and `join` need more crates than the stages, which nobody waits for who does not use them.
build: setup ## Build all binaries in release
	$(BUILD)

stages: setup
	$(BUILD)

# docs/cluster.md shows its use; installs Open MPI where it is missing.
build-mpi: setup mpi ## The same with MPI, so that the processes of an `mpirun` share a stage's work
	$(CARGO) build --release --bins --features net,mpi

# For `export PATH="$(make -s where):$PATH"`.
where: binaries ## Print the folder of the binaries, which are built if need be
	@cd "$(BIN)" && pwd

# Apart from `where`: make asks cargo for the folder before it begins with a recipe, and hides what
# cargo says then.
binaries: setup
	@$(BUILD)

demonstrate = "$(BIN)/$(1)" +experiment=demo outputs="$(OUTPUTS)" \
	$(if $(findstring resume=true,$(ARGS)),,overwrite=true) $(ARGS)
demo: stages ## Split digits over three nodes, train, invert, distil (a minute on two free cores)
	$(call demonstrate,split_data)
	$(call demonstrate,train_teachers)
	$(call demonstrate,generate_initial)
	$(call demonstrate,train_student)

# What the parties and their server agree on; the constants are near those of all digits.
PARTIES = outputs/parties
TASK = +experiment=demo split.save_path=null dataset.size=16 dataset.channels=1 \
	"dataset.classes=[0,1,2,3,4,5,6,7,8,9]" "dataset.mean=[0.3]" "dataset.std=[0.35]" \
	overwrite=true
# What a stage of the server adds: the uploads, and where its results go.
SERVER = teacher.save_folder=$(PARTIES)/server deep_inv.labels=balanced initial.num_batches=6 \
	initial.save_path=$(PARTIES)/initial.safetensors student.save_folder=$(PARTIES)/student \
	student.epochs=30
# The parties see their own folders only, and the server what they upload; docs/parties.md. The
# images come from an example, for which cargo compiles what the tests depend on, once.
demo-parties: stages ## Three parties with image folders of their own, three processes, one server
	$(CARGO) run --release --example digit_folders -- $(PARTIES)/images
	+@$(MAKE) --no-print-directory -j3 --output-sync=target BIN="$(BIN)" \
		THREADS=$$(( $$(nproc) > 3 ? $$(nproc) / 3 : 1 )) party-0 party-1 party-2
	@mkdir -p $(PARTIES)/server
	cp $(PARTIES)/party*/model_teacher*.safetensors $(PARTIES)/server/
	"$(BIN)/generate_initial" $(TASK) dataset=none $(SERVER) $(ARGS)
	"$(BIN)/train_student" $(TASK) dataset=image_folder dataset.root=$(PARTIES)/images/server \
		dataset.test_share=1 $(SERVER) $(ARGS)

# The teacher of one party, out of the party's own folder.
party-%: FORCE
	"$(BIN)/train_teachers" $(TASK) dataset=image_folder \
		dataset.root=$(PARTIES)/images/party$* dataset.test_share=0.2 \
		teacher.index=$* teacher.save_folder=$(PARTIES)/party$* threads=$(THREADS) $(ARGS)

# A stage of the experiment; what is finished is not run again.
run = "$(BIN)/$(1)" +experiment=$(NAME) outputs="$(OUTPUTS)" $(RESUME)
# They exclude each other.
RESUME = $(if $(findstring overwrite=true,$(ARGS)),,resume=true)
# OUTPUTS=outputs/seed_7 keeps a repetition apart, in all targets that take NAME=….
OUTPUTS ?= outputs
# `make -j4 experiment` trains four nodes' teachers side by side, each with its part of the cores.
JOBS = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),1)
THREADS = $(shell cores=$$(nproc); echo $$(( cores > $(JOBS) ? cores / $(JOBS) : 1 )))
# How many teachers there are, by the composed config.
nodes = $$("$(BIN)/train_teachers" +experiment=$(NAME) $(ARGS) --cfg job | awk ' \
	/^[a-z]/ { group = $$1 } \
	group == "split:" && $$1 == "num_nodes:" { nodes = $$2 } \
	group == "split:" && $$1 == "save_path:" && $$2 == "null" { nodes = 1 } \
	group == "teacher:" && $$1 == "num_teachers:" && $$2 != "null" { nodes = $$2 } \
	END { print nodes }')

named:
	@test -n "$(NAME)" || { echo 'which experiment? make $(firstword $(MAKECMDGOALS))' \
		'NAME=mnist_5_dirichlet; `make experiments` lists them' >&2; exit 2; }
# With -jN, N teachers at a time; ARGS="…" has overrides.
experiment: named stages ## Run the stages of NAME=… that are not finished
ifeq ($(filter 1_%,$(NAME)),) # One teacher on everything needs no split.
	@echo split_data >&2; $(call run,split_data) $(ARGS)
endif
	@echo train_teachers >&2; [ $(JOBS) -gt 1 ] || $(call run,train_teachers) $(ARGS)
	+@[ $(JOBS) -eq 1 ] || { nodes=$(nodes); [ -n "$$nodes" ] || exit 2; cores=$$(nproc); \
		side=$$(( nodes < $(JOBS) ? nodes : $(JOBS) )); \
		$(MAKE) --no-print-directory BIN="$(BIN)" \
			THREADS=$$(( cores > side ? cores / side : 1 )) \
			$$(seq -f teacher-%.0f 0 $$(( nodes - 1 ))); }
	@echo generate_initial >&2; $(call run,generate_initial) $(ARGS)
	@echo train_student >&2; $(call run,train_student) $(ARGS)

compared: named
	@file=config/experiment/$(NAME).yaml; for group in fed_avg fed_md; do \
		[ ! -f $$file ] || grep -q "^$$group:" $$file || \
		{ echo "$(NAME) has no baselines (no \`$$group:\` in its file);" \
		'one that has: make compare NAME=mnist_5_dirichlet' >&2; exit 2; }; done
compare: compared experiment ## The same and the baselines, then accuracy against bytes, with a plot
	@echo fed_avg >&2; $(call run,fed_avg) $(ARGS)
	@echo fed_md >&2; $(call run,fed_md) $(ARGS)
	@"$(BIN)/inspect" compare "$(OUTPUTS)/$(NAME)"

# A published setting; docs/protocols.md says what the names stand for. All methods of a setting
# share its split and its teachers.
SEED ?= 1
# The config names their folders, so that ALPHA=.05 is ALPHA=0.05.
SETTING = $${outputs}/protocols/$(NAME)/alpha_$${split.alpha}/seed_$${seed}
of_protocol = "$(BIN)/$(1)" +protocol=$(NAME) +method=$(METHOD) outputs="$(OUTPUTS)" \
	split.alpha=$(ALPHA) seed=$(SEED) $(own_$(1)) $(RESUME) $(ARGS)
# What is the method's own.
own_generate_initial = 'initial.save_path=$(SETTING)/$(METHOD)/initial.safetensors'
own_train_student = $(own_generate_initial) student.seed=$$(( $(SEED) + 1 )) \
	'student.save_folder=$(SETTING)/$(METHOD)/student'
setting:
	@test -n "$(NAME)" && test -n "$(ALPHA)" && test -n "$(METHOD)" || { \
		echo 'which setting? make protocol NAME=b_mnist ALPHA=0.05 METHOD=dense SEED=1;' \
		"names: $$(cd config/protocol && ls | sed 's/.yaml//' | tr '\n' ' ');" \
		"methods: $$(cd config/method && ls | sed 's/.yaml//' | tr '\n' ' ')" >&2; exit 2; }
protocol: setting stages ## Run METHOD=… in the published setting NAME=… ALPHA=… SEED=1
	@echo split_data >&2; $(call of_protocol,split_data)
	@echo train_teachers >&2; $(call of_protocol,train_teachers)
	@echo generate_initial >&2; $(call of_protocol,generate_initial)
	@echo train_student >&2; $(call of_protocol,train_student)

# What the report found, at a scale for two cores: one seed, each experiment with
# students of both objectives, which start from the same initial batches.
FINDINGS = 1_teacher_custom 1_teacher_custom_adap iid_10_teacher_custom \
	iid_10_teacher_custom_3000 iid_10_sampling_n3 iid_10_sampling_n5 iid_10_sampling_per_batch \
	heter_10_cycle heter_10_sampling_no_masks heter_10_teacher_custom 2_teachers_custom_adap \
	2_teachers_custom_adap_no_masks 5_teachers_custom_adap 5_teachers_custom_adap_no_masks
findings: NAME = $$name
findings: OUTPUTS = outputs/findings/seed_$(SEED)
# The scale has one number of updates for all; here too it is three times as many.
small = $(call run,$(1)) +scale=small seed=$(SEED) \
	$(if $(filter train_student,$(1)),student.seed=$$(( $(SEED) + 1 ))) \
	$$(case $$name in *_3000) echo deep_inv.di.grad_updates_batch=300;; esac)
findings: stages ## Run the report's experiments at small scale, SEED=1 (ARGS="dataset.root=…")
	@set -e; for name in $(FINDINGS); do echo "$$name" >&2; \
		case $$name in 1_*) ;; *) $(call small,split_data) $(ARGS);; esac; \
		$(call small,train_teachers) $(ARGS); \
		$(call small,generate_initial) $(ARGS); \
		$(call small,train_student) "student.save_folder=$(OUTPUTS)/$$name/cross_entropy" \
			$(ARGS); \
		$(call small,train_student) "student.save_folder=$(OUTPUTS)/$$name/distill" \
			student.objective=distill student.distill.temperature=3 $(ARGS); \
	done

# One node's teacher of experiment NAME.
teacher-%: FORCE
	@$(call run,train_teachers) teacher.only=[$*] threads=$(THREADS) $(ARGS)
FORCE:

# docs/federation.md; MODE=uniform, random_equal, random_unequal or skewed. Ctrl-C ends all, and the
# same command resumes.
MODE ?= uniform
federation: build ## Rounds over HTTP with a server and five clients
	@python3 scripts/federation.py --bin "$(BIN)" --name "$(or $(NAME),mnist_5_http)" \
		--mode "$(MODE)" --outputs "$(OUTPUTS)" -- $(ARGS)

report: stages ## One HTML file of the runs in DIR=… (outputs if not given)
	@"$(BIN)/inspect" report "$(or $(DIR),outputs)"

# What an experiment is: the comment at the head of its file.
about = NR == 1 { next } !/^\#/ { exit } { sub(/^\# /, ""); printf "%s ", $$0 }
experiments: ## List the experiments
	@for file in config/experiment/*.yaml; do \
		printf '%-38s %s\n' "$$(basename $$file .yaml)" "$$(awk '$(about)' $$file)"; done

experiments-smoke: setup ## Run every experiment at tiny scale
	$(CARGO) test --release --features $(FEATURES) --test pipeline experiments::

test: setup python ## Run all tests
	$(CARGO) test --release --features $(FEATURES)
	@python3 tests/make/makefile.py
	@python3 tests/make/benches.py

test-mpi: setup mpi ## Run the tests of MPI; installs Open MPI where it is missing
	$(CARGO) test --release --features $(FEATURES),mpi --test mpi

test-browser: setup ## Look at the server's page in Chromium; installs it where it is missing
	@browser="$$(scripts/setup_chromium.sh)" && \
		CHROMIUM="$$browser" $(CARGO) test --release --features $(FEATURES) --test browser

ROUNDS ?= 1000
soak: setup ## Watch the memory of a server and its clients over ROUNDS=1000 rounds
	FED_DISTILL_SOAK_ROUNDS=$(ROUNDS) $(CARGO) test --release --features $(FEATURES) \
		--test network soak -- --nocapture

# ARGS="small-di --rounds 3"; ARGS=--help lists the cases.
bench: stages ## Compare with PyTorch on this machine, in alternation (ARGS="…" for some cases)
	@BENCH_BINARIES="$(BIN)" BENCH_WORKER="$(WORKER)" python3 benches/compare.py $(ARGS)
WORKER = $(if $(DRY),worker,$(shell $(call ask,\(.*/worker-[^"/]*\))))

bench-rust: setup ## Time the same steps with criterion, ours alone (ARGS=small for some)
	$(CARGO) bench --features $(FEATURES) --bench steps -- $(ARGS)

# ARGS="--clients 2 10 50" and the like are for the comparison, which is then all that runs;
# `python3 benches/federation/uploads.py` alone has no need of Flower.
bench-federation: build ## Compare rounds over HTTP with Flower's, and measure many uploads
	@BENCH_BINARIES="$(BIN)" python3 benches/federation/compare.py $(ARGS)
	$(if $(ARGS),,@BENCH_BINARIES="$(BIN)" python3 benches/federation/uploads.py)
	$(if $(ARGS),,@BENCH_BINARIES="$(BIN)" python3 benches/federation/averaging.py)

# docs/gpu.md says what to do with the folder.
gpu-pack: setup ## Build and pack into gpu/ what gpu-check needs on another machine
	@CARGO="$(CARGO)" python3 benches/gpu/pack.py

# DEVICE=cpu SIZE=tiny runs the same code on a CPU in a minute or two.
DEVICE ?= cuda
SIZE ?= full
gpu-check: stages ## Run and time everything on a GPU, beside PyTorch (docs/gpu.md)
	$(if $(and $(findstring --parts,$(ARGS)),$(if $(filter tests,$(ARGS)),,x)),, \
		@$(CARGO) test --release --no-run \
		--features $(FEATURES) --test unit --test federated)
	@CARGO="$(CARGO)" BENCH_BINARIES="$(BIN)" BENCH_WORKER="$(WORKER)" \
		python3 benches/gpu/check.py \
		--device $(DEVICE) --size $(SIZE) --out outputs/gpu-check $(ARGS)

lint: setup ## Line lengths, layers, formatting, clippy and docs, no warnings allowed
	@python3 scripts/check_lines.py
	@python3 scripts/check_layers.py
	@git ls-files -z '*.py' | xargs -0 python3 -c 'import ast, sys; \
		[ast.parse(open(path, encoding="utf-8").read(), path) for path in sys.argv[1:]]'
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --lib --bins -- -D warnings
	$(CARGO) clippy --release --all-targets --features $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --no-deps --lib --features $(FEATURES)

deny: ## Check licences and sources of the dependencies
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo 'error: cargo-deny is missing' >&2; \
		echo 'hint: cargo install cargo-deny --locked' >&2; exit 1; }
	$(CARGO) deny check licenses bans sources
