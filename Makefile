# Thin on purpose: the work is cargo's and that of scripts/.
.PHONY: help run test fuzz

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
