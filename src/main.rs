//! The binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Several libraries would choose a provider each; the first one installed is the one for all. It can only be installed already, which
    // is just as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    ExitCode::from(rollbackd::cli::main(std::env::args_os()))
}
