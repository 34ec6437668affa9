# make run     a throw-away PostgreSQL cluster with a pooler in front of it; Ctrl-C removes it
# make test    everything that is checked before a change is accepted
# make bench   the hot paths by themselves, then the pooler against PgBouncer (takes long; wants an idle machine)
# make fmt     formats the source

.PHONY: run test bench fmt

run:
	scripts/setup run
	cargo run --release --locked -- demo

# The corpora of the fuzz targets are replayed by ordinary tests.
test:
	scripts/setup test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked

bench:
	scripts/setup bench
	cargo bench --locked

fmt:
	scripts/setup build
	cargo fmt
