//! Ranks that end, fail, hang, panic or work long.

use crate::fed_avg::support::{Log, federation, plain};
use crate::support::{normalisation, on_ranks};
use fed_distill::error::During;
use fed_distill::federated::fed_avg;
use fed_distill::federated::transport::{self, Rank};
use fed_distill::model::ModelKind;
use fed_distill::runtime::interrupt;
use fed_distill::{Error, Result};
use std::sync::Mutex;
use std::time::{Duration, Instant};

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

#[test]
fn a_rank_that_ends_or_sends_nonsense_is_an_error_for_all() {
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

/// Rank 0 waits for rank 1, which works on and gives signs of life; rank 2 gives none.
#[test]
fn a_silent_rank_is_found_out_by_who_waits_for_another() {
    let begun = Instant::now();
    let error = transport::lead(
        Duration::from_millis(300),
        vec![1, 2],
        |rank| rank.receive(1).map(drop),
        |which, _| {
            if which == 2 {
                std::thread::sleep(Duration::from_secs(2));
                return Ok(());
            }
            while begun.elapsed() < Duration::from_secs(10) {
                interrupt::check()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        },
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("rank 2 has given no sign of life"),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_rank_that_hangs_or_panics_is_an_error_in_time() {
    let timeout = Duration::from_millis(400);
    let begun = Instant::now();
    let heard = Mutex::new(None);
    let error = transport::lead(
        timeout,
        vec![1, 2],
        |rank| rank.receive(2).map(drop),
        |which, rank| {
            if which == 2 {
                // No sign of life from here.
                std::thread::sleep(Duration::from_secs(2));
                return Ok(());
            }
            let error = rank.receive(0).unwrap_err();
            *heard.lock().unwrap() = Some((error.to_string(), begun.elapsed()));
            Err(error)
        },
    )
    .unwrap_err();
    let words = "rank 2 has given no sign of life for 0.4 s";
    assert!(error.to_string().contains(words), "{error}");
    let (other, after) = heard.into_inner().unwrap().unwrap();
    assert!(other.contains(words), "{other}");
    assert!(
        after >= timeout && after < Duration::from_millis(1500),
        "{after:?}"
    );

    let error = with_a_bad_rank(|_| panic!("this belongs to the test"));
    assert!(error.to_string().contains("panicked"), "{error}");
}

/// Long work is no death: a rank gives signs of life at its safe points.
#[test]
fn a_rank_that_works_long_is_waited_for() {
    let results = on_ranks(2, |rank| {
        rank.set_timeout(Duration::from_millis(200));
        if rank.number() == 1 {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(800) {
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
