//! `serve client` adds, revokes and lists clients.

use crate::error::Error;
use crate::network::rounds::plan::Algorithm;
use crate::network::shown_time;
use crate::network::task::Task;
use crate::network::tokens::{self, Role};
use crate::report::Table;
use crate::runtime::output;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub enum Request {
    /// Print a new client's token, which is not kept anywhere
    Add {
        /// The server's folder
        folder: PathBuf,
        /// The name that the status page shows
        name: String,
        /// For the host: the token opens the status page, and not the uploads
        #[arg(long)]
        admin: bool,
    },
    /// Refuse a client's token from now on, and leave its upload out
    Revoke {
        /// The server's folder
        folder: PathBuf,
        /// The client's name
        name: String,
    },
    /// List the clients
    List {
        /// The server's folder
        folder: PathBuf,
    },
}

/// Refuses a client for whom the task's `fed_md.weights` have no weight: with one, the rounds would
/// never run again.
fn refuse_beyond_weights(folder: &Path) -> Result<()> {
    tokens::refuse_other_folder(folder)?;
    let rounds = Task::read(&folder.join("task.json"))?.rounds;
    let weights = match rounds.map(|plan| plan.algorithm) {
        Some(Algorithm::FedMd { settings, .. }) => settings.weights,
        _ => None,
    };
    let clients = tokens::list(folder)?;
    let clients = clients.iter().filter(|client| client.role == Role::Client);
    match weights.map(|weights| weights.len()) {
        Some(weights) if clients.count() >= weights => bail!(
            Error::usage("the task has no weight for another client")
                .note(
                    "found",
                    format!("{weights} `fed_md.weights`, and as many clients")
                )
                .hint("a task without `fed_md.weights` takes any number of clients")
        ),
        _ => Ok(()),
    }
}

impl Request {
    /// Runs the command.
    ///
    /// # Errors
    /// Fails for a name that is taken or unknown, and a folder that cannot be used.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Add {
                folder,
                name,
                admin,
            } => {
                let role = match admin {
                    true => Role::Admin,
                    false => Role::Client,
                };
                if role == Role::Client {
                    refuse_beyond_weights(folder)?;
                }
                output::print(tokens::add(folder, name, role)?)?;
                tracing::info!("this is the token of `{name}`: pass it on in private");
            }
            Self::Revoke { folder, name } => {
                tokens::revoke(folder, name)?;
                let task = Task::read(&folder.join("task.json"))?;
                let still = match task.rounds {
                    None => "a student that was begun with its upload keeps it",
                    Some(_) => "from now on its answers do not count",
                };
                tracing::info!("the token of `{name}` is revoked; {still}");
            }
            Self::List { folder } => {
                tokens::refuse_other_folder(folder)?;
                let mut table = Table::new(&["name", "role", "added", "revoked"]);
                for client in tokens::list(folder)? {
                    let role = match client.role {
                        Role::Client => "client",
                        Role::Admin => "admin",
                    };
                    table.row(vec![
                        client.name,
                        role.into(),
                        shown_time(client.added),
                        client.revoked.map_or_else(|| "–".into(), shown_time),
                    ]);
                }
                output::print(table)?;
            }
        }
        Ok(())
    }
}
