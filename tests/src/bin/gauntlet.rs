//! The program `gauntlet`: see `pactum_tests::gauntlet`.

fn main() -> std::process::ExitCode {
    pactum_tests::gauntlet::main()
}
