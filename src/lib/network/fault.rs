//! Tells a client why its request was refused: a status, a code for programs, a message and a hint
//! for people, as JSON.

use super::server::{Reply, full};
use crate::error::Error;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;

/// Holds why a request was refused.
#[derive(Debug)]
pub struct Fault {
    pub status: StatusCode,
    told: Told,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Holds what the answer's body tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    /// Returns a fault; `code` is a word in snake case.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            told: Told {
                code: code.to_owned(),
                message: message.into(),
                hint: None,
            },
            headers: Vec::new(),
        }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.told.hint = Some(hint.into());
        self
    }

    /// Asks the client to come back after so many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Returns the answer.
    pub fn reply(self) -> Reply {
        let body = serde_json::to_vec(&self.told).unwrap_or_default();
        let mut reply = Response::new(full(body));
        *reply.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        reply.headers_mut().insert(CONTENT_TYPE, json);
        for (name, value) in self.headers {
            reply.headers_mut().insert(name, value);
        }
        reply
    }
}

/// Reports an error of the server itself. The client gets no paths; the log has the whole text.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        tracing::error!("{error}");
        use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let full =
            |io: &std::io::Error| matches!(io.kind(), StorageFull | QuotaExceeded | FileTooLarge);
        match error.io().is_some_and(full) {
            true => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk_full",
                "the server's disk is full",
            )
            .hint("try again later; what was sent is kept")
            .retry_after(60),
            false => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the server could not do this; its log has the reason",
            )
            .retry_after(5),
        }
    }
}
