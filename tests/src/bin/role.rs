//! The program of the child processes: see `pactum_tests::role`.

fn main() -> anyhow::Result<()> {
    pactum_tests::role::run(std::env::args().skip(1))
}
