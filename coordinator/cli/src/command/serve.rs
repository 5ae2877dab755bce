//! `pactum serve`: a coordinator on a log of one's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use pactum_coordinator::Config;

use crate::args::Global;
use crate::config::Sources;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::otlp::Otlp;
use crate::output::Output;
use crate::server::{Running, Started};

/// What can be typed after `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Settings come from defaults < --config FILE < PACTUM_* variables < flags. Every key can stand in each: \
                  retry_cap = \"3s\" in the file, PACTUM_RETRY_CAP=3s, --set retry_cap=3s; tls.key is PACTUM_TLS__KEY.\n\
                  The first interrupt drains and stops; the second one stops at once."
)]
pub(crate) struct Serve {
    /// A TOML file with settings
    #[arg(long, env = "PACTUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Write the bound addresses here, as JSON, once ready
    #[arg(long, env = "PACTUM_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    otlp: Otlp,
}

/// Settings as options.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    #[arg(
        long,
        value_name = "URL",
        help = "The decision log: postgres://user@host/database or sqlite:path/to/log.db [env: PACTUM_LOG]"
    )]
    log: Option<String>,
    /// A file that holds the log's URL, so that no password stands in a command line
    #[arg(long, env = "PACTUM_LOG_FILE", value_name = "FILE", conflicts_with = "log")]
    log_file: Option<PathBuf>,
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "Where applications and participants are served [env: PACTUM_LISTEN] [default: 127.0.0.1:7600]"
    )]
    listen: Option<SocketAddr>,
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "Where operators are served [env: PACTUM_ADMIN_LISTEN] [default: 127.0.0.1:7601]"
    )]
    admin_listen: Option<SocketAddr>,
    #[arg(
        long,
        value_name = "URL",
        help = "The address that others are told [env: PACTUM_ADVERTISE] [default: the bound one]"
    )]
    advertise: Option<String>,
    #[arg(long, help = "Serve other than loopback addresses without TLS [env: PACTUM_UNSAFE_PLAINTEXT]")]
    unsafe_plaintext: bool,
    /// Any other setting
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    others: Vec<(String, String)>,
}

impl Serve {
    /// Serves until it is told to stop.
    pub(crate) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let started = Started::now();
        let ready_file = self.ready_file.clone();
        let spans = self.otlp.start()?;
        let config = Config { tracer: spans.tracer(), ..self.settings.sources(self.config, global)?.load()? };
        let running = Running::start(config).await?;
        if output.for_people() {
            output.text(format_args!("applications and participants  {}", running.public_url()))?;
            output.text(format_args!("operators                      {}", running.admin_url()))?;
            output.text(format_args!("decision log                   {}", running.log()))?;
            output.text(format_args!("ready in {}", started.elapsed()))?;
        } else {
            output.line(&running.addresses())?;
        }
        running.write_ready_file(ready_file.as_deref()).await?;
        let stopped = running.until_stopped(output).await;
        spans.stop().await;
        stopped
    }
}

impl Settings {
    /// What is served with under these options, `--config` and the environment.
    pub(crate) fn sources(self, file: Option<PathBuf>, global: &Global) -> Result<Sources, Failure> {
        let (mut flags, mut options) = (self.others, BTreeMap::new());
        let mut flag = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                options.insert(key.to_owned(), origin_of(key, &value));
                flags.push((key.to_owned(), value));
            }
        };
        flag("log", self.log);
        flag("listen", self.listen.map(|address| address.to_string()));
        flag("admin_listen", self.admin_listen.map(|address| address.to_string()));
        flag("advertise", self.advertise);
        flag("unsafe_plaintext", self.unsafe_plaintext.then(|| "true".to_owned()));
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        if global.tls_ca.is_some() && global.tls_cert.is_none() {
            return Err(Failure::usage("--tls-ca asks clients for certificates, which needs TLS")
                .next("give --tls-cert and --tls-key too"));
        }
        flag("tls.certificate", path(&global.tls_cert));
        flag("tls.key", path(&global.tls_key));
        flag("tls.client_ca", path(&global.tls_ca));
        Ok(Sources { file, environment: Sources::environment(), log_file: self.log_file, flags, options })
    }
}

/// Where an option's value comes from. The TLS files are options of every subcommand, and these have variables
/// of their own, which the parser reads; what is typed wins, so an equal value may have come from either.
fn origin_of(key: &str, value: &str) -> String {
    let (option, variable) = match key {
        "tls.certificate" => ("tls-cert".to_owned(), Some("PACTUM_TLS_CERT")),
        "tls.key" => ("tls-key".to_owned(), Some("PACTUM_TLS_KEY")),
        "tls.client_ca" => ("tls-ca".to_owned(), Some("PACTUM_TLS_CA")),
        key => (key.replace('_', "-"), None),
    };
    match variable.filter(|name| std::env::var(name).is_ok_and(|set| set == value)) {
        Some(variable) => format!("environment {variable}"),
        None => format!("option --{option}"),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "write it like retry_cap=3s".to_owned())
}
