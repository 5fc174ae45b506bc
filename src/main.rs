//! The `roadstead` program.

use std::process::ExitCode;

/// A download allocates and frees all its bytes once: the C library gives them back to the system each time, and the pages
/// that come anew cost a tenth of the processor time (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    roadstead::cli::main()
}
