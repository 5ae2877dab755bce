//! `pactum config show`.

use clap::Args;
use pactum_coordinator::config::{DEFAULT_ORIGIN, Setting};
use pactum_proto::v1;
use serde::Serialize;

use super::From;
use crate::admin::{Admin, Effect};
use crate::args::{Format, Global};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{render, table};

/// Whose settings to show.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    from: From,
    /// Those that take effect, defaults included; this is what is shown unless --origin is given
    #[arg(long, conflicts_with = "origin")]
    effective: bool,
    /// Only those that somebody set
    #[arg(long)]
    origin: bool,
    /// Those of the running coordinator (--server) instead of those that `serve` would use here
    #[arg(long)]
    running: bool,
}

/// A setting as scripts read it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SettingView {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) origin: String,
}

impl std::convert::From<Setting> for SettingView {
    fn from(Setting { key, value, origin }: Setting) -> Self {
        Self { key, value, origin }
    }
}

impl std::convert::From<v1::Setting> for SettingView {
    fn from(v1::Setting { key, value, origin }: v1::Setting) -> Self {
        Self { key, value, origin }
    }
}

impl Show {
    /// Does it.
    pub(super) async fn run(self, global: &Global, output: &Output) -> Result<Exit, Failure> {
        let mut settings: Vec<SettingView> = if self.running {
            running(&Admin::connect(global).await?).await?
        } else {
            // Shown also where they could not be served with: that is what is being looked for.
            let config = self.from.sources(global)?.read()?;
            config.settings().into_iter().map(SettingView::from).collect()
        };
        if self.origin {
            settings.retain(|setting| setting.origin != DEFAULT_ORIGIN);
        }
        match output.format {
            Format::Table => {
                let mut rows = table(["SETTING", "VALUE", "ORIGIN"]);
                for SettingView { key, value, origin } in &settings {
                    rows.add_row([key, value, origin]);
                }
                output.text(render(&rows))?;
                output.hint(if self.running {
                    "settings take effect at a coordinator's start. Next: pactum config check"
                } else {
                    "Next: pactum config check; pactum config show --running shows a coordinator's"
                });
            }
            Format::Json => output.document(&serde_json::json!({ "settings": settings }))?,
            Format::Jsonl => {
                for setting in &settings {
                    output.line(setting)?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}

/// A running coordinator's settings.
pub(crate) async fn running(admin: &Admin) -> Result<Vec<SettingView>, Failure> {
    let mut client = admin.client.clone();
    let told = admin.call(Effect::None, client.get_config(v1::GetConfigRequest {})).await?;
    Ok(told.settings.into_iter().map(SettingView::from).collect())
}
