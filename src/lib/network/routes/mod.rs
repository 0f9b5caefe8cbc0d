//! Answers requests: the table of routes, who may call them, and a file a subject.

mod admin;
mod clients;
mod curves;
mod health;
mod next;
mod page;
mod result;
mod task;
mod uploads;

pub use clients::Enrol;
pub use next::Next;

use super::fault::Fault;
use super::server::{Reply, Server, full};
use super::tokens::{Client, Role};
use crate::artifact;
use crate::error::Error;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue,
    WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Longest JSON that a client sends, in bytes.
const MOST_JSON: usize = 64 << 10;
/// Addresses whose wrong tokens are counted.
const MOST_CALLERS: usize = 4096;
/// Ends a connection with the answer. Whoever has no valid token gets it with every one: kept open,
/// a few such connections would take the places of all clients.
const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// The time in which wrong tokens are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Anybody,
    /// Clients and the host.
    Token,
    Client,
    Admin,
}

/// Names what a route does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Health,
    Ready,
    Page,
    Metrics,
    Task,
    Enrol,
    Next,
    Announce,
    Offset,
    Piece,
    Upload,
    Result,
    Handout,
    Clients,
    Close,
    Abort,
}

/// Holds a row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    /// A segment in braces stands for any.
    pub path: &'static str,
    pub access: Access,
    action: Action,
}

const fn route(method: &'static str, path: &'static str, access: Access, action: Action) -> Route {
    Route {
        method,
        path,
        access,
        action,
    }
}

/// All routes.
pub const ROUTES: &[Route] = &[
    route("GET", "/healthz", Access::Anybody, Action::Health),
    route("GET", "/readyz", Access::Anybody, Action::Ready),
    route("GET", "/", Access::Admin, Action::Page),
    route("GET", "/metrics", Access::Admin, Action::Metrics),
    route("GET", "/v1/task", Access::Token, Action::Task),
    route("PUT", "/v1/clients/me", Access::Client, Action::Enrol),
    route("GET", "/v1/next", Access::Client, Action::Next),
    route("POST", "/v1/uploads", Access::Client, Action::Announce),
    route("HEAD", "/v1/uploads/{id}", Access::Client, Action::Offset),
    route("PATCH", "/v1/uploads/{id}", Access::Client, Action::Piece),
    route("GET", "/v1/uploads/{id}", Access::Client, Action::Upload),
    route(
        "GET",
        "/v1/rounds/{id}/handout",
        Access::Client,
        Action::Handout,
    ),
    route("GET", "/v1/result", Access::Token, Action::Result),
    route("GET", "/v1/admin/clients", Access::Admin, Action::Clients),
    route("POST", "/v1/admin/close", Access::Admin, Action::Close),
    route("POST", "/v1/admin/abort", Access::Admin, Action::Abort),
];

/// Holds a request whose caller is known.
struct Call {
    server: Arc<Server>,
    parts: Parts,
    body: Incoming,
    /// The segment that stands for `{id}`.
    id: String,
}

/// Answers a request.
///
/// # Errors
/// Fails when there is no such route, when its caller may not call it, and as the route does.
pub async fn answer(
    server: &Arc<Server>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    let (parts, body) = request.into_parts();
    let (route, id) = find(parts.method.as_str(), parts.uri.path())?;
    let caller = match route.access {
        Access::Anybody => None,
        _ => Some(admit(server, peer, route, &parts.headers)?),
    };
    let call = Call {
        server: Arc::clone(server),
        parts,
        body,
        id,
    };
    let Some(client) = caller else {
        let mut reply = match route.action {
            Action::Ready => health::ready(server),
            _ => health::alive(),
        };
        reply.headers_mut().insert(CONNECTION, CLOSE);
        return Ok(reply);
    };
    match route.action {
        Action::Health | Action::Ready => Ok(health::alive()),
        Action::Page => page::show(&call),
        Action::Metrics => Ok(health::metrics(server)),
        Action::Task => task::show(&call, &client),
        Action::Enrol => clients::enrol(call, client).await,
        Action::Next => next::next(call, client).await,
        Action::Announce => uploads::announce(call, client).await,
        Action::Offset => uploads::offset(&call, &client),
        Action::Piece => uploads::piece(call, client).await,
        Action::Upload => uploads::show(&call, &client),
        Action::Result => result::send(call).await,
        Action::Handout => result::hand_out(call).await,
        Action::Clients => admin::clients(&call),
        Action::Close => admin::close(call).await,
        Action::Abort => admin::abort(call).await,
    }
}

/// Returns the route of a request, and the segment that stands for `{id}`.
fn find(method: &str, path: &str) -> Result<(&'static Route, String), Fault> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        if let Some(id) = matched(route.path, path) {
            if route.method == method {
                return Ok((route, id));
            }
            allowed.push(route.method);
        }
    }
    if allowed.is_empty() {
        return Err(
            Fault::new(StatusCode::NOT_FOUND, "no_route", "there is nothing here")
                .hint("docs/openapi.yaml has all routes")
                .header(CONNECTION, CLOSE),
        );
    }
    let allowed = allowed.join(", ");
    let text = format!("`{method}` does not apply here");
    let fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", text)
        .hint(format!("what applies: {allowed}"))
        .header(CONNECTION, CLOSE);
    Err(match HeaderValue::from_str(&allowed) {
        Ok(value) => fault.header(ALLOW, value),
        Err(_) => fault,
    })
}

/// Returns the segment that stands for `{id}`, or nothing, if a path is of a pattern.
fn matched(pattern: &str, path: &str) -> Option<String> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut id = String::new();
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(id),
            (Some("{id}"), Some(given)) if !given.is_empty() => given.clone_into(&mut id),
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

