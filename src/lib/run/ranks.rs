//! A stage whose work ranks share: alone, as threads of this process, or as the processes that MPI
//! started. Rank 0 admits the job, locks it, writes and prints; the others load what they need,
//! hear from it whether there is anything to do, and work on their part.

use super::StageContext;
use super::job::{Job, Session};
use crate::error::{Error, Result};
use crate::federated::transport::{self, Member, Transport};
use crate::run::manifest;
use crate::runtime::launcher::launched;
use serde_json::Value;
use std::cell::RefCell;
use std::time::Duration;

/// How many ranks share a stage's work: those that were started together, else those that `asked`
/// of the key `key` wants, else `usual`.
///
/// # Errors
/// Another number than was started (usage).
pub fn count(key: &str, asked: Option<usize>, usual: usize) -> Result<usize> {
    match (launched(), asked) {
        (Some(launched), Some(asked)) if asked != launched.size => Err(Error::usage(format!(
            "`{key}` is {asked}, but {} processes were started together",
            launched.size
        ))
        .hint(format!("leave it out, or {key}={}", launched.size))),
        (Some(launched), _) => Ok(launched.size),
        (None, asked) => Ok(asked.unwrap_or(usual)),
    }
}

/// Refuses a process that is one of several where it should be alone.
///
/// # Errors
/// Usage.
pub fn refuse_company() -> Result<()> {
    match launched() {
        Some(launched) => Err(Error::usage(format!(
            "{} processes of this stage were started together, but it works alone",
            launched.size
        ))
        .hint("start it without `mpirun` or `srun`, or with `-n 1`")),
        None => Ok(()),
    }
}

/// Refuses a process that is one of several where this program cannot speak to the others.
///
/// # Errors
/// Usage.
pub fn refuse_without_mpi() -> Result<()> {
    match launched() {
        Some(launched) if cfg!(not(feature = "mpi")) => Err(Error::usage(format!(
            "{} processes of this stage were started together, but this program was built without MPI",
            launched.size
        ))
        .hint("`cargo build --release --features mpi` builds one with it (docs/cluster.md)")
        .hint("start it without `mpirun` or `srun`, or with `-n 1`")),
        _ => Ok(()),
    }
}

/// The processes that were started together; one that was started alone is one.
pub fn company() -> usize {
    launched().map_or(1, |launched| launched.size)
}

/// The work of a job that ranks share.
pub trait Shared {
    /// What every rank works on.
    type Inputs;

    /// Loads and checks it, as for [`StageContext::perform`]; what a rank other than 0 records is not
    /// kept.
    fn load(&self, run: &mut manifest::Run) -> Result<Self::Inputs>;

    /// A rank's part. Rank 0 alone has a session, and writes.
    fn work(
        &self,
        inputs: &Self::Inputs,
        member: &mut Member,
        session: Option<&mut Session>,
    ) -> Result<()>;
}

/// The same where ranks can be threads.
pub trait Threaded: Shared + Sync {
    /// The inputs once more, for a thread: tensors are views.
    fn view(&self, inputs: &Self::Inputs) -> Self::Inputs;
}

/// Does a job on all ranks, which are processes or threads; `false` when its result is there
/// already, and is kept.
///
/// # Errors
/// Those of [`StageContext::perform`], on every rank.
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
            let others = |view: _, member: &mut Member| {
                // A new thread begins with all cores.
                tch::set_num_threads(threads);
                shared.work(&view, member, None)
            };
            let first = |member: &mut Member| shared.work(&given, member, Some(session));
            transport::lead(timeout(context), views, first, others)
        },
    )?;
    Ok(done.is_some())
}

/// Does a job on all ranks, which are the processes that were started together, or this one.
///
/// # Errors
/// As [`perform`].
pub fn perform_on_processes(
    context: &StageContext,
    job: &Job,
    shared: &impl Shared,
) -> Result<bool> {
    together(context, |member| match member.rank() {
        0 => lead(context, job, shared, member),
        _ => follow(context, job, shared, member),
    })
}

/// Whether there is anything to do, as rank 0 tells the others, and their answer.
const LOAD: &[u8] = b"load";
const WORK: &[u8] = b"work";
const DONE: &[u8] = b"done";
const READY: &[u8] = b"ready";

