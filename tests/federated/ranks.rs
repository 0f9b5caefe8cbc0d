//! Ranks that end, fail, hang, panic or work long.

use crate::fed_avg::support::{Log, federation, plain};
use crate::support::{normalisation, on_ranks};
use fed_distill::error::During;
use fed_distill::federated::fed_avg;
use fed_distill::federated::transport::{self, Rank, Transport};
use fed_distill::federated::{Kind, Link};
use fed_distill::model::{ModelKind, StateDict};
use fed_distill::runtime::interrupt;
use fed_distill::{Error, Result};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tch::Tensor;

/// What comes of it when rank 1 does this instead of its part.
fn with_a_bad_rank(bad: impl Fn(&mut Rank) -> Result<()> + Sync) -> Error {
    on_ranks(2, |rank| {
        if rank.number() == 1 {
            return bad(rank);
        }
        let normalisation = normalisation();
        let federation = federation(ModelKind::Lenet5, &[3, 4], &normalisation);
        fed_avg::run(&plain(), &federation, rank, None, &mut Log::default()).map(drop)
    })
    .unwrap_err()
}

/// One that ends, fails or talks nonsense.
#[test]
fn bad_rank_is_an_error_for_all() {
    let gone = with_a_bad_rank(|_| Ok(()));
    assert!(gone.to_string().contains("rank 1 has ended"), "{gone}");
    let failed = with_a_bad_rank(|_| Err(Error::failed("no power")));
    assert!(failed.to_string().contains("no power"), "{failed}");
    for nonsense in [Vec::new(), vec![7; 100], vec![255; 16]] {
        let error = with_a_bad_rank(|rank| {
            rank.receive(0)?;
            rank.send(0, nonsense.clone());
            Ok(())
        });
        assert!(error.to_string().contains("cannot be read"), "{error}");
        assert!(
            error.to_string().contains("receiving from node 1"),
            "{error}"
        );
    }
    // The server's own message, sent back as it came: whole, but of a node that has not trained,
    // and then nothing more.
    let echo = with_a_bad_rank(|rank| {
        let message = rank.receive(0)?;
        rank.send(0, message.clone());
        rank.send(0, message);
        Ok(())
    });
    assert!(echo.to_string().contains("not the one expected"), "{echo}");
}

/// What a rank was doing is no part of another's error, and its work can be saved.
#[test]
fn another_ranks_failure_only_stops_the_work_here() {
    let heard = Mutex::new(None);
    transport::lead(
        Duration::from_secs(20),
        vec![()],
        |rank| {
            let outcome = rank.receive(1).map(drop).during(|| "doing something else");
            let whole = fed_distill::error::is_whole(&outcome);
            *heard.lock().unwrap() = outcome
                .as_ref()
                .err()
                .map(|error| (error.to_string(), whole));
            outcome
        },
        |(), _| Err(Error::failed("no power").note("while", "heating")),
    )
    .unwrap_err();
    let (text, whole) = heard.into_inner().unwrap().unwrap();
    assert!(
        text.contains("rank 1 failed: no power") && text.contains("heating"),
        "{text}"
    );
    assert!(whole && !text.contains("doing something else"), "{text}");
    assert!(!fed_distill::error::is_whole::<()>(&Err(Error::failed(
        "of my own"
    ))));
}

