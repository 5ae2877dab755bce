//! `pactum token`: the file of operators' tokens that a coordinator reads. Works on the file alone, and
//! needs no coordinator.

mod file;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::args::Format;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::output::table::{render, table};
use file::{Tokens, Written};

/// What can be typed after `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token; it is printed once and cannot be shown again
    ///
    /// The file keeps its hash alone. Coordinators are given the file by the setting `admin_tokens`.
    Create(Create),
    /// List the tokens of a file
    #[command(visible_alias = "ls")]
    List(InFile),
    /// Take tokens out of a file
    Revoke(Revoke),
}

/// Whose, and what he may do.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Whose: it stands in the audit
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    /// What he may do
    #[arg(long, value_name = "ROLE")]
    role: Role,
    #[command(flatten)]
    place: InFile,
}

/// Which to take out.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Whose
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    place: InFile,
}

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct InFile {
    /// The file of tokens (TOML, readable by its owner alone)
    #[arg(long, value_name = "FILE", env = "PACTUM_TOKENS_FILE")]
    file: PathBuf,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Look and act.
    Operator,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// Bytes of a token that are drawn.
const SECRET_BYTES: usize = 32;

/// By which a token is recognised, by people and by scanners for leaked secrets.
const PREFIX: &str = "pactum_";

impl Token {
    /// Does it.
    pub(crate) fn run(self, output: &Output) -> Result<Exit, Failure> {
        match self {
            Self::Create(create) => create.run(output),
            Self::List(place) => place.list(output),
            Self::Revoke(revoke) => revoke.run(output),
        }
    }
}

impl Create {
    fn run(self, output: &Output) -> Result<Exit, Failure> {
        let path = &self.place.file;
        let token = draw()?;
        let mut tokens = Tokens::read_or_empty(path)?;
        if tokens.token.iter().any(|known| known.name == self.name) {
            return Err(Failure::new(Exit::Refused, format!("{} has a token already", self.name)).next(
                format!("pactum token revoke {} --file {}, or take another name", self.name, path.display()),
            ));
        }
        let created = Timestamp::now();
        tokens.token.push(Written::new(&self.name, self.role.word(), &token, created));
        tokens.write(path)?;
        if output.for_people() {
            output.text(&token)?;
            output.hint(format_args!(
                "shown once. Put it alone into a file of mode 0600, and give that as --token-file or \
                 PACTUM_TOKEN_FILE"
            ));
        } else {
            let (name, role) = (&self.name, self.role.word());
            let created = format!("{created:.0}");
            output.document(
                &serde_json::json!({ "name": name, "role": role, "token": token, "created": created }),
            )?;
        }
        Ok(Exit::Ok)
    }
}

impl InFile {
    fn list(&self, output: &Output) -> Result<Exit, Failure> {
        let tokens = Tokens::read(&self.file)?.token;
        // Hashes are nobody's business who only wants to know the names.
        let shown = tokens.iter().map(
            |token| serde_json::json!({ "name": token.name, "role": token.role, "created": token.created() }),
        );
        match output.format {
            Format::Table if tokens.is_empty() => {}
            Format::Table => {
                let mut table = table(["NAME", "ROLE", "CREATED"]);
                for token in &tokens {
                    let created = token.created().parse::<Timestamp>();
                    let created = created.map_or_else(|_| token.created(), |at| output.times().moment(at));
                    table.add_row([token.name.clone(), token.role.clone(), created]);
                }
                output.text(render(&table))?;
            }
            Format::Json => {
                output.document(&serde_json::json!({ "tokens": shown.collect::<Vec<_>>() }))?;
            }
            Format::Jsonl => shown.into_iter().try_for_each(|token| output.line(&token))?,
        }
        output.hint(format_args!(
            "{} tokens. Next: pactum token create --name NAME --role viewer|operator --file {}",
            tokens.len(),
            self.file.display()
        ));
        Ok(Exit::Ok)
    }
}

impl Revoke {
    fn run(self, output: &Output) -> Result<Exit, Failure> {
        let path = &self.place.file;
        let mut tokens = Tokens::read(path)?;
        let missing: Vec<_> =
            self.names.iter().filter(|name| !tokens.token.iter().any(|known| known.name == **name)).collect();
        if let Some(missing) = missing.first() {
            return Err(Failure::new(
                Exit::NotFound,
                format!("no token is {missing}'s; nothing was revoked"),
            )
            .next(format!("pactum token list --file {}", path.display())));
        }
        tokens.token.retain(|known| !self.names.contains(&known.name));
        tokens.write(path)?;
        if output.for_people() {
            output.text(format_args!("{} revoked", self.names.join(", ")))?;
            output.hint("coordinators notice within a second, and refuse it from then on");
        } else {
            output.document(&serde_json::json!({ "revoked": self.names }))?;
        }
        Ok(Exit::Ok)
    }
}

/// A new token.
fn draw() -> Result<String, Failure> {
    let mut secret = [0; SECRET_BYTES];
    SysRng
        .try_fill_bytes(&mut secret)
        .map_err(|error| Failure::new(Exit::Failed, "the system gives no random numbers").because(&error))?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// A name that stands in the audit and in the file without quoting.
fn name(text: &str) -> Result<String, String> {
    const BYTES_MAX: usize = 64;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if text.is_empty() || text.len() > BYTES_MAX || !text.chars().all(fits) {
        return Err(format!("1 to {BYTES_MAX} of a-z, A-Z, 0-9, '-', '_', '.', '@' are taken"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_prefix_and_256_bits_and_no_two_are_alike() {
        let (one, other) = (draw().unwrap(), draw().unwrap());
        assert_ne!(one, other);
        let secret = URL_SAFE_NO_PAD.decode(one.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!(secret.len(), SECRET_BYTES);
    }

    #[test]
    fn a_name_needs_no_quoting() {
        for good in ["ops", "Ann.B@example", "ci_1-2"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"", "\u{e9}", &"a".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
