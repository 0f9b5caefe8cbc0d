//! Ranks as processes of one MPI job, on one machine or many. Nothing here waits inside MPI: sends
//! and receives are begun, and looked after when the rank looks at its wires, so that a rank that
//! is gone holds nobody up.

use super::Wires;
use crate::error::{Error, Result};
use mpi::point_to_point::{Message, Status};
use mpi::request::{Request, StaticScope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Equivalence, Source};
use mpi::{Rank, Tag, Threading};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// MPI counts in 32 bits: longer parcels travel in pieces. The piece that is shorter than this is a
/// parcel's last.
const PIECE: usize = 1 << 30;

/// Whether all ranks have said goodbye, so that MPI can be left in good order.
static CLEAN: AtomicBool = AtomicBool::new(false);

/// This process among those that the launcher started.
pub struct Processes {
    world: SimpleCommunicator,
    /// Tells the jobs of one process (a sweep) apart.
    tag: Tag,
    piece: usize,
    going: Vec<Going>,
    coming: Vec<VecDeque<Coming>>,
}

/// A piece on its way out. MPI reads the bytes until the request is done.
struct Going {
    request: Request<'static, [u8], StaticScope>,
    bytes: Arc<Vec<u8>>,
}

/// A piece on its way in; done when the request is gone. MPI writes the bytes until then.
struct Coming {
    request: Option<Request<'static, [u8], StaticScope>>,
    bytes: Vec<u8>,
}

/// Joins the other processes: MPI is started at the first call, and left when the process exits.
/// Call it from the main thread.
///
/// # Errors
/// An MPI that does not start.
pub fn join() -> Result<Processes> {
    static JOBS: AtomicI32 = AtomicI32::new(0);
    // Tags reach at least to 32767.
    let tag = JOBS.fetch_add(1, Ordering::Relaxed) % 0x7fff;
    if !mpi::is_initialized() {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| Error::failed("MPI was started by somebody else in this process"))?;
        // It would be left when this is dropped; `leave` does it when the process exits, if it can.
        std::mem::forget(universe);
        // SAFETY: a function without arguments that stays; it runs on the main thread.
        unsafe { libc::atexit(leave) };
    }
    CLEAN.store(false, Ordering::Relaxed);
    let world = SimpleCommunicator::world();
    let size = world.size() as usize;
    Ok(Processes {
        world,
        tag,
        piece: PIECE,
        going: Vec::new(),
        coming: (0..size).map(|_| VecDeque::new()).collect(),
    })
}

/// Leaving waits for all ranks. After a failure the launcher clears up instead.
extern "C" fn leave() {
    if CLEAN.load(Ordering::Relaxed) {
        // SAFETY: MPI was started on this thread, nothing is under way, and nobody uses it after
        // the exit.
        unsafe { mpi::ffi::MPI_Finalize() };
    }
}

impl Processes {
    /// Cuts longer parcels than `bytes` into pieces; the same on all ranks.
    pub fn set_piece(&mut self, bytes: usize) {
        self.piece = bytes.clamp(1, PIECE);
    }

    /// Goes on with what was begun.
    fn advance(&mut self) {
        self.going = std::mem::take(&mut self.going)
            .into_iter()
            .filter_map(|Going { request, bytes }| {
                let request = request.test().err()?;
                Some(Going { request, bytes })
            })
            .collect();
        for piece in self.coming.iter_mut().flatten() {
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
        if let Some(queue) = self.coming.get_mut(status.source_rank() as usize) {
            queue.push_back(Coming { request, bytes });
        }
    }

    /// The pieces of the oldest parcel from a rank, if all of them are here.
    fn whole(queue: &mut VecDeque<Coming>, piece: usize) -> Option<Vec<u8>> {
        let last = queue.iter().position(|coming| coming.bytes.len() < piece)?;
        if queue
            .iter()
            .take(last + 1)
            .any(|coming| coming.request.is_some())
        {
            return None;
        }
        let mut pieces = queue.drain(..=last).map(|coming| coming.bytes);
        let mut whole = pieces.next()?;
        pieces.for_each(|piece| whole.extend_from_slice(&piece));
        Some(whole)
    }
}

impl Wires for Processes {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.coming.len()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) {
        let bytes = Arc::new(bytes);
        let target = self.world.process_at_rank(to as Rank);
        let pieces = bytes.len() / self.piece + 1;
        for index in 0..pieces {
            let end = bytes.len().min((index + 1) * self.piece);
            let part = &bytes[index * self.piece..end];
            // SAFETY: the memory lives in `Going` until the request is done; if that is dropped
            // before, it is leaked.
            let part: &'static [u8] =
                unsafe { std::slice::from_raw_parts(part.as_ptr(), part.len()) };
            self.going.push(Going {
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
        let mut queues = self.coming.iter_mut().enumerate();
        queues.find_map(|(rank, queue)| Some((rank, Self::whole(queue, piece)?)))
    }

    fn sent(&mut self) -> bool {
        self.advance();
        self.going.is_empty()
    }

    fn close(&mut self, clean: bool) {
        CLEAN.store(clean, Ordering::Relaxed);
    }
}

impl Drop for Processes {
    /// What is under way at the end of a failed run stays so: MPI may still use its memory.
    fn drop(&mut self) {
        std::mem::take(&mut self.going)
            .into_iter()
            .for_each(std::mem::forget);
        let coming = self.coming.iter_mut().flat_map(std::mem::take);
        coming
            .filter(|coming| coming.request.is_some())
            .for_each(std::mem::forget);
    }
}
