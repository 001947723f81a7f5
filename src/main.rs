//! The program: everything is in the library, so that tests and benchmarks enter by the same door.

fn main() -> std::process::ExitCode {
    longshore::cli::main()
}
