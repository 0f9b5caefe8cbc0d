//! Sends the result, and what a round hands out, from any byte on.

use super::super::fault::Fault;
use super::super::server::Reply;
use super::super::state::{Download, Phase};
use super::Call;
use crate::artifact::fault::explain;
use crate::federated::At;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE, RANGE,
};
use hyper::{Response, StatusCode};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Read from the disk at a time, in bytes.
const CHUNK: u64 = 128 << 10;
/// Chunks that wait for the network.
const WAITING: usize = 2;

/// Answers with the result.
pub async fn send(call: Call) -> Result<Reply, Fault> {
    let phase = call.server.store.view(|state| state.phase.clone());
    match phase {
        Phase::Done(None) => {
            let text = "each client has its own result";
            Err(Fault::new(StatusCode::NOT_FOUND, "no_result", text))
        }
        Phase::Done(Some(Download { sha256, bytes })) => send_file(call, sha256, bytes),
        _ => {
            let text = "the result is not there yet";
            Err(Fault::new(StatusCode::CONFLICT, "not_ready", text)
                .hint("GET /v1/next tells how far the server is")
                .retry_after(30))
        }
    }
}

/// Answers with what clients receive in the round that has this many before it.
pub async fn hand_out(call: Call) -> Result<Reply, Fault> {
    let (at, handout) = call.server.store.view(|state| {
        let current = state.rounds.current.as_ref();
        let of_round = current.filter(|asked| asked.at.round.to_string() == call.id);
        let handout = of_round.and_then(|asked| asked.handout.clone());
        (state.rounds.at(), handout)
    });
    let is_over = |at: At| call.id.parse().is_ok_and(|round: usize| round <= at.round);
    match handout {
        Some((sha256, bytes)) => send_file(call, sha256, bytes),
        None if at.is_some_and(is_over) => {
            let text = "the round hands nothing out any more";
            Err(Fault::new(StatusCode::GONE, "late", text)
                .hint("GET /v1/next tells what the server waits for now"))
        }
        None => {
            let text = "there is no such round yet";
            Err(Fault::new(StatusCode::NOT_FOUND, "no_round", text)
                .hint("GET /v1/next tells which one there is"))
        }
    }
}

/// Answers with the file of this hash and length, or the part that `Range` asks for. The `ETag` is
/// its SHA-256.
fn send_file(call: Call, sha256: String, bytes: u64) -> Result<Reply, Fault> {
    let path = call.server.store.blob(&sha256);
    let mut file = File::open(&path).map_err(|error| explain("read", &path, error))?;
    let tag = format!("\"{sha256}\"");
    let headers = &call.parts.headers;
    let header = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    // A range of another file would not fit what the client has.
    let same = header(IF_RANGE).is_none_or(|given| given == tag);
    let range = header(RANGE)
        .filter(|_| same)
        .and_then(|range| asked(range, bytes));
    let (status, range) = match range {
        None => (StatusCode::OK, 0..bytes),
        Some(Some(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(None) => {
            let text = format!("the file has {bytes} bytes");
            let fault = Fault::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", text);
            return Err(match HeaderValue::from_str(&format!("bytes */{bytes}")) {
                Ok(value) => fault.header(CONTENT_RANGE, value),
                Err(_) => fault,
            });
        }
    };
    file.seek(SeekFrom::Start(range.start))
        .map_err(|error| explain("read", &path, error))?;
    let (mut chunks, body) = Channel::<Bytes, io::Error>::new(WAITING);
    let length = range.end - range.start;
    tokio::spawn(async move {
        let mut left = length;
        while left > 0 {
            let count = left.min(CHUNK);
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; count as usize];
                file.read_exact(&mut chunk).map(|()| (file, chunk))
            });
            let chunk = match read.await {
                Ok(Ok((same, chunk))) => {
                    file = same;
                    chunk
                }
                Ok(Err(error)) => return chunks.abort(error),
                Err(error) => return chunks.abort(io::Error::other(error)),
            };
            // The client has gone.
            if chunks.send_data(chunk.into()).await.is_err() {
                return;
            }
            left -= count;
        }
    });
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, value);
    }
    let shown = format!(
        "bytes {}-{}/{bytes}",
        range.start,
        range.end.saturating_sub(1)
    );
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::from_str(&shown)
    {
        headers.insert(CONTENT_RANGE, value);
    }
    Ok(reply)
}

/// Returns the bytes that `Range` asks for: `None` for a form that is not served, which counts as
/// no range; `Some(None)` for bytes that are not there.
fn asked(range: &str, bytes: u64) -> Option<Option<Range<u64>>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let to = match to {
        "" => bytes,
        to => to.parse::<u64>().ok()?.saturating_add(1).min(bytes),
    };
    Some((from < to).then_some(from..to))
}
