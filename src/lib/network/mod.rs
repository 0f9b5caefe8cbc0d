//! Federation between parties over HTTP: what the binaries `serve` and `join` are made of.
//!
//! A server asks for one upload a client, checks every byte of it, and keeps what it accepted
//! through a crash at any moment. [`task`] is what the parties must agree on. [`tokens`] knows who
//! may call, [`journal`] makes a sequence of events durable, and [`state`] is what the events make
//! of the server. [`uploads`] receives files in pieces and [`validate`] checks them, without
//! building a network. [`collect`] decides when the uploads are complete, or the clients that take
//! part in [`rounds`]. [`server`] listens and
//! bounds what a connection may take; [`routes`] answers, a file a subject, and reports what it
//! refuses as a [`fault`]. [`client`] is the other side.
//!
//! HTTP/1.1 is served by hyper alone: a dozen routes need no framework, and what a body may take is
//! counted here anyway. TLS is rustls with ring, as in ureq: two providers in one process panic.

pub mod client;
pub mod collect;
pub mod fault;
pub mod journal;
pub mod rounds;
pub mod routes;
pub mod server;
pub mod state;
pub mod task;
pub mod tokens;
pub mod uploads;
pub mod validate;

/// Returns the time in whole seconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Writes a time in seconds since 1970 as people read it, in UTC: `2026-01-31 12:00 UTC`.
pub fn shown_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| "?".into(),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

/// Returns `count` random bytes of the system, in hexadecimal.
///
/// # Errors
/// Fails where the system has no source of randomness.
pub fn random_hex(count: usize) -> crate::Result<String> {
    use rand::TryRngCore as _;
    let mut bytes = vec![0; count];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| {
            crate::Error::failed(format!("the system gives no random numbers: {error}"))
        })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
