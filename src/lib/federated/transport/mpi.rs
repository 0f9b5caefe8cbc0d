//! Connects ranks that are processes of one MPI job, on one machine or many. Nothing here waits
//! inside MPI: sends and receives are begun, and advanced when the rank polls, so that a rank that
//! has died blocks no other.

use super::Transport;
use crate::error::{Error, Result};
use mpi::point_to_point::{Message, Status};
use mpi::request::{Request, StaticScope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Equivalence, Source};
use mpi::{Rank, Tag, Threading};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// MPI counts in 32 bits: longer messages travel in pieces. A piece that is shorter than this is a
/// message's last.
const PIECE: usize = 1 << 30;

/// True once all ranks have told how they ended, so that MPI can be finalised.
static CLEAN: AtomicBool = AtomicBool::new(false);

/// Connects this process to those that the launcher started with it.
pub struct Processes {
    world: SimpleCommunicator,
    /// Tag of this job's messages: those of the jobs of one process (a sweep) differ.
    tag: Tag,
    piece: usize,
    outgoing: Vec<Outgoing>,
    incoming: Vec<VecDeque<Incoming>>,
}

/// Holds a piece on its way out. MPI reads the bytes until the request is done.
struct Outgoing {
    request: Request<'static, [u8], StaticScope>,
    bytes: Arc<Vec<u8>>,
}

/// Holds a piece on its way in; done when the request is gone. MPI writes the bytes until then.
struct Incoming {
    request: Option<Request<'static, [u8], StaticScope>>,
    bytes: Vec<u8>,
}

/// Joins the other processes: starts MPI at the first call, and finalises it when the process
/// exits. Must be called from the main thread.
///
/// # Errors
/// Fails when MPI does not start.
pub fn join() -> Result<Processes> {
    static JOBS: AtomicI32 = AtomicI32::new(0);
    // Tags reach at least to 32767.
    let tag = JOBS.fetch_add(1, Ordering::Relaxed) % 0x7fff;
    if !mpi::is_initialized() {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| Error::failed("MPI was started by somebody else in this process"))?;
        // Dropping it would finalise MPI; `finalise` does when the process exits, if it can.
        std::mem::forget(universe);
        // SAFETY: a function without arguments that stays; it runs on the main thread.
        unsafe { libc::atexit(finalise) };
    }
    CLEAN.store(false, Ordering::Relaxed);
    let world = SimpleCommunicator::world();
    let size = world.size() as usize;
    Ok(Processes {
        world,
        tag,
        piece: PIECE,
        outgoing: Vec::new(),
        incoming: (0..size).map(|_| VecDeque::new()).collect(),
    })
}

/// Finalising waits for all ranks. After a failure the launcher stops them instead.
extern "C" fn finalise() {
    if CLEAN.load(Ordering::Relaxed) {
        // SAFETY: MPI was started on this thread, nothing is under way, and nobody uses it after
        // the exit.
        unsafe { mpi::ffi::MPI_Finalize() };
    }
}

impl Processes {
    /// Cuts messages into pieces of at most `bytes`; all ranks must use the same number.
    pub fn set_piece(&mut self, bytes: usize) {
        self.piece = bytes.clamp(1, PIECE);
    }

    /// Advances the sends and receives that were begun.
    fn advance(&mut self) {
        self.outgoing = std::mem::take(&mut self.outgoing)
            .into_iter()
            .filter_map(|Outgoing { request, bytes }| {
                let request = request.test().err()?;
                Some(Outgoing { request, bytes })
            })
            .collect();
        for piece in self.incoming.iter_mut().flatten() {
            piece.request = piece
                .request
                .take()
                .and_then(|request| request.test().err());
        }
    }

    fn begin_receiving(&mut self, message: Message, status: &Status) {
        let mut bytes =
            vec![0; usize::try_from(status.count(u8::equivalent_datatype())).unwrap_or(0)];
        // SAFETY: the vector's memory stays where it is, and as it is, until the request is done:
        // `bytes` is not touched before, and if this is dropped before, it is leaked.
        let target: &'static mut [u8] =
            unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr(), bytes.len()) };
        let request = Some(message.immediate_matched_receive_into(StaticScope, target));
        if let Some(queue) = self.incoming.get_mut(status.source_rank() as usize) {
            queue.push_back(Incoming { request, bytes });
        }
    }

    /// Returns the oldest message in a rank's queue, if all of its pieces have arrived.
    fn whole(queue: &mut VecDeque<Incoming>, piece: usize) -> Option<Vec<u8>> {
        let last = queue
            .iter()
            .position(|incoming| incoming.bytes.len() < piece)?;
        if queue
            .iter()
            .take(last + 1)
            .any(|incoming| incoming.request.is_some())
        {
            return None;
        }
        let mut pieces = queue.drain(..=last).map(|incoming| incoming.bytes);
        let mut whole = pieces.next()?;
        pieces.for_each(|piece| whole.extend_from_slice(&piece));
        Some(whole)
    }
}

impl Transport for Processes {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.incoming.len()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) {
        let bytes = Arc::new(bytes);
        let target = self.world.process_at_rank(to as Rank);
        let pieces = bytes.len() / self.piece + 1;
        for index in 0..pieces {
            let end = bytes.len().min((index + 1) * self.piece);
            let part = &bytes[index * self.piece..end];
            // SAFETY: the memory lives in `Outgoing` until the request is done; if that is dropped
            // before, it is leaked.
            let part: &'static [u8] =
                unsafe { std::slice::from_raw_parts(part.as_ptr(), part.len()) };
            self.outgoing.push(Outgoing {
                request: target.immediate_send_with_tag(StaticScope, part, self.tag),
                bytes: Arc::clone(&bytes),
            });
        }
    }

    fn poll(&mut self) -> Option<(usize, Vec<u8>)> {
        self.advance();
        while let Some((message, status)) = self
            .world
            .any_process()
            .immediate_matched_probe_with_tag(self.tag)
        {
            self.begin_receiving(message, &status);
        }
        let piece = self.piece;
        let mut queues = self.incoming.iter_mut().enumerate();
        queues.find_map(|(rank, queue)| Some((rank, Self::whole(queue, piece)?)))
    }

    fn is_flushed(&mut self) -> bool {
        self.advance();
        self.outgoing.is_empty()
    }

    fn close(&mut self, clean: bool) {
        CLEAN.store(clean, Ordering::Relaxed);
    }
}

impl Drop for Processes {
    /// Leaks the memory of what is still under way at the end of a failed run: MPI may use it.
    fn drop(&mut self) {
        std::mem::take(&mut self.outgoing)
            .into_iter()
            .for_each(std::mem::forget);
        let incoming = self.incoming.iter_mut().flat_map(std::mem::take);
        incoming
            .filter(|incoming| incoming.request.is_some())
            .for_each(std::mem::forget);
    }
}
