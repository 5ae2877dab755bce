//! `pactum bench`: measures Pactum on this machine, beside what it could at best be.

mod bank;
mod blip;
mod chart;
pub(crate) mod child;
mod commit;
mod flood;
mod floors;
mod hand_written;
mod keeper;
mod load;
mod metrics;
mod one_branch;
mod open;
mod opener;
pub(crate) mod options;
mod overload;
mod phased;
mod pipeline;
mod place;
mod process;
mod recover;
mod relay;
mod report;
mod rows;
mod run;
mod sample;
mod submit;
mod transfer;
mod usage;
mod wire;

use crate::bench::options::Bench;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Measures what was asked for.
pub(crate) async fn run(bench: Bench, output: &Output) -> Result<Exit, Failure> {
    match bench {
        Bench::Commit(options) => commit::run(&options, output).await,
        Bench::Transfer(options) => transfer::run(&options, output).await,
        Bench::Open(options) => open::run(&options, output).await,
        Bench::Overload(options) => overload::run(&options, output).await,
        Bench::Blip(options) => blip::run(&options, output).await,
        Bench::Recover(options) => recover::run(&options, output).await,
        Bench::Floors(options) => floors::run(&options, output).await,
    }
}
