//! Tells a client what to do next. Nothing is kept of the question: a client that comes back after
//! any time asks again.

use super::super::fault::Fault;
use super::super::server::{Reply, Server};
use super::super::state::{Outcome, Phase};
use super::super::tokens::Client;
use super::super::uploads::Shown;
use super::{Call, json};
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
    /// `enrol`, `upload`, `wait`, `done` or `failed`.
    pub action: String,
    /// For people.
    pub message: String,
    /// When the server stops waiting, in seconds since 1970.
    pub deadline: Option<i64>,
    /// The caller's latest upload.
    pub upload: Option<Shown>,
    /// The hash and length of the result, once it is there.
    pub result: Option<(String, u64)>,
}

/// Answers at once with `upload`, `done` and the like; with `wait` only once there is something new
/// to tell, or after `wait` seconds.
pub async fn next(call: Call, client: Client) -> Result<Reply, Fault> {
    let wait = call.query("wait").and_then(|text| text.parse().ok());
    let wait = Duration::from_secs(wait.unwrap_or(0_u64).min(MOST_WAIT));
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
    let (phase, id, enrolled, deadline, accepted) = server.store.view(|state| {
        let upload = state.upload_of(&client.id).map(|(id, _)| id.to_owned());
        let accepted = state
            .accepted(|client| server.tokens.is_valid(client))
            .len();
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
        Phase::Done { .. } => ("done", "the student is ready".to_owned()),
        Phase::Failed(reason) => ("failed", reason.clone()),
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
                false => ("wait", working + "; this client's upload came too late"),
            }
        }
        Phase::Collecting if !enrolled => ("enrol", "declare the number of images".to_owned()),
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
            Phase::Done { sha256, bytes } => Some((sha256, bytes)),
            _ => None,
        },
    })
}