/// Longer than a busy machine keeps a rank from giving signs of life.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until `heard`, or for so long that a test fails.
fn wait_for(heard: &AtomicBool, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    while !heard.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(60) {
        meanwhile()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Rank 0 waits for rank 1, which works on and gives signs of life; rank 2 gives none.
#[test]
fn silent_rank_is_found_out() {
    let heard = AtomicBool::new(false);
    let error = transport::lead(
        TIMEOUT,
        vec![1, 2],
        |rank| {
            let outcome = rank.receive(1).map(drop);
            heard.store(true, Ordering::Relaxed);
            outcome
        },
        |which, _| match which {
            2 => wait_for(&heard, || Ok(())),
            _ => wait_for(&heard, interrupt::check),
        },
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("rank 2 has given no sign of life"),
        "{error}"
    );
}

/// What a rank sent before another one failed is not lost.
#[test]
fn what_has_arrived_outlasts_a_failure() {
    let (arrived, is_sent) = (Mutex::new(None), AtomicBool::new(false));
    let error = transport::lead(
        TIMEOUT,
        vec![1, 2],
        |rank| {
            // The failure of rank 2 comes after the message of rank 1.
            let error = rank.receive(2).unwrap_err();
            assert!(rank.receive(1).is_err());
            *arrived.lock().unwrap() = rank.arrived(1);
            assert_eq!(rank.arrived(1), None, "there is no other");
            Err::<(), _>(error)
        },
        |which, rank| match which {
            1 => {
                rank.send(0, b"batch".to_vec());
                is_sent.store(true, Ordering::Relaxed);
                rank.receive(0).map(drop)
            }
            _ => {
                wait_for(&is_sent, || Ok(()))?;
                Err(Error::failed("no power"))
            }
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("no power"), "{error}");
    assert_eq!(
        arrived.into_inner().unwrap().as_deref(),
        Some(&b"batch"[..])
    );
}

/// Rank 0 works, and waits for nobody.
#[test]
fn silent_rank_is_found_out_at_work() {
    let failed = AtomicBool::new(false);
    let error = transport::lead(
        TIMEOUT,
        vec![()],
        |_| {
            let outcome = wait_for(&failed, interrupt::check);
            failed.store(true, Ordering::Relaxed);
            outcome
        },
        |(), _| wait_for(&failed, || Ok(())),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("rank 1 has given no sign of life"),
        "{error}"
    );
}

#[test]
fn a_rank_that_hangs_or_panics_is_an_error_in_time() {
    let begun = Instant::now();
    let (heard, awake) = (AtomicBool::new(false), AtomicBool::new(false));
    let message = Mutex::new(None);
    let error = transport::lead(
        TIMEOUT,
        vec![1, 2],
        |rank| rank.receive(2).map(drop),
        |which, rank| {
            if which == 2 {
                // No sign of life from here until rank 1 has heard of it.
                let waited = wait_for(&heard, || Ok(()));
                awake.store(true, Ordering::Relaxed);
                return waited;
            }
            let error = rank.receive(0).unwrap_err();
            let in_time = !awake.load(Ordering::Relaxed);
            *message.lock().unwrap() = Some((error.to_string(), begun.elapsed(), in_time));
            heard.store(true, Ordering::Relaxed);
            Err(error)
        },
    )
    .unwrap_err();
    let words = "rank 2 has given no sign of life for 2 s";
    assert!(error.to_string().contains(words), "{error}");
    let (other, after, in_time) = message.into_inner().unwrap().unwrap();
    assert!(other.contains(words), "{other}");
    assert!(after >= TIMEOUT && in_time, "{after:?}");

    let error = with_a_bad_rank(|_| panic!("this belongs to the test"));
    assert!(error.to_string().contains("panicked"), "{error}");
}

/// Long work is no death: a rank gives signs of life at its safe points.
#[test]
fn a_rank_that_works_long_is_waited_for() {
    let results = on_ranks(2, |rank| {
        rank.set_timeout(TIMEOUT);
        if rank.number() == 1 {
            let begun = Instant::now();
            while begun.elapsed() < 2 * TIMEOUT {
                fed_distill::runtime::interrupt::check()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            rank.send(0, vec![1]);
            return Ok(Vec::new());
        }
        rank.receive(1)
    });
    assert_eq!(results.unwrap()[0], [1]);
}

/// Keeps what is sent, and lets bytes of rank 1 arrive one look after the other.
#[derive(Default)]
struct Slow {
    rank: usize,
    sent: Rc<RefCell<Vec<Vec<u8>>>>,
    arriving: VecDeque<Option<Vec<u8>>>,
}

impl Transport for Slow {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        2
    }

    fn send(&mut self, _: usize, bytes: Vec<u8>) {
        self.sent.borrow_mut().push(bytes);
    }

    fn poll(&mut self) -> Option<(usize, Vec<u8>)> {
        let bytes = self.arriving.pop_front().flatten()?;
        Some((1, bytes))
    }
}

/// The message of node 1 arrives between two looks of rank 0, and that of node 3 much later.
#[test]
fn message_between_two_looks_is_the_first_nodes() {
    let sent = Rc::default();
    let mut rank = Rank::new(Box::new(Slow {
        rank: 1,
        sent: Rc::clone(&sent),
        ..Slow::default()
    }));
    let mut link = Link::new(&mut rank);
    for node in [1, 3] {
        let state = StateDict::new(vec![("node".into(), Tensor::from(node as i64))]);
        link.upload(node, Kind::Scores, &state).unwrap();
    }
    let [first, second] = [0, 1].map(|index| Some(sent.borrow()[index].clone()));
    let mut rank = Rank::new(Box::new(Slow {
        arriving: VecDeque::from([None, first, None, None, second]),
        ..Slow::default()
    }));
    let answers = Link::new(&mut rank)
        .exchange(
            &[1, 3],
            None,
            [Kind::Scores],
            &mut |_, _, _| unreachable!(),
            None,
        )
        .unwrap();
    for (node, [state]) in answers {
        assert_eq!(
            i64::try_from(state.get("node").unwrap()).unwrap(),
            node as i64
        );
    }
}