/// Counts wrong tokens, and remembers when a client called last.
#[derive(Default)]
pub struct Callers {
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
    /// By the clock of the machine, to show, and by one that nobody sets.
    seen: Mutex<HashMap<String, (i64, Instant)>>,
}

impl Callers {
    /// Returns when a client called last, in seconds since 1970.
    pub fn seen(&self, id: &str) -> Option<i64> {
        self.last(id).map(|(seen, _)| seen)
    }

    /// Returns for how long a client has not called, if it has called.
    pub fn idle(&self, id: &str) -> Option<Duration> {
        self.last(id).map(|(_, seen)| seen.elapsed())
    }

    fn last(&self, id: &str) -> Option<(i64, Instant)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(id).copied()
    }

    fn saw(&self, id: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(id.to_owned(), (super::now(), Instant::now()));
    }

    /// Counts a wrong token of an address. Returns false once there were more than `most` in a
    /// minute.
    fn may_fail(&self, peer: IpAddr, most: u32) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_CALLERS {
            failures.retain(|_, (since, _)| since.elapsed() < MINUTE);
        }
        if failures.len() >= MOST_CALLERS && !failures.contains_key(&peer) {
            return false;
        }
        let (since, count) = failures.entry(peer).or_insert((Instant::now(), 0));
        if since.elapsed() >= MINUTE {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
        *count <= most
    }
}

/// Returns the client whose token the request has, if it may call the route.
fn admit(
    server: &Server,
    peer: IpAddr,
    route: &Route,
    headers: &HeaderMap,
) -> Result<Client, Fault> {
    let given = token(headers, route.method == "GET");
    let holder = given.as_ref().and_then(|token| server.tokens.holder(token));
    let valid = holder.as_ref().filter(|client| client.revoked.is_none());
    let Some(client) = valid else {
        // A right token is never kept out by others' wrong ones: it cannot be guessed, and several
        // clients may share an address.
        if !server.callers.may_fail(peer, server.limits.failures) {
            return Err(Fault::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "too many wrong tokens came from this address",
            )
            .retry_after(60)
            .header(CONNECTION, CLOSE));
        }
        // Browsers ask for a password, which is the token.
        let scheme = match route.access {
            Access::Admin if route.method == "GET" => {
                "Basic realm=\"fed-distill: any name, the token as password\""
            }
            _ => "Bearer",
        };
        return Err(Fault::new(
            StatusCode::UNAUTHORIZED,
            "no_token",
            match (holder, given) {
                (Some(_), _) => "the token was revoked",
                (None, Some(_)) => "the token is none of this server's",
                (None, None) => "the token is missing",
            },
        )
        .hint("the host of the server gives tokens: `serve client add FOLDER NAME`")
        .header(WWW_AUTHENTICATE, HeaderValue::from_static(scheme))
        .header(CONNECTION, CLOSE));
    };
    let allowed = match route.access {
        Access::Anybody | Access::Token => true,
        Access::Client => client.role == Role::Client,
        Access::Admin => client.role == Role::Admin,
    };
    if !allowed {
        let hint = match route.access {
            Access::Admin => "it takes a token of the host: `serve client add FOLDER NAME --admin`",
            _ => "it takes a token of a client: `serve client add FOLDER NAME`",
        };
        let text = "this token does not allow it";
        return Err(Fault::new(StatusCode::FORBIDDEN, "not_allowed", text).hint(hint));
    }
    server.callers.saw(&client.id);
    Ok(client.clone())
}

/// Returns the token of a request: `Bearer TOKEN`, or with `basic` the password of `Basic`, which a
/// browser adds by itself: any page could let it close the uploads.
fn token(headers: &HeaderMap, basic: bool) -> Option<String> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (header, other) = (given.next()?.to_str().ok()?, given.next());
    let (scheme, value) = header.split_once(' ').filter(|_| other.is_none())?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_owned());
    }
    if !basic || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
    decoded
        .split_once(':')
        .map(|(_, password)| password.to_owned())
}

impl Call {
    /// Reads the body as JSON.
    async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let wrong = |text: String| Fault::new(StatusCode::BAD_REQUEST, "body", text);
        let collecting = Limited::new(&mut self.body, MOST_JSON).collect();
        let collected = timeout(self.server.limits.head, collecting).await;
        let collected = collected
            .map_err(|_| {
                let text = "the body took too long";
                Fault::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text)
            })?
            .map_err(|error| wrong(format!("the body cannot be read: {error}")))?;
        serde_json::from_slice(&collected.to_bytes())
            .map_err(|error| wrong(format!("the body is not what belongs here: {error}")))
    }

    /// Returns the value of a key in the query.
    fn query(&self, key: &str) -> Option<&str> {
        let mut pairs = self.parts.uri.query()?.split('&');
        pairs
            .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
            .map(|(_, value)| value)
    }
}

/// Does work that waits for the disk, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

/// Reports work that ended without a result.
fn ended(error: tokio::task::JoinError) -> Fault {
    Error::failed(format!("a request ended: {error}")).into()
}

/// Returns an answer of JSON.
fn json(status: StatusCode, value: &impl Serialize) -> Result<Reply, Fault> {
    let text = artifact::json::value(value)?.to_string();
    let mut reply = typed("application/json", text.into_bytes());
    *reply.status_mut() = status;
    Ok(reply)
}

/// Returns an answer of this type, which nobody keeps.
fn typed(kind: &'static str, bytes: Vec<u8>) -> Reply {
    let mut reply = Response::new(full(bytes));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
