//! `pactum dev`: a coordinator for a developer's machine, with nothing to set up first.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use pactum_coordinator::Config;
use pactum_coordinator::config::LogUrl;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::otlp::Otlp;
use crate::output::Output;
use crate::server::{Running, Started};

/// What can be typed after `dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "For development: loopback only, no authentication, one coordinator. For more, see `pactum serve`."
)]
pub(crate) struct Dev {
    /// Where the log is kept
    #[arg(
        long,
        env = "PACTUM_DATA",
        value_name = "DIRECTORY",
        default_value = "./pactum-data",
        conflicts_with = "ephemeral"
    )]
    data: PathBuf,
    /// Keep the log in memory only, and forget everything at the end
    #[arg(long)]
    ephemeral: bool,
    /// Take free ports instead of 7600 and 7601
    #[arg(long)]
    random_ports: bool,
    /// Write the bound addresses here, as JSON, once ready
    #[arg(long, env = "PACTUM_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    otlp: Otlp,
}

impl Dev {
    /// Serves until it is told to stop.
    pub(crate) async fn run(self, _global: &Global, output: &Output) -> Result<Exit, Failure> {
        let started = Started::now();
        let log = if self.ephemeral {
            LogUrl::new("memory:")
        } else {
            tokio::fs::create_dir_all(&self.data).await.map_err(|error| {
                Failure::new(Exit::Failed, format!("the directory {} cannot be made", self.data.display()))
                    .because(&error)
                    .next("say where else with --data, or use --ephemeral")
            })?;
            LogUrl::new(format!("sqlite:{}", self.data.join("log.db").display()))
        };
        let spans = self.otlp.start()?;
        let mut config = Config { log: Some(log), tracer: spans.tracer(), ..Config::default() };
        if self.random_ports {
            let free = SocketAddr::from(([127, 0, 0, 1], 0));
            (config.listen, config.admin_listen) = (free, free);
        }
        let running = Running::start(config).await?;
        if output.for_people() {
            output.text(page(&running, self.ephemeral))?;
            output.text(format_args!("ready in {}", started.elapsed()))?;
        } else {
            output.line(&running.addresses())?;
        }
        running.write_ready_file(self.ready_file.as_deref()).await?;
        let stopped = running.until_stopped(output).await;
        spans.stop().await;
        stopped
    }
}

/// The start page.
fn page(running: &Running, ephemeral: bool) -> String {
    let admin = running.admin_url();
    // What is typed next must reach this server also if it is not where everybody looks.
    let server = if admin == DEFAULT_SERVER { String::new() } else { format!(" --server {admin}") };
    format!(
        "\
Pactum {version}, for development: no authentication, loopback only

  applications and participants  {public}
  operators                      {admin}
  decision log                   {log}

Next, in another terminal:
  pactum demo transfer              a transfer across two databases, start to end
  pactum tx list --finished{server}
  pactum participant list{server}
",
        version = env!("CARGO_PKG_VERSION"),
        public = running.public_url(),
        log = if ephemeral { "in memory, gone at the end".to_owned() } else { running.log().to_string() },
    )
}

const DEFAULT_SERVER: &str = "http://127.0.0.1:7601";
