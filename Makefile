# Thin on purpose: the work is cargo's and that of scripts/.
.PHONY: help run test fuzz crash

help: ## show these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1 \t\2/p' Makefile

run: ## install what the build lacks, build in release mode, start on 127.0.0.1:5000
	@scripts/install-packages build
	cargo run --release --locked -- serve $(ARGS)

test: ## install what the tests lack, then run everything
	@scripts/install-packages test
	@scripts/test

fuzz: ## a minute of random input for each parser; needs cargo-fuzz
	@scripts/fuzz

crash: export ROADSTEAD_CRASH_ROUNDS ?= 100
crash: export ROADSTEAD_CRASH_SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
crash: ## kill -9 a hundred times while clients pull; ROADSTEAD_CRASH_ROUNDS and ROADSTEAD_CRASH_SEED set how often and what
	cargo test --locked --test it crash:: -- --nocapture
