//! Tells a client what to do next. Nothing is kept of the question: a client that comes back after
//! any time asks again.

use super::super::fault::Fault;
use super::super::server::{Reply, Server};
use super::super::state::{Outcome, Phase};
use super::super::tokens::Client;
use super::super::uploads::Shown;
use super::{Call, json};
use crate::federated::At;
use crate::words::counted;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest wait for a change, in seconds.
const MOST_WAIT: u64 = 60;

/// What `GET /v1/next` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Next {
    /// `enrol`, `upload`, `train`, `wait`, `done` or `failed`.
    pub action: String,
    /// For people.
    pub message: String,
    /// When the server stops waiting, in seconds since 1970.
    pub deadline: Option<i64>,
    /// The caller's latest upload.
    pub upload: Option<Shown>,
    /// The hash and length of the result, once it is there.
    pub result: Option<(String, u64)>,
    /// The exchange that is asked for, or was last, where the task has rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// The hash and length of what the caller receives in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handout: Option<(String, u64)>,
}

/// Answers at once with `upload`, `done` and the like; with `wait` only once there is something new
/// to tell, or after `wait` seconds.
pub async fn next(call: Call, client: Client) -> Result<Reply, Fault> {
    let wait = call.query("wait").and_then(|text| text.parse().ok());
    let mut wait = Duration::from_secs(wait.unwrap_or(0_u64).min(MOST_WAIT));
    if let Some(plan) = &call.server.task.rounds {
        // Who waits here shows again that it is there before its time is over.
        wait = wait.min(Duration::from_secs(plan.lease_seconds.into()) / 3);
    }
    let until = Instant::now() + wait;
    let mut changes = call.server.store.changes();
    let mut told = None;
    loop {
        changes.mark_unchanged();
        let now = look(&call.server, &client)?;
        let over = Instant::now() >= until || *call.server.stopping.borrow();
        let is_new = *told.get_or_insert_with(|| now.message.clone()) != now.message;
        if now.action != "wait" || is_new || over {
            return json(StatusCode::OK, &now);
        }
        let changed = async {
            tokio::select! {
                _ = changes.changed() => {}
                () = call.server.stopped() => {}
            }
        };
        let _ = timeout_at(until, changed).await;
    }
}

/// Returns what a client has to do now.
fn look(server: &Arc<Server>, client: &Client) -> Result<Next, Fault> {
    let next = look_at_uploads(server, client)?;
    let has_begun = server.store.view(|state| state.phase == Phase::Closed);
    match server.task.rounds {
        Some(_) if has_begun && next.action == "wait" => look_at_rounds(server, client, next),
        _ => Ok(next),
    }
}

/// Returns what a client has to do in the rounds, which have begun.
fn look_at_rounds(server: &Server, client: &Client, next: Next) -> Result<Next, Fault> {
    server.store.view(|state| {
        let enrolment = state.clients.get(&client.id);
        let (Some(asked), Some(enrolment)) = (&state.rounds.current, enrolment) else {
            let message = match enrolment {
                Some(_) => "the server is at work",
                None => "this client has not enrolled",
            };
            return Ok(Next {
                action: if enrolment.is_some() { "wait" } else { "enrol" }.to_owned(),
                message: message.to_owned(),
                at: state.rounds.at(),
                ..next
            });
        };
        let own = next.upload.as_ref().filter(|_| {
            let upload = state.upload_of(&client.id);
            upload.is_some_and(|(_, upload)| upload.at == Some(asked.at))
        });
        let has_answered =
            own.is_some_and(|own| ["accepted", "checking"].contains(&own.status.as_str()));
        let is_asked = enrolment
            .node
            .is_some_and(|node| asked.nodes.contains(&node));
        let answered = state
            .answers()
            .filter(|(_, upload)| upload.outcome == Outcome::Accepted)
            .count();
        let train = is_asked && !has_answered;
        Ok(Next {
            action: if train { "train" } else { "wait" }.to_owned(),
            message: match train {
                true => format!("round {}: train", server.task.round(asked.at)),
                false => format!(
                    "round {}: {} of {} have answered",
                    server.task.round(asked.at),
                    answered,
                    counted(asked.nodes.len(), "client")
                ),
            },
            deadline: Some(state.extended.unwrap_or(asked.until)),
            at: Some(asked.at),
            handout: asked.handout.clone().filter(|_| train),
            ..next
        })
    })
}

/// Returns what a client has to do for one upload, or before the rounds.
fn look_at_uploads(server: &Arc<Server>, client: &Client) -> Result<Next, Fault> {
    let (phase, id, enrolled, deadline, accepted) = server.store.view(|state| {
        let upload = state.upload_of(&client.id).map(|(id, _)| id.to_owned());
        let accepted = super::super::collect::ready(server, state).len();
        (
            state.phase.clone(),
            upload,
            state.clients.contains_key(&client.id),
            super::super::collect::deadline(server, state),
            accepted,
        )
    });
    let upload = match id {
        Some(id) => Some(server.uploads.shown(client, &id)?),
        None => None,
    };
    if let Some(Shown { id, status, .. }) = &upload
        && status == "checking"
    {
        server.uploads.check_if_complete(id);
    }
    let status = upload.as_ref().map(|upload| upload.status.as_str());
    let task = &server.task;
    let (action, message) = match &phase {
        Phase::Done(_) if task.rounds.is_some() => ("done", "the rounds are over".to_owned()),
        Phase::Done(_) => ("done", "the student is ready".to_owned()),
        Phase::Failed(reason) => ("failed", reason.clone()),
        Phase::Closed if task.rounds.is_some() => ("wait", String::new()),
        Phase::Closed => {
            let used = server.store.view(|state| {
                let used = state.closed.iter().filter_map(|id| state.uploads.get(id));
                used.filter(|upload| upload.client == client.id)
                    .any(|upload| upload.outcome == Outcome::Accepted)
            });
            let working = match server.stage() {
                Some(stage) => format!("the server is at work: {stage}"),
                None => "the server is at work".to_owned(),
            };
            match used {
                true => ("wait", working),
                false => ("wait", working + "; no upload of this client is used"),
            }
        }
        Phase::Collecting if !enrolled => ("enrol", "this client has not enrolled".to_owned()),
        Phase::Collecting if task.rounds.is_some() => (
            "wait",
            format!(
                "{} of {} are here",
                accepted,
                counted(task.clients, "client")
            ),
        ),
        Phase::Collecting => match status {
            Some("accepted") => (
                "wait",
                format!(
                    "{} of {} accepted",
                    accepted,
                    counted(task.clients, "upload")
                ),
            ),
            Some("checking") => ("wait", "the upload is being checked".to_owned()),
            Some("refused") => ("upload", "the upload was refused; send another".to_owned()),
            _ => ("upload", "send the teacher".to_owned()),
        },
    };
    Ok(Next {
        action: action.to_owned(),
        message,
        deadline: deadline.filter(|_| phase == Phase::Collecting),
        upload,
        result: match phase {
            Phase::Done(download) => download.map(|file| (file.sha256, file.bytes)),
            _ => None,
        },
        at: None,
        handout: None,
    })
}
