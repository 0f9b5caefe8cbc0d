//! Performs a stage whose work ranks share: alone, as threads of this process, or as the processes
//! that MPI started. Rank 0 admits the job, locks it, writes and prints. The others load what they
//! need, are told by rank 0 whether there is anything to do, and do their part.

use super::StageContext;
use super::guard::{caught, guarded};
use super::job::{Job, Session};
use crate::artifact::json;
use crate::error::Error;
use crate::federated::transport::{self, Rank, Timeout};
use crate::run::manifest::{self, Manifest};
use crate::runtime::launcher::launched;
use anyhow::{Result, bail};
use serde_json::Value;
use std::cell::RefCell;
use std::time::Duration;

/// Returns how many ranks share a stage's work: those that were started together, else `asked`, the
/// value of `key`, else `usual`.
///
/// # Errors
/// Fails when another number was started than `asked` (usage).
pub fn count(key: &str, asked: Option<usize>, usual: usize) -> Result<usize> {
    match (launched(), asked) {
        (Some(launched), Some(asked)) if asked != launched.size => bail!(
            Error::usage(format!(
                "`{key}` is {asked}, but {} processes were started together",
                launched.size
            ))
            .hint(format!("leave it out, or {key}={}", launched.size))
        ),
        (Some(launched), _) => Ok(launched.size),
        (None, asked) => Ok(asked.unwrap_or(usual)),
    }
}

/// Refuses a process that is one of several where it should be alone.
///
/// # Errors
/// Fails when the process was started together with others (usage).
pub fn refuse_other_processes() -> Result<()> {
    match launched() {
        Some(launched) => bail!(
            Error::usage(format!(
                "{} processes of this stage were started together, but it works alone",
                launched.size
            ))
            .hint("start it without `mpirun` or `srun`, or with `-n 1`")
        ),
        None => Ok(()),
    }
}

/// Refuses a process that is one of several where this program cannot reach the others.
///
/// # Errors
/// Fails when the process was started together with others and the program was built without MPI
/// (usage).
pub fn refuse_without_mpi() -> Result<()> {
    match launched() {
        Some(launched) if cfg!(not(feature = "mpi")) => bail!(Error::usage(format!(
            "{} processes of this stage were started together, but this program was built without \
             MPI",
            launched.size
        ))
        .hint("`cargo build --release --features mpi` builds one with it (docs/cluster.md)")
        .hint("start it without `mpirun` or `srun`, or with `-n 1`")),
        _ => Ok(()),
    }
}

/// Returns the number of processes that were started together, 1 for one that was started alone.
pub fn processes() -> usize {
    launched().map_or(1, |launched| launched.size)
}

/// Does the work of a job that ranks share.
pub trait Shared {
    /// What every rank works on.
    type Inputs;

    /// Loads and checks the inputs, as for [`StageContext::perform`]; what a rank other than 0
    /// records is not kept.
    ///
    /// # Errors
    /// Fails when inputs are missing or do not belong together.
    fn load(&self, run: &mut manifest::Run) -> Result<Self::Inputs>;

    /// Does a rank's part. Rank 0 alone has a session, and writes.
    ///
    /// # Errors
    /// Fails as the stage's engine does, and when a file cannot be written.
    fn work(
        &self,
        inputs: &Self::Inputs,
        rank: &mut Rank,
        session: Option<&mut Session>,
    ) -> Result<()>;
}

/// Does the work of a job whose ranks can be threads.
pub trait Threaded: Shared + Sync {
    /// Returns the inputs once more, for a thread: the tensors are views.
    fn view(&self, inputs: &Self::Inputs) -> Self::Inputs;
}

/// Performs a job on all ranks, which are processes or threads. Returns false when its result is
/// there already, and is kept.
///
/// # Errors
/// Fails as [`StageContext::perform`] does, on every rank.
pub fn perform<S: Threaded<Inputs: Send>>(
    context: &StageContext,
    job: &Job,
    shared: &S,
) -> Result<bool> {
    if launched().is_some() {
        return perform_on_processes(context, job, shared);
    }
    let done = context.perform(
        job,
        |run| shared.load(run),
        |given, session| {
            let views = (1..context.ranks).map(|_| shared.view(&given)).collect();
            let threads = i32::try_from(context.threads).unwrap_or(1);
            let others = |view: _, rank: &mut Rank| {
                // A new thread begins with all cores.
                tch::set_num_threads(threads);
                caught(|| shared.work(&view, rank, None))
            };
            let first = |rank: &mut Rank| caught(|| shared.work(&given, rank, Some(session)));
            Ok(transport::lead(timeout(context), views, first, others)?)
        },
    )?;
    Ok(done.is_some())
}

/// Performs a job on all ranks, which are the processes that were started together, or this one.
///
/// # Errors
/// Fails as [`perform`] does.
pub fn perform_on_processes(
    context: &StageContext,
    job: &Job,
    shared: &impl Shared,
) -> Result<bool> {
    together(context, |rank| match rank.number() {
        0 => perform_on_rank_0(context, job, shared, rank),
        _ => perform_on_other_rank(context, job, shared, rank),
    })
}

/// Messages of rank 0 to the others, which answer the first with what they have read.
const LOAD: &[u8] = b"load";
const WORK: &[u8] = b"work";
const DONE: &[u8] = b"done";

