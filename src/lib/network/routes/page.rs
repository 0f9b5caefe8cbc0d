//! Shows people how far the server is: one page without script, which browsers load again.

use super::super::collect;
use super::super::fault::Fault;
use super::super::server::{Reply, Server};
use super::super::shown_time;
use super::super::state::{Download, Phase};
use super::super::tokens::Role;
use super::{Call, curves, typed};
use crate::report::Table;
use crate::report::html::{self, Bar, Page};
use crate::words::counted;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

/// Seconds after which a browser loads the page again.
const REFRESH: &str = "10";

/// Holds what the page tells of a client.
struct Row {
    name: String,
    images: Option<u64>,
    status: String,
    /// The bytes that are here and those that were announced.
    bytes: Option<(u64, u64)>,
    seen: Option<i64>,
    reason: Option<String>,
}

/// Answers with the page.
pub fn show(call: &Call) -> Result<Reply, Fault> {
    let server = &call.server;
    let (phase, deadline, accepted, used) = server.store.view(|state| {
        (
            state.phase.clone(),
            collect::deadline(server, state),
            collect::ready(server, state).len(),
            state.closed.len(),
        )
    });
    let rows = rows(server, matches!(phase, Phase::Done(_)))?;
    let rounds = server.store.view(|state| curves::lead(server, state));
    let lead = rounds.unwrap_or_else(|| lead(server, &phase, accepted));
    let mut page = Page::new(&server.task.name, &lead);
    let waiting = match &phase {
        Phase::Collecting => {
            let names = server
                .store
                .view(|state| collect::missing_names(server, state));
            match names.is_empty() {
                true => "Waiting for clients that have no token yet.".into(),
                false => format!("Waiting for {}.", names.join(", ")),
            }
        }
        Phase::Closed => server.store.view(|state| curves::waiting(server, state)),
        Phase::Done(None) => "Each client has its model.".into(),
        Phase::Done(Some(Download { sha256, bytes })) => {
            let what = match server.task.rounds {
                Some(_) => "global model",
                None => "student",
            };
            format!("The {what} of {bytes} bytes is ready; its SHA-256 is {sha256}.")
        }
        Phase::Failed(reason) => format!("Waiting for the host: {reason}."),
    };
    let mut body = html::paragraph(&waiting);
    if let Some(time) = deadline.filter(|_| phase == Phase::Collecting) {
        body.0 += &html::paragraph(&format!("Deadline: {}.", shown_time(time))).0;
    }
    body.0 += &html::tiles(&tiles(server, (accepted, used), rows.len())).0;
    page.section("Now", body);
    match server.task.rounds {
        None => page.section("Student", student(server, &phase)),
        Some(_) => {
            let (missed, names) = server.store.view(|state| {
                let names = state.clients.values();
                let names = names.filter_map(|client| Some((client.node?, client.name.clone())));
                (state.rounds.missed.clone(), names.collect())
            });
            page.section("Rounds", curves::section(server, &missed, &names));
        }
    }
    page.section("Clients", clients(&rows));
    page.section("Task", task(server));
    let mut reply = typed("text/html; charset=utf-8", page.render().into_bytes());
    let headers = reply.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
        base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let refresh = HeaderName::from_static("refresh");
    headers.insert(refresh, HeaderValue::from_static(REFRESH));
    Ok(reply)
}

/// Returns numbers and what they are. The uploads that are `used`, none before they are complete,
/// stay so, whatever becomes of their clients' tokens.
fn tiles(
    server: &Server,
    (accepted, used): (usize, usize),
    tokens: usize,
) -> Vec<(String, String)> {
    let task = &server.task;
    let (count, here) = match (&task.rounds, used) {
        (None, 0) => (accepted, "uploads accepted"),
        (None, used) => (used, "uploads used"),
        (Some(_), _) => (accepted, "clients enrolled"),
    };
    let mut tiles = vec![(format!("{count} of {}", task.clients), here)];
    match task.rounds {
        Some(_) => tiles.push((task.min_clients.to_string(), "needed for a round")),
        None if task.deadline.is_some() => {
            tiles.push((task.min_clients.to_string(), "needed at the deadline"));
        }
        None => {}
    }
    tiles.push((tokens.to_string(), "clients with a token"));
    let owned = tiles
        .into_iter()
        .map(|(number, what)| (number, what.to_owned()));
    owned.collect()
}

fn lead(server: &Server, phase: &Phase, accepted: usize) -> String {
    match phase {
        Phase::Collecting if server.task.rounds.is_some() => format!(
            "Before the first round: {accepted} of {} here.",
            counted(server.task.clients, "client")
        ),
        Phase::Collecting => format!(
            "Collecting teachers: {accepted} of {} accepted.",
            counted(server.task.clients, "upload")
        ),
        Phase::Closed => match server.stage() {
            Some(stage) => format!("The uploads are complete; at work: {stage}."),
            None => "The uploads are complete.".into(),
        },
        Phase::Done(_) => "Done: the student can be downloaded.".into(),
        Phase::Failed(_) => {
            "Stopped: the host ends this server, fixes the cause and starts `serve run` again."
                .into()
        }
    }
}

