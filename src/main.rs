//! The program: everything is in the library, so that tests and benchmarks enter by the same door.

/// Rows are made by transform workers and freed by the store's writer: the system's allocator pays for that with locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    longshore::cli::main()
}
