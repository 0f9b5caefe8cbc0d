//! `serve` is the server of a federation: it states the task, lets clients in, takes one upload of
//! each, and runs the server's stages on them; or it takes them through the rounds of a baseline.

mod clients;
mod rounds;
mod run;
mod stages;
mod task;

use crate::runtime::{interrupt, logging};
use anyhow::Result;
use clap::{Parser, Subcommand};

/// Takes uploads over HTTP, and distils them into one student.
#[derive(Debug, Parser)]
#[command(
    name = "serve",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
#[command(after_help = "\
A FOLDER holds everything of one federation: task.json, clients.json, journal.jsonl, the uploads
and the student. Examples:

  serve task hospital --clients 3 dataset=image_folder dataset.root=test model=resnet18
  serve client add hospital \"St. Mary\"      prints the token, once
  serve run hospital --listen 0.0.0.0:8443 --certificate server.pem --key server.key

Rounds of federated averaging in place of one upload:

  serve task hospital --algorithm fed_avg --clients 3 dataset=image_folder dataset.root=test \\
    model=resnet18 fed_avg.rounds=20 fed_avg.epochs=2
  serve run hospital dataset=image_folder dataset.root=test
")]
pub struct Request {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write the task: what clients must agree on, and when the server stops waiting
    Task(task::Request),
    /// Listen, collect uploads, invert them and train the student, serve it; or lead rounds
    Run(run::Request),
    /// Add, revoke or list clients, also while the server runs
    Client {
        #[command(subcommand)]
        what: clients::Request,
    },
}

/// Runs the command.
///
/// # Errors
/// Fails as the subcommands do.
pub fn run(request: Request) -> Result<()> {
    logging::init()?;
    interrupt::install()?;
    match request.what {
        What::Task(request) => request.run(),
        What::Run(request) => request.run(),
        What::Client { what } => what.run(),
    }
}
