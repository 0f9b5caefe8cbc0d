//! Decides when the uploads are complete, or with rounds the clients: when all have answered, at
//! the deadline with enough of them, or when the host says so. Too few at the deadline move it
//! once; then the work fails, and can be resumed.

use super::fault::Fault;
use super::server::Server;
use super::state::{Event, Outcome, Phase, State};
use super::tokens::Role;
use super::{now, shown_time};
use crate::error::Error;
use crate::words::counted;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often the clock is compared with the deadline.
const TICK: Duration = Duration::from_millis(500);

/// Closes the uploads when it is time. Returns when they are closed, or cannot be.
pub async fn until_closed(server: Arc<Server>) {
    let mut changes = server.store.changes();
    loop {
        let phase = server.store.view(|state| state.phase.clone());
        if phase != Phase::Collecting {
            return;
        }
        let deciding = Arc::clone(&server);
        let decided = tokio::task::spawn_blocking(move || {
            let own = &deciding;
            own.store
                .commit(|state| Ok::<_, Error>(due(own, state, now())))
        });
        if let Ok(Err(error)) = decided.await {
            tracing::error!("{error}");
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep(TICK) => {}
        }
    }
}

/// Returns what is due at a time, in seconds since 1970.
fn due(server: &Server, state: &State, now: i64) -> Option<Event> {
    if state.phase != Phase::Collecting {
        return None;
    }
    let task = &server.task;
    let (uploads, what) = (ready(server, state), what(server));
    if uploads.len() >= task.clients {
        tracing::info!("the {what}s are complete: {}", uploads.len());
        return Some(Event::Closed { uploads });
    }
    let deadline = deadline(server, state).filter(|deadline| *deadline <= now)?;
    // What was complete in time counts.
    if server.uploads.has_unchecked(state, |_| true) {
        return None;
    }
    if uploads.len() >= task.min_clients {
        let here = counted(uploads.len(), what);
        tracing::warn!(
            "the deadline has passed: continuing with {here}; {}",
            missing(server, state)
        );
        return Some(Event::Closed { uploads });
    }
    let few = format!(
        "{} at the deadline, and {} needed; {}",
        counted(uploads.len(), what),
        task.min_clients,
        missing(server, state)
    );
    if state.extended.is_none() && task.extension_hours > 0 {
        // From now on, if the server was down at the deadline.
        let until = deadline.max(now) + 3600 * i64::from(task.extension_hours);
        tracing::warn!("{few}: waiting until {}", shown_time(until));
        return Some(Event::Extended { until });
    }
    tracing::error!("{few}");
    Some(Event::Failed { reason: few })
}

/// Returns the ids of the accepted uploads, or with rounds of the clients that have enrolled, of
/// those whose tokens are valid, in order of enrolment.
pub fn ready(server: &Server, state: &State) -> Vec<String> {
    let is_valid = |client: &str| server.tokens.is_valid(client);
    match server.task.rounds {
        None => state.accepted(is_valid),
        Some(_) => {
            let clients = state.clients.keys();
            clients.filter(|id| is_valid(id)).cloned().collect()
        }
    }
}

/// Returns what the server collects, in a word.
pub fn what(server: &Server) -> &'static str {
    match server.task.rounds {
        None => "upload",
        Some(_) => "client",
    }
}

/// Returns when the server stops waiting, in seconds since 1970. The host may have moved the task's
/// deadline beyond the one that was extended, or removed it.
pub fn deadline(server: &Server, state: &State) -> Option<i64> {
    let agreed = server.task.deadline()?;
    Some(state.extended.map_or(agreed, |moved| moved.max(agreed)))
}

/// Returns the names of the clients whose uploads are not accepted, or with rounds of those that
/// have not enrolled.
pub fn missing_names(server: &Server, state: &State) -> Vec<String> {
    let accepted = state.accepted(|_| true);
    let has = |id: &str| {
        let known = state.clients.get(id);
        if server.task.rounds.is_some() {
            return known.is_some();
        }
        let upload = known.and_then(|client| client.upload.as_ref());
        upload.is_some_and(|upload| accepted.contains(upload))
    };
    let clients = server.tokens.clients();
    let awaited = clients
        .iter()
        .filter(|client| client.role == Role::Client && client.revoked.is_none());
    awaited
        .filter(|client| !has(&client.id))
        .map(|client| client.name.clone())
        .collect()
}

fn missing(server: &Server, state: &State) -> String {
    let names = missing_names(server, state);
    match names.is_empty() {
        true => "no client is missing".into(),
        false => format!("missing: {}", names.join(", ")),
    }
}

/// A deadline by order of the host, which is over in any case.
pub const NOW: i64 = 0;

/// Closes the uploads by order of the host, or in rounds the exchange that is asked for.
///
/// # Errors
/// Fails when they are closed already, and when there are too few.
pub fn close(server: &Server) -> Result<(), Fault> {
    let conflict = |text: String| Fault::new(StatusCode::CONFLICT, "cannot_close", text);
    server.store.commit(|state| {
        if let Phase::Failed(reason) = &state.phase {
            return Err(conflict(format!("the work has stopped: {reason}")));
        }
        if let Some(asked) = &state.rounds.current {
            let accepted = state
                .answers()
                .filter(|(_, upload)| upload.outcome == Outcome::Accepted)
                .filter(|(_, upload)| server.tokens.is_valid(&upload.client));
            let (here, least) = (accepted.count(), server.task.min_clients);
            let least = least.min(asked.nodes.len());
            return match here >= least {
                true => Ok(Some(Event::Extended { until: NOW })),
                false => Err(conflict(format!(
                    "{} here, and {least} needed",
                    counted(here, "answer")
                ))),
            };
        }
        if state.phase != Phase::Collecting {
            return Err(conflict(format!("the {}s are complete", what(server))));
        }
        let uploads = ready(server, state);
        let least = server.task.min_clients;
        match uploads.len() >= least {
            true => Ok(Some(Event::Closed { uploads })),
            false => Err(conflict(format!(
                "{} here, and {least} needed; {}",
                counted(uploads.len(), what(server)),
                missing(server, state)
            ))),
        }
    })
}

/// Ends the work by order of the host; it can be resumed.
///
/// # Errors
/// Fails when there is nothing to end.
pub fn abort(server: &Server) -> Result<(), Fault> {
    server.store.commit(|state| match state.phase {
        Phase::Collecting | Phase::Closed => Ok(Some(Event::Failed {
            reason: "the host ended it".into(),
        })),
        Phase::Done(_) | Phase::Failed(_) => Err(Fault::new(
            StatusCode::CONFLICT,
            "cannot_abort",
            "there is nothing to end",
        )),
    })
}
