//! Implements the command line, which a binary's `main` calls: reads the arguments, composes the
//! config, runs the stage, prints the error and returns the exit code.
//!
//! Results (`--cfg`, `--info`, `--help`) go to stdout, everything else to stderr.

mod arguments;
mod chained;
mod help;
mod spinning;
mod sweep;
mod tool;
mod unread;

use crate::config::{Composed, Request, Tree, compose_all};
use crate::error::{Class, Error};
use crate::run::stages::Stage;
use crate::runtime::output;
use crate::runtime::{interrupt, launcher, logging};
use anyhow::{Context, Result};
use arguments::Arguments;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

pub use tool::tool;

/// Runs a stage with one composed config.
type Run = fn(&Composed) -> Result<()>;

/// Runs a stage's binary. Errors go to stderr; the exit code is 2 for usage, 1 for a failed run,
/// 130 for Ctrl-C.
pub fn main(stage: &Stage, run: Run) -> ExitCode {
    interrupt::ignore_file_size_signal();
    exit(start(stage, run, &std::env::args_os().collect::<Vec<_>>()))
}

fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = Error::from(error);
            let rank = launcher::launched()
                .map_or_else(String::new, |launched| format!("rank {}: ", launched.rank));
            // In one piece: other ranks write to the same stream.
            let _ = std::io::stderr()
                .write_all(output::printable(&format!("error: {rank}{error}\n")).as_bytes());
            ExitCode::from(match error.class() {
                Class::Usage => 2,
                Class::Failed => 1,
                Class::Interrupted => 130,
            })
        }
    }
}

fn start(stage: &Stage, work: Run, arguments: &[OsString]) -> Result<()> {
    let arguments = Arguments::read(arguments, stage)?;
    if arguments.help {
        let found = Tree::find(
            arguments.config_dir.as_deref(),
            arguments.config_name.as_deref(),
        );
        // The help of a tree that cannot be found is that of the built-in one.
        let tree = found.map_or(Tree::BuiltIn, |(tree, _)| tree);
        output::print(help::text(stage, &tree).trim_end())?;
        return Ok(());
    }
    if arguments.version {
        output::print(format!("{} {}", stage.name, env!("CARGO_PKG_VERSION")))?;
        return Ok(());
    }
    logging::init()?;
    let request = Request {
        overrides: arguments.overrides,
        config_dir: arguments.config_dir,
        config_name: arguments.config_name,
    };
    let is_shown = arguments.cfg.is_some() || arguments.info.is_some();
    let composed = jobs(&request, arguments.multirun, is_shown);
    warn_of_other_project(&request);
    let jobs = composed?;
    let labels: Vec<String> = jobs.iter().map(|job| job.overrides.join(" ")).collect();
    let shared = chained::find(stage, &jobs, &request);
    let jobs = sweep::separate(jobs, &request, (stage.output, arguments.multirun))?;
    if !is_shown {
        chained::report(&shared)?;
        say_unread(stage, &jobs, &request);
        return run(work, &jobs, &labels);
    }
    let read = |key: &str| stage.reads(key);
    let text = match arguments.info.as_deref() {
        None => shown(&jobs, &labels, &|job| job.to_yaml(&read)),
        Some("defaults") => shown(&jobs, &labels, &Composed::defaults_table),
        Some("keys") => shown(&jobs, &labels, &|job| job.to_described_yaml(&read)),
        Some(_) => shown(&jobs, &labels, &|job| job.to_annotated_yaml(&read)),
    };
    output::print(text.trim_end())?;
    Ok(())
}

/// Composes the jobs. Where they are to run with several threads, the process begins again before
/// it says anything; for a sweep, whose jobs take long to compose, whatever their threads.
fn jobs(request: &Request, is_sweep: bool, is_shown: bool) -> Result<Vec<Composed>, Error> {
    if is_sweep && !is_shown {
        spinning::limit();
    }
    let jobs = compose_all(request, is_sweep);
    let has_threads = |job: &Composed| job.config.threads != Some(1);
    if !is_shown && jobs.iter().flatten().any(has_threads) {
        spinning::limit();
    }
    jobs
}

/// Warns of a `./config` that is not taken for this program's tree.
fn warn_of_other_project(request: &Request) {
    if request.config_dir.is_none()
        && let Some(reason) = Tree::passed_over(request.config_name.as_deref())
    {
        tracing::warn!(
            "`config` is taken for another program's: {reason}; the built-in config tree is used \
             (`--config-dir config` takes that folder)"
        );
    }
}

/// Names settings without an effect.
fn say_unread(stage: &Stage, jobs: &[Composed], request: &Request) {
    for line in unread::without_effect(stage, jobs) {
        tracing::warn!("{line}");
    }
    let first = jobs.first();
    if let Some(line) = first.and_then(|job| unread::line(stage, job, request)) {
        tracing::info!("{line}");
    }
}

/// Runs the jobs one after the other; the first that fails ends the sweep.
fn run(work: Run, jobs: &[Composed], labels: &[String]) -> Result<()> {
    let count = jobs.len();
    for (index, (job, label)) in jobs.iter().zip(labels).enumerate() {
        if count == 1 {
            return work(job);
        }
        let label = format!("job {} of {count}: {label}", index + 1);
        tracing::info!("{label}");
        work(job).with_context(|| label).map_err(sweep::explained)?;
    }
    Ok(())
}

/// Returns one text for each job, separated by a comment and YAML's document mark.
fn shown(jobs: &[Composed], labels: &[String], show: &dyn Fn(&Composed) -> String) -> String {
    if let [job] = jobs {
        return show(job);
    }
    let mut text = String::new();
    for (index, (job, label)) in jobs.iter().zip(labels).enumerate() {
        let _ = writeln!(text, "---\n# job {} of {}: {label}", index + 1, jobs.len());
        text.push_str(&show(job));
    }
    text
}
