//! What happens, on stderr: quiet unless asked, because stdout and stderr belong to the person
//! who typed the command; `serve` and `dev` say more.

use tracing_subscriber::EnvFilter;

use crate::args::{Global, LogFormat};
use crate::failure::Failure;

/// What is logged by most commands if nothing else is asked for. Slow statements are no news to
/// somebody who typed none.
pub(crate) const USUAL: &str = "warn,sqlx=error";

/// The same for `serve` and `dev`: each change of state, and of the log's driver what went wrong.
pub(crate) const SERVING: &str = "info,sqlx=warn";

/// The same for the demo, where connections break because it kills processes.
pub(crate) const DEMO: &str = "error";

/// Sets the process's log up. `PACTUM_LOG_LEVEL` or else `RUST_LOG` is the filter, if set; if
/// nothing is said, `unasked` is.
pub(crate) fn start(global: &Global, unasked: &str) -> Result<(), Failure> {
    let asked = ["PACTUM_LOG_LEVEL", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| (name, text)));
    let filter = match asked {
        Some((name, text)) => EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(format!("{name} is not a log filter"))
                .because(&error)
                .next("write it like info or pactum_coordinator=debug,warn")
        })?,
        None => EnvFilter::new(match global.verbose {
            0 => unasked,
            1 => "info,sqlx=warn",
            2 => "info,sqlx=warn,pactum=debug,pactum_core=debug,pactum_coordinator=debug",
            _ => "debug",
        }),
    };
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color);
    match global.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
