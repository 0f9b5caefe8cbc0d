//! Takes uploads: the core of the tus protocol, with a JSON announcement in place of headers.

use super::super::fault::Fault;
use super::super::server::{Reply, full};
use super::super::tokens::Client;
use super::super::uploads::{Announce, OFFSET, Piece, Shown};
use super::{Call, blocking, ended, json};
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
};
use hyper::{Response, StatusCode};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const VERSION: HeaderName = HeaderName::from_static("tus-resumable");
/// The type of a piece.
const PIECE: &str = "application/offset+octet-stream";
/// How often a client that sends a piece counts as having called.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Announces an upload: 201 for a new one, 200 for the caller's own of the same content.
pub async fn announce(mut call: Call, client: Client) -> Result<Reply, Fault> {
    let wanted: Announce = call.json().await?;
    let uploads = Arc::clone(&call.server.uploads);
    let (shown, is_new) = blocking(move || uploads.announce(&client, &wanted)).await?;
    call.server.uploads.check_if_complete(&shown.id);
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let mut reply = json(status, &shown)?;
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/uploads/{}", shown.id)) {
        reply.headers_mut().insert(LOCATION, place);
    }
    describe(&mut reply, &shown);
    Ok(reply)
}

/// Answers with how many bytes are here.
pub fn offset(call: &Call, client: &Client) -> Result<Reply, Fault> {
    let shown = call.server.uploads.shown(client, &call.id)?;
    let mut reply = Response::new(full(Vec::new()));
    describe(&mut reply, &shown);
    let no_store = HeaderValue::from_static("no-store");
    reply.headers_mut().insert(CACHE_CONTROL, no_store);
    Ok(reply)
}

/// Receives a piece: 204, or 202 once all bytes are here and are checked.
pub async fn piece(call: Call, client: Client) -> Result<Reply, Fault> {
    let headers = &call.parts.headers;
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind != Some(PIECE.as_bytes()) {
        let text = format!("a piece has the type `{PIECE}`");
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "type", text));
    }
    let Some(length) = number(&CONTENT_LENGTH) else {
        let text = "a piece needs a Content-Length";
        return Err(Fault::new(StatusCode::LENGTH_REQUIRED, "no_length", text));
    };
    let Some(offset) = number(&OFFSET) else {
        let text = "a piece needs an Upload-Offset, in bytes";
        return Err(Fault::new(StatusCode::BAD_REQUEST, "no_offset", text));
    };
    let piece = Piece { offset, length };
    // As a task of its own it keeps what has arrived when the connection ends.
    let receiving = async move {
        let uploads = &call.server.uploads;
        let mut received = pin!(uploads.receive(&client, &call.id, piece, call.body));
        loop {
            tokio::select! {
                shown = received.as_mut() => return shown,
                // In rounds an answer may take longer than the lease of a client that is silent.
                () = sleep(SIGN_OF_LIFE) => call.server.callers.saw(&client.id),
            }
        }
    };
    let shown = tokio::spawn(receiving).await.map_err(ended)??;
    let mut reply = Response::new(full(Vec::new()));
    *reply.status_mut() = match shown.status.as_str() {
        "open" => StatusCode::NO_CONTENT,
        _ => StatusCode::ACCEPTED,
    };
    describe(&mut reply, &shown);
    Ok(reply)
}

/// Answers with what became of an upload.
pub fn show(call: &Call, client: &Client) -> Result<Reply, Fault> {
    let shown = call.server.uploads.shown(client, &call.id)?;
    if shown.status == "checking" {
        call.server.uploads.check_if_complete(&shown.id);
    }
    let mut reply = json(StatusCode::OK, &shown)?;
    describe(&mut reply, &shown);
    Ok(reply)
}

fn describe(reply: &mut Reply, shown: &Shown) {
    let headers = reply.headers_mut();
    headers.insert(VERSION, HeaderValue::from_static("1.0.0"));
    headers.insert(OFFSET, HeaderValue::from(shown.offset));
    headers.insert(LENGTH, HeaderValue::from(shown.bytes));
}
