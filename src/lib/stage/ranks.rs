//! A stage whose work ranks share: alone, as threads of this process, or as the processes that MPI started. Rank 0 admits the job, locks it,
//! writes and prints; the others load what they need, hear from it whether there is anything to do, and work on their part.

use super::Workplace;
use super::job::{Job, Session};
use crate::artifact::manifest;
use crate::error::{Error, Result};
use crate::federated::transport::{self, Member};
use crate::runtime::launcher::launched;
use std::time::Duration;

/// How many ranks share a stage's work: those that were started together, else those that `asked` of the key `key` wants, else `usual`.
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

/// The work of a job that ranks share.
pub(super) trait Shared: Sync {
    /// What every rank works on.
    type Inputs: Send;

    /// Loads and checks it, as for [`Workplace::perform`]; what a rank other than 0 records is not kept.
    fn load(&self, run: &mut manifest::Run) -> Result<Self::Inputs>;

    /// The same once more, for a thread: tensors are views.
    fn view(&self, inputs: &Self::Inputs) -> Self::Inputs;

    /// A rank's part. Rank 0 alone has a session, and writes.
    fn work(&self, inputs: &Self::Inputs, member: &mut Member, session: Option<&mut Session>) -> Result<()>;
}

/// Does a job on all ranks; `false` when its result is there already, and is kept.
///
/// # Errors
/// Those of [`Workplace::perform`], on every rank.
pub(super) fn perform(place: &Workplace, job: &Job, shared: &impl Shared) -> Result<bool> {
    #[cfg(feature = "mpi")]
    if launched().is_some() {
        return processes::perform(place, job, shared);
    }
    let done = place.perform(
        job,
        |run| shared.load(run),
        |given, session| {
            let views = (1..place.ranks).map(|_| shared.view(&given)).collect();
            let threads = i32::try_from(place.threads).unwrap_or(1);
            let others = |view: _, member: &mut Member| {
                // A new thread begins with all cores.
                tch::set_num_threads(threads);
                shared.work(&view, member, None)
            };
            let first = |member: &mut Member| shared.work(&given, member, Some(session));
            transport::lead(timeout(place), views, first, others)
        },
    )?;
    Ok(done.is_some())
}

fn timeout(place: &Workplace) -> Duration {
    Duration::try_from_secs_f64(place.config.ranks.timeout).unwrap_or(Duration::MAX / 4)
}

#[cfg(feature = "mpi")]
mod processes {
    //! Ranks as processes, and what rank 0 tells the others before the work.

    use super::{Job, Member, Result, Shared, Workplace, manifest, timeout};
    use crate::error::Error;
    use crate::federated::transport::{Transport, mpi};
    use serde_json::Value;
    use std::cell::RefCell;

    /// Whether there is anything to do.
    const LOAD: &[u8] = b"load";
    const WORK: &[u8] = b"work";
    const DONE: &[u8] = b"done";

    pub fn perform(place: &Workplace, job: &Job, shared: &impl Shared) -> Result<bool> {
        together(place, |member| match member.rank() {
            0 => lead(place, job, shared, member),
            _ => follow(place, job, shared, member),
        })
    }

    /// Joins the other processes for `work`.
    pub fn together<T>(place: &Workplace, work: impl FnOnce(&mut Member) -> Result<T>) -> Result<T> {
        let wires = mpi::join()?;
        let mut member = Member::new(Box::new(wires));
        member.set_timeout(timeout(place));
        if member.size() != place.ranks {
            return Err(Error::failed("MPI does not connect the processes that were started together")
                .note("expected", format!("{} ranks", place.ranks))
                .note("found", member.size().to_string())
                .hint("start them with the `mpirun` of the MPI that this program was built with; under SLURM `srun --mpi=pmix`"));
        }
        let outcome = work(&mut member);
        member.part(outcome, true).outcome
    }

    fn lead(place: &Workplace, job: &Job, shared: &impl Shared, member: &mut Member) -> Result<bool> {
        let member = RefCell::new(member);
        let tell = |word: &[u8]| {
            let mut member = member.borrow_mut();
            (1..member.size()).try_for_each(|rank| member.send(rank, word.to_vec()))
        };
        let load = |run: &mut manifest::Run| {
            tell(LOAD)?;
            let given = shared.load(run)?;
            let mut member = member.borrow_mut();
            for rank in 1..member.size() {
                same_config(place, rank, &member.receive(rank)?)?;
            }
            Ok(given)
        };
        let done = place.perform(job, load, |given, session| {
            tell(WORK)?;
            shared.work(&given, &mut member.borrow_mut(), Some(session))
        })?;
        if done.is_none() {
            tell(DONE)?;
        }
        Ok(done.is_some())
    }

    fn follow(place: &Workplace, job: &Job, shared: &impl Shared, member: &mut Member) -> Result<bool> {
        if heard(member)? == DONE {
            return Ok(false);
        }
        let given = shared.load(&mut place.unrecorded(job)?)?;
        member.send(0, place.settings()?.to_string().into_bytes())?;
        if heard(member)? == DONE {
            return Ok(false);
        }
        shared.work(&given, member, None)?;
        Ok(true)
    }

    fn heard(member: &mut Member) -> Result<&'static [u8]> {
        let word = member.receive(0)?;
        let known = [LOAD, WORK, DONE].into_iter().find(|known| *known == word);
        known.ok_or_else(|| {
            Error::failed("rank 0 sent another message than the one expected")
                .note("found", format!("{} bytes", word.len()))
        })
    }

    /// Refuses ranks that were started with other settings than rank 0. Where and with how many threads they compute is their own affair.
    fn same_config(place: &Workplace, rank: usize, theirs: &[u8]) -> Result<()> {
        let theirs: Value = serde_json::from_slice(theirs)
            .map_err(|_| Error::failed(format!("rank {rank} sent another message than its config")))?;
        let ours = place.settings()?;
        let groups = ours.as_object().into_iter().flatten();
        let differing: Vec<&str> = groups
            .filter(|(key, value)| !["device", "threads"].contains(&key.as_str()) && theirs.get(key) != Some(value))
            .map(|(key, _)| key.as_str())
            .collect();
        match differing.is_empty() {
            true => Ok(()),
            false => Err(
                Error::usage(format!("rank {rank} was started with another config than rank 0"))
                    .note("differs", differing.join(", "))
                    .hint("start all ranks with the same arguments"),
            ),
        }
    }
}