fn perform_on_rank_0(
    context: &StageContext,
    job: &Job,
    shared: &impl Shared,
    rank: &mut Rank,
) -> Result<bool> {
    // Both closures send and receive.
    let rank = RefCell::new(rank);
    let tell = |word: &[u8]| {
        let mut rank = rank.borrow_mut();
        (1..rank.ranks()).for_each(|other| rank.send(other, word.to_vec()));
    };
    let load = |run: &mut manifest::Run| {
        tell(LOAD);
        let given = shared.load(run)?;
        let mut rank = rank.borrow_mut();
        (1..rank.ranks())
            .try_for_each(|other| same_inputs(run.manifest(), other, &rank.receive(other)?))?;
        Ok(given)
    };
    let done = context.perform(job, load, |given, session| {
        tell(WORK);
        shared.work(&given, &mut rank.borrow_mut(), Some(session))
    })?;
    if done.is_none() {
        tell(DONE);
    }
    Ok(done.is_some())
}

fn perform_on_other_rank(
    context: &StageContext,
    job: &Job,
    shared: &impl Shared,
    rank: &mut Rank,
) -> Result<bool> {
    if receive(rank, 0, &[LOAD, DONE])? == DONE {
        return Ok(false);
    }
    let mut run = context.unrecorded(job)?;
    let given = guarded(|| shared.load(&mut run))?;
    rank.send(0, json::value(run.manifest())?.to_string().into_bytes());
    if receive(rank, 0, &[WORK, DONE])? == DONE {
        return Ok(false);
    }
    caught(|| shared.work(&given, rank, None))?;
    Ok(true)
}

/// Receives one of the `known` words.
fn receive(rank: &mut Rank, from: usize, known: &[&'static [u8]]) -> Result<&'static [u8]> {
    let word = rank.receive(from)?;
    let known = known.iter().find(|known| **known == word);
    known.copied().ok_or_else(|| {
        let text = format!("rank {from} sent another message than the one expected");
        let error = Error::failed(text).note("found", format!("{} bytes", word.len()));
        error.into()
    })
}

fn timeout(context: &StageContext) -> Timeout {
    let after = Duration::try_from_secs_f64(context.config.ranks.timeout);
    Timeout {
        after: after.unwrap_or(Duration::MAX / 4),
        name: "ranks.timeout",
    }
}

/// Does `work` together with the processes that were started with this one; alone where there are
/// none.
///
/// # Errors
/// Fails as `work` does, on every rank, and when ranks have another config.
pub fn together<T>(context: &StageContext, work: impl FnOnce(&mut Rank) -> Result<T>) -> Result<T> {
    let mut rank = join(context)?;
    rank.set_timeout(timeout(context));
    let result = refuse_other_configs(context, &mut rank).and_then(|()| work(&mut rank));
    Ok(rank.finish(result.map_err(Error::from), true).result?)
}

#[cfg(not(feature = "mpi"))]
fn join(_: &StageContext) -> Result<Rank> {
    // Other processes were refused when the stage began.
    Ok(Rank::alone())
}

#[cfg(feature = "mpi")]
fn join(context: &StageContext) -> Result<Rank> {
    if launched().is_none() {
        return Ok(Rank::alone());
    }
    let rank = Rank::new(Box::new(transport::mpi::join()?));
    if rank.ranks() != context.ranks {
        bail!(
            Error::failed("MPI does not connect the processes that were started together")
                .note("expected", format!("{} ranks", context.ranks))
                .note("found", rank.ranks().to_string())
                .hint(
                    "start them with the `mpirun` of the MPI that this program was built with; \
                    under SLURM `srun --mpi=pmix`",
                )
        );
    }
    Ok(rank)
}

/// Refuses ranks that were started with other settings than rank 0.
fn refuse_other_configs(context: &StageContext, rank: &mut Rank) -> Result<()> {
    let ours = context.settings()?;
    if rank.number() > 0 {
        rank.send(0, ours.to_string().into_bytes());
        return Ok(());
    }
    (1..rank.ranks()).try_for_each(|other| same_config(&ours, other, &rank.receive(other)?))
}

/// Refuses the config of another rank that differs, except in device and threads, where ranks may
/// differ.
fn same_config(ours: &Value, rank: usize, theirs: &[u8]) -> Result<()> {
    let theirs: Value = serde_json::from_slice(theirs).map_err(|error| {
        Error::failed(format!("rank {rank} sent another message than its config")).caused_by(error)
    })?;
    let groups = ours.as_object().into_iter().flatten();
    let differing: Vec<&str> = groups
        .filter(|(key, value)| {
            !["device", "threads"].contains(&key.as_str()) && theirs.get(key) != Some(value)
        })
        .map(|(key, _)| key.as_str())
        .collect();
    match differing.is_empty() {
        true => Ok(()),
        false => bail!(
            Error::usage(format!(
                "rank {rank} was started with another config than rank 0"
            ))
            .note("differs", differing.join(", "))
            .hint("start all ranks with the same arguments: they share the work out by themselves")
        ),
    }
}

/// Refuses another rank that read something else than rank 0, as one does on a host whose copy of
/// the data is older.
fn same_inputs(ours: &Manifest, rank: usize, theirs: &[u8]) -> Result<()> {
    let theirs: Manifest = serde_json::from_slice(theirs).map_err(|error| {
        let text = format!("rank {rank} sent another message than what it read");
        Error::failed(text).caused_by(error)
    })?;
    let name = format!("on rank {rank}");
    let differences = manifest::input_differences(ours, &theirs, ["on rank 0", &name]);
    if differences.is_empty() {
        return Ok(());
    }
    let text = format!("rank {rank} read something else than rank 0");
    let error = differences
        .into_iter()
        .fold(Error::failed(text), |error, line| {
            error.note("differs", line)
        });
    Err(error
        .hint("all ranks read the same paths: give each host the same files, or a shared folder")
        .into())
}
