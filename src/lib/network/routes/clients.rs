//! Enrols clients.

use super::super::fault::Fault;
use super::super::server::Reply;
use super::super::state::{Event, MOST_ATTEMPTS, Outcome, Phase};
use super::super::tokens::Client;
use super::{Call, blocking, json};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a client declares.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// Training images, synthetic ones included.
    pub images: u64,
    /// The fingerprint of the task that the client knows.
    pub task: String,
}

/// Enrols the caller, or takes its number of images in again.
pub async fn enrol(mut call: Call, client: Client) -> Result<Reply, Fault> {
    let wanted: Enrol = call.json().await?;
    let server = Arc::clone(&call.server);
    let id = client.id.clone();
    blocking(move || {
        let ours = server.task.fingerprint()?;
        if wanted.task != ours {
            let text = format!("the server's task is {ours}");
            return Err(Fault::new(StatusCode::CONFLICT, "other_task", text)
                .hint("GET /v1/task, and compare"));
        }
        let most = server.task.max_images;
        if wanted.images == 0 || wanted.images > most {
            let text = format!("{} images were declared", wanted.images);
            return Err(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "images", text)
                .hint(format!("the task takes 1 to {most}")));
        }
        server.store.commit(|state| {
            let known = state.clients.get(&client.id);
            if known.is_some_and(|known| known.images == wanted.images) {
                return Ok(None);
            }
            let conflict = |text: String| Fault::new(StatusCode::CONFLICT, "enrolment", text);
            // Rounds take more clients at any time, but none changes its weight.
            let open = match server.task.rounds {
                Some(_) if known.is_none() => {
                    matches!(state.phase, Phase::Collecting | Phase::Closed)
                }
                _ => state.phase == Phase::Collecting,
            };
            let is_accepted = state
                .upload_of(&client.id)
                .is_some_and(|(_, upload)| upload.outcome == Outcome::Accepted);
            match known {
                None if !open => {
                    return Err(conflict("the server takes no more clients".into())
                        .hint("the result is for all who have a token: `join fetch`"));
                }
                Some(known) if !open || is_accepted => {
                    let (earlier, now) = (known.images, wanted.images);
                    return Err(conflict(format!(
                        "this client takes part with {earlier} training images, not {now}"
                    ))
                    .hint(
                        "one number a client; to change it, the host revokes the token and adds \
                         the client again, before the student or the rounds are begun",
                    ));
                }
                _ => {}
            }
            if known.is_some_and(|known| known.attempts >= MOST_ATTEMPTS) {
                return Err(conflict(
                    "the number of images was changed too often".into(),
                ));
            }
            tracing::info!("{}: here, with {} images", client.name, wanted.images);
            Ok(Some(Event::Enrolled {
                client: client.id.clone(),
                name: client.name.clone(),
                images: wanted.images,
                node: server
                    .task
                    .rounds
                    .as_ref()
                    .and_then(|_| server.tokens.node(&client.id)),
            }))
        })
    })
    .await?;
    let index = call.server.store.view(|state| {
        let (index, _, enrolment) = state.clients.get_full(&id)?;
        Some(enrolment.node.unwrap_or(index))
    });
    json(StatusCode::OK, &serde_json::json!({"index": index}))
}
