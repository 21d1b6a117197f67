//! The binary: everything is in the library.

/// Gives memory back that an answer of many records took. Measured at 200,000 records, first poll and a change of all, peak and
/// RSS after it in MiB: glibc 357 and 331, with one arena and a low threshold 236 and 153 (and twice the longest delay), mimalloc
/// 330 and 271, this one 280 and 209, with the settings of `.cargo/config.toml` 241 and 177.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    bellpull::cli::main()
}
