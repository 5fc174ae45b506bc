# Thin on purpose: the work is cargo's and that of scripts/.
.PHONY: help run test simulate crash fuzz bench

help: ## show these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1 \t\2/p' Makefile

run: ## install what the build lacks, build in release mode, start on 127.0.0.1:5000
	@scripts/install-packages build
	cargo run --release --locked -- serve $(ARGS)

test: ## install what the tests lack, then run everything
	@scripts/install-packages test
	@scripts/test

simulate: ## ten thousand seeds of the mirror's simulation; SEED=n SEEDS=1 for one of them, with its trace
	ROADSTEAD_SEED=$(or $(SEED),0) ROADSTEAD_SEEDS=$(or $(SEEDS),10000) cargo test --locked --lib simulation::seeds -- --nocapture

crash: ## kill -9 a hundred times while clients pull; ROUNDS=n for another number, SEED=n for one that was printed
	ROADSTEAD_CRASH_SEED=$(or $(SEED),$(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')) ROADSTEAD_CRASH_ROUNDS=$(or $(ROUNDS),100) cargo test --locked --test it crash:: -- --nocapture

fuzz: ## a minute of random input for each parser; needs cargo-fuzz
	@scripts/fuzz

bench: ## measure beside nginx, varnish and docker-registry, an hour on a quiet machine; ARGS="--only manifests --quick"
	@scripts/install-packages bench
	@benches/run $(ARGS)
