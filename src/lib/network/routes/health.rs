//! Tells monitoring how the server is.

use super::super::server::{Reply, Server};
use super::super::state::Outcome;
use super::typed;
use hyper::StatusCode;
use std::fmt::Write;
use std::sync::atomic::Ordering;

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers while the process runs.
pub fn alive() -> Reply {
    typed(TEXT, b"ok\n".to_vec())
}

/// Answers with 503 once the server is to end.
pub fn ready(server: &Server) -> Reply {
    if !*server.stopping.borrow() {
        return alive();
    }
    let mut reply = typed(TEXT, b"stopping\n".to_vec());
    *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    reply
}

/// Answers with numbers in the text format of Prometheus.
pub fn metrics(server: &Server) -> Reply {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        let name = format!("fed_distill_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let (clients, counts) = server.store.view(|state| {
        let count = |of: fn(&Outcome) -> bool| {
            state
                .uploads
                .values()
                .filter(|upload| of(&upload.outcome))
                .count() as u64
        };
        let counts = [
            ("open", count(|outcome| *outcome == Outcome::Open)),
            ("accepted", count(|outcome| *outcome == Outcome::Accepted)),
            (
                "refused",
                count(|outcome| matches!(outcome, Outcome::Refused(_))),
            ),
        ];
        (state.clients.len() as u64, counts)
    });
    let counts = counts.map(|(status, count)| (format!("{{status=\"{status}\"}}"), count));
    metric(
        "clients",
        "gauge",
        "Clients that have enrolled.",
        &one(clients),
    );
    metric("uploads", "gauge", "The clients' latest uploads.", &counts);
    let received = server.uploads.received.load(Ordering::Relaxed);
    metric(
        "received_bytes_total",
        "counter",
        "Bytes of uploads that were received since the start.",
        &one(received),
    );
    let connections = server.counters.connections.load(Ordering::Relaxed);
    metric(
        "connections",
        "gauge",
        "Connections that are open.",
        &one(connections),
    );
    let answers = server.counters.answers.iter().enumerate().skip(1);
    let answers: Vec<_> = answers
        .map(|(class, count)| {
            (
                format!("{{class=\"{class}xx\"}}"),
                count.load(Ordering::Relaxed),
            )
        })
        .collect();
    metric(
        "answers_total",
        "counter",
        "Answers by their status.",
        &answers,
    );
    typed(
        "text/plain; version=0.0.4; charset=utf-8",
        text.into_bytes(),
    )
}