fn lead(
    context: &StageContext,
    job: &Job,
    shared: &impl Shared,
    member: &mut Member,
) -> Result<bool> {
    let member = RefCell::new(member);
    let tell = |word: &[u8]| {
        let mut member = member.borrow_mut();
        (1..member.size()).try_for_each(|rank| member.send(rank, word.to_vec()))
    };
    let load = |run: &mut manifest::Run| {
        tell(LOAD)?;
        let given = shared.load(run)?;
        let mut member = member.borrow_mut();
        (1..member.size()).try_for_each(|rank| hear(&mut member, rank, &[READY]).map(drop))?;
        Ok(given)
    };
    let done = context.perform(job, load, |given, session| {
        tell(WORK)?;
        shared.work(&given, &mut member.borrow_mut(), Some(session))
    })?;
    if done.is_none() {
        tell(DONE)?;
    }
    Ok(done.is_some())
}

fn follow(
    context: &StageContext,
    job: &Job,
    shared: &impl Shared,
    member: &mut Member,
) -> Result<bool> {
    if hear(member, 0, &[LOAD, DONE])? == DONE {
        return Ok(false);
    }
    let given = shared.load(&mut context.unrecorded(job)?)?;
    member.send(0, READY.to_vec())?;
    if hear(member, 0, &[WORK, DONE])? == DONE {
        return Ok(false);
    }
    shared.work(&given, member, None)?;
    Ok(true)
}

fn hear(member: &mut Member, rank: usize, known: &[&'static [u8]]) -> Result<&'static [u8]> {
    let word = member.receive(rank)?;
    let known = known.iter().find(|known| **known == word);
    known.copied().ok_or_else(|| {
        Error::failed(format!(
            "rank {rank} sent another message than the one expected"
        ))
        .note("found", format!("{} bytes", word.len()))
    })
}

fn timeout(context: &StageContext) -> Duration {
    Duration::try_from_secs_f64(context.config.ranks.timeout).unwrap_or(Duration::MAX / 4)
}

/// Does `work` together with the processes that were started with this one; alone where there are
/// none.
///
/// # Errors
/// Those of `work`, on every rank; ranks with another config.
pub fn together<T>(
    context: &StageContext,
    work: impl FnOnce(&mut Member) -> Result<T>,
) -> Result<T> {
    let mut member = join(context)?;
    member.set_timeout(timeout(context));
    let outcome = agree(context, &mut member).and_then(|()| work(&mut member));
    member.part(outcome, true).outcome
}

#[cfg(not(feature = "mpi"))]
fn join(_: &StageContext) -> Result<Member> {
    // Company was refused when the stage began.
    Ok(Member::alone())
}

#[cfg(feature = "mpi")]
fn join(context: &StageContext) -> Result<Member> {
    if launched().is_none() {
        return Ok(Member::alone());
    }
    let wires = transport::mpi::join()?;
    let member = Member::new(Box::new(wires));
    if member.size() != context.ranks {
        return Err(
            Error::failed("MPI does not connect the processes that were started together")
                .note("expected", format!("{} ranks", context.ranks))
                .note("found", member.size().to_string())
                .hint("start them with the `mpirun` of the MPI that this program was built with; under SLURM `srun --mpi=pmix`"),
        );
    }
    Ok(member)
}

/// Refuses ranks that were started with other settings than rank 0.
fn agree(context: &StageContext, member: &mut Member) -> Result<()> {
    let ours = context.settings()?;
    if member.rank() > 0 {
        return member.send(0, ours.to_string().into_bytes());
    }
    (1..member.size()).try_for_each(|rank| same_config(&ours, rank, &member.receive(rank)?))
}

/// Where and with how many threads a rank computes is its own affair.
fn same_config(ours: &Value, rank: usize, theirs: &[u8]) -> Result<()> {
    let theirs: Value = serde_json::from_slice(theirs)
        .map_err(|_| Error::failed(format!("rank {rank} sent another message than its config")))?;
    let groups = ours.as_object().into_iter().flatten();
    let differing: Vec<&str> = groups
        .filter(|(key, value)| {
            !["device", "threads"].contains(&key.as_str()) && theirs.get(key) != Some(value)
        })
        .map(|(key, _)| key.as_str())
        .collect();
    match differing.is_empty() {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "rank {rank} was started with another config than rank 0"
        ))
        .note("differs", differing.join(", "))
        .hint("start all ranks with the same arguments: they share the work out by themselves")),
    }
}