/// Returns a row a client that is not revoked; `is_done` tells that nobody can enrol any more.
fn rows(server: &Server, is_done: bool) -> Result<Vec<Row>, Fault> {
    let clients = server.tokens.clients();
    let current = clients
        .iter()
        .filter(|client| client.role == Role::Client && client.revoked.is_none());
    current
        .map(|client| {
            let (enrolment, asked, upload) = server.store.view(|state| {
                let asked = state.rounds.current.clone();
                let at = asked.as_ref().map(|asked| asked.at);
                // An answer to an exchange that is over says nothing of this one.
                let upload = state
                    .upload_of(&client.id)
                    .filter(|(_, upload)| at.is_none() || upload.at == at);
                (
                    state.clients.get(&client.id).cloned(),
                    asked,
                    upload.map(|(id, _)| id.to_owned()),
                )
            });
            let images = enrolment.as_ref().map(|enrolment| enrolment.images);
            let node = enrolment.and_then(|enrolment| enrolment.node);
            let is_asked = asked
                .zip(node)
                .map(|(asked, node)| asked.nodes.contains(&node));
            let upload = upload
                .map(|id| server.uploads.shown(client, &id))
                .transpose()?;
            let status = match (&upload, is_asked, images) {
                (Some(upload), ..) => upload.status.clone(),
                (None, Some(true), _) => "asked".into(),
                (None, Some(false), _) => "not asked in this round".into(),
                (None, None, Some(_)) => "enrolled".into(),
                (None, None, None) if is_done => "takes no part".into(),
                (None, None, None) => "not here yet".into(),
            };
            Ok(Row {
                name: client.name.clone(),
                images,
                status,
                bytes: upload.as_ref().map(|upload| (upload.offset, upload.bytes)),
                seen: server.callers.seen(&client.id),
                reason: upload.and_then(|upload| upload.reason),
            })
        })
        .collect()
}

/// Returns a bar a client, a table, and the reasons of refusals.
fn clients(rows: &[Row]) -> maud::Markup {
    if rows.is_empty() {
        return html::paragraph(
            "No client has a token yet: `serve client add FOLDER NAME` makes one.",
        );
    }
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar {
            name: row.name.clone(),
            share: row
                .bytes
                .map_or(0.0, |(here, all)| here as f64 / all.max(1) as f64),
            value: row.status.clone(),
            strong: row.status == "accepted",
        })
        .collect();
    let mut table = Table::new(&["client", "images", "bytes", "state", "last call"]);
    for row in rows {
        let dash = || "–".to_owned();
        table.row(vec![
            row.name.clone(),
            row.images.map_or_else(dash, |images| images.to_string()),
            row.bytes
                .map_or_else(dash, |(here, all)| format!("{here} of {all}")),
            row.status.clone(),
            row.seen.map_or_else(dash, shown_time),
        ]);
    }
    let mut body = html::bars("Share of each upload that is here", &bars);
    body.0 += &html::records(&table).0;
    for row in rows {
        if let Some(reason) = &row.reason {
            body.0 += &html::heading(&format!("Why the upload of {} was refused", row.name)).0;
            body.0 += &html::verbatim(reason).0;
        }
    }
    body
}

/// Returns the student's accuracies as the stage has drawn them, once they are there.
fn student(server: &Server, phase: &Phase) -> maud::Markup {
    let curves = server.store.folder.join("student").join("curves.png");
    match (phase, std::fs::read(curves)) {
        (Phase::Done(_), Ok(png)) => html::picture("the student in each epoch", &png),
        _ => maud::html! {},
    }
}

fn task(server: &Server) -> maud::Markup {
    let task = &server.task;
    let mut table = Table::new(&["what", "value"]);
    let models: Vec<String> = task.models.iter().map(ToString::to_string).collect();
    let models = match models.is_empty() {
        true => "any".into(),
        false => models.join(", "),
    };
    for (what, value) in [
        ("images", format!("{0}×{1}×{1}", task.channels, task.size)),
        ("classes", task.classes.join(", ")),
        ("mean", format!("{:?}", task.normalisation.mean)),
        (
            "standard deviation",
            format!("{:?}", task.normalisation.std),
        ),
        ("models", models),
        (
            "rounds",
            match &task.rounds {
                None => "none: one upload a client".into(),
                Some(plan) => format!("{} of {}", plan.algorithm.rounds(), plan.algorithm),
            },
        ),
        ("most bytes of an upload", task.max_bytes.to_string()),
        ("most images of a client", task.max_images.to_string()),
    ] {
        table.row(vec![what.into(), value]);
    }
    html::table(&table)
}
