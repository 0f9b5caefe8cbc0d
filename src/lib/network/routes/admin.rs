//! Does what the host of the server asks for.

use super::super::collect;
use super::super::fault::Fault;
use super::super::server::Reply;
use super::super::tokens::Role;
use super::{Call, blocking, json};
use hyper::StatusCode;
use serde_json::json;
use std::sync::Arc;

/// Lists the clients, with their uploads.
pub fn clients(call: &Call) -> Result<Reply, Fault> {
    let server = &call.server;
    let clients = server.tokens.clients();
    let rows = clients.iter().filter(|client| client.role == Role::Client);
    let rows = rows.map(|client| {
        let upload = server.store.view(|state| {
            let (id, _) = state.upload_of(&client.id)?;
            Some(id.to_owned())
        });
        let upload = upload
            .map(|id| server.uploads.shown(client, &id))
            .transpose()?;
        let images = server.store.view(|state| {
            state
                .clients
                .get(&client.id)
                .map(|enrolment| enrolment.images)
        });
        Ok(json!({
            "id": client.id, "name": client.name, "added": client.added,
            "revoked": client.revoked, "images": images, "upload": upload,
            "seen": server.callers.seen(&client.id),
        }))
    });
    let rows = rows.collect::<Result<Vec<_>, Fault>>()?;
    json(StatusCode::OK, &rows)
}

/// Closes the uploads with those that are accepted.
pub async fn close(call: Call) -> Result<Reply, Fault> {
    let server = Arc::clone(&call.server);
    blocking(move || collect::close(&server)).await?;
    json(StatusCode::OK, &json!({"closed": true}))
}

/// Ends the work; `serve run` resumes it.
pub async fn abort(call: Call) -> Result<Reply, Fault> {
    let server = Arc::clone(&call.server);
    blocking(move || collect::abort(&server)).await?;
    json(StatusCode::OK, &json!({"aborted": true}))
}
