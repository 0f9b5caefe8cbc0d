//! Asks the clients, on the server: publishes an exchange, and waits until all have answered or the
//! time is over. What happens is in the journal before it counts, so that a server that is killed
//! at any moment resumes with the same exchange and the same answers.

use super::envelope;
use super::plan::Plan;
use super::progress::{Asked, Closed};
use crate::artifact::fault::explain;
use crate::artifact::{atomic, hash};
use crate::error::{Error, Result};
use crate::federated::{At, Call, Clients};
use crate::network::collect::NOW;
use crate::network::now;
use crate::network::server::Server;
use crate::network::state::{Event, Outcome, Phase, State, Upload};
use crate::runtime::interrupt;
use crate::words::counted;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

/// How often the clock is compared with the deadline.
const TICK: Duration = Duration::from_millis(200);

/// Reaches the clients of a server.
pub struct RoundsServer {
    server: Arc<Server>,
    plan: Plan,
    runtime: Handle,
    changes: watch::Receiver<u64>,
    /// The hash of each node's answer to the last exchange.
    answers: BTreeMap<usize, String>,
}

/// Tells how an exchange stands.
struct Standing {
    /// Node and hash of the answers that count.
    answers: Vec<(usize, String)>,
    /// True if nobody else can be waited for.
    is_complete: bool,
    /// Names of the others that were asked.
    missing: Vec<String>,
}

impl RoundsServer {
    /// Prepares to ask the clients of `server`, on a thread that is none of `runtime`'s own.
    pub fn new(server: Arc<Server>, plan: Plan, runtime: Handle) -> Self {
        Self {
            changes: server.store.changes(),
            server,
            plan,
            runtime,
            answers: BTreeMap::new(),
        }
    }

    /// Waits until something changes, for a tick at most.
    ///
    /// # Errors
    /// Fails on Ctrl-C, and once the host has ended the work.
    fn wait(&mut self) -> Result<()> {
        interrupt::check()?;
        let changed = async {
            // It fails only without a sender, which the server has.
            let _ = timeout(TICK, self.changes.changed()).await;
        };
        self.runtime.block_on(changed);
        match self.server.store.view(|state| state.phase.clone()) {
            Phase::Failed(reason) => Err(Error::interrupted(reason)),
            _ => interrupt::check(),
        }
    }

    fn is_valid(&self, state: &State, node: usize) -> bool {
        let mut clients = state.clients.iter();
        let client = clients.find(|(_, enrolment)| enrolment.node == Some(node));
        client.is_some_and(|(id, _)| self.server.tokens.is_valid(id))
    }

    /// Divides those of `nodes` that have enrolled into those that called within their lease, and
    /// those that may not have had the time to: the server has just started.
    fn lease(&self, nodes: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let lease = Duration::from_secs(self.plan.lease_seconds.into());
        let server = &self.server;
        let clients: Vec<(usize, Option<Duration>)> = server.store.view(|state| {
            let valid = state
                .clients
                .iter()
                .filter(|(id, _)| server.tokens.is_valid(id));
            let known = valid
                .filter_map(|(id, enrolment)| Some((enrolment.node?, server.callers.idle(id))));
            known.filter(|(node, _)| nodes.contains(node)).collect()
        });
        let (mut here, mut unknown) = (Vec::new(), Vec::new());
        for (node, idle) in clients {
            match idle {
                Some(idle) if idle <= lease => here.push(node),
                None if self.is_starting() => unknown.push(node),
                _ => {}
            }
        }
        here.sort_unstable();
        (here, unknown)
    }

    /// Publishes an exchange, unless an earlier process did.
    fn ask(&mut self, call: Call) -> Result<()> {
        let at = call.at;
        let known =
            |state: &State| state.rounds.asked(at).is_some() || state.rounds.closed(at).is_some();
        if self.server.store.view(known) {
            return Ok(());
        }
        let store = &self.server.store;
        let handout = call.handout.map(|bytes| {
            let sha256 = hash::bytes(&bytes);
            atomic::write_with(&store.blob(&sha256), |out| Ok(out.write_all(&bytes)?))?;
            Ok::<_, Error>((sha256, bytes.len() as u64))
        });
        let (handout, since) = (handout.transpose()?, now());
        let kept = handout.as_ref().map(|(sha256, _)| sha256.clone());
        let asked = counted(call.nodes.len(), "client");
        if at.number == 0 {
            // The rounds before have been saved. Before the event: nobody would do it after a crash
            // in between.
            self.forget_others(kept)?;
        }
        store.commit(|_| {
            Ok::<_, Error>(Some(Event::Asked(Asked {
                at,
                nodes: call.nodes,
                kinds: call.kinds,
                handout,
                since,
                until: since + i64::from(self.plan.round_seconds),
            })))
        })?;
        tracing::info!(
            "round {}, exchange {}: asking {asked}",
            self.server.task.round(at),
            at.number
        );
        Ok(())
    }

    /// Removes the files of earlier rounds.
    fn forget_others(&self, kept: Option<String>) -> Result<()> {
        let kept: HashSet<String> = kept.into_iter().collect();
        let folder = self.server.store.folder.join("blobs");
        let files = std::fs::read_dir(&folder).map_err(|error| explain("read", &folder, error))?;
        for file in files.flatten() {
            if !kept.contains(&*file.file_name().to_string_lossy()) {
                let _ = std::fs::remove_file(file.path());
            }
        }
        Ok(())
    }

    fn standing(&self, state: &State, asked: &Asked) -> Standing {
        let (mut answers, mut refused) = (Vec::new(), HashSet::new());
        for (node, upload) in state.answers() {
            match upload.outcome {
                _ if !self.server.tokens.is_valid(&upload.client) => {}
                Outcome::Accepted => answers.push((node, upload.sha256.clone())),
                // It may send another, but nobody waits for it.
                Outcome::Refused(_) => {
                    refused.insert(node);
                }
                Outcome::Open => {}
            }
        }
        answers.sort_unstable();
        let has_answered = |node: usize| answers.iter().any(|(other, _)| *other == node);
        let others = asked.nodes.iter().copied();
        let others: Vec<usize> = others.filter(|&node| !has_answered(node)).collect();
        let awaited = |&node: &usize| !refused.contains(&node) && self.is_valid(state, node);
        let name = |node: &usize| {
            let mut clients = state.clients.values();
            let client = clients.find(|client| client.node == Some(*node));
            let name = client.map_or("?", |client| client.name.as_str());
            match (refused.contains(node), self.is_valid(state, *node)) {
                (_, false) => format!("{name} (revoked)"),
                (true, true) => format!("{name} (refused)"),
                (false, true) => name.to_owned(),
            }
        };
        Standing {
            is_complete: !others.iter().any(awaited),
            missing: others.iter().map(name).collect(),
            answers,
        }
    }

    /// Returns what is due in the exchange `at`, and the reason if the run cannot continue.
    fn due(&self, state: &State, at: At, now: i64) -> Result<Option<Event>> {
        let Some(asked) = state.rounds.asked(at) else {
            return Ok(None);
        };
        let Standing {
            answers,
            is_complete,
            missing,
        } = self.standing(state, asked);
        let least = self.server.task.min_clients.min(asked.nodes.len());
        let enough = answers.len() >= least;
        let (round, count) = (self.server.task.round(at), answers.len());
        // A clock that was set back since then must not hold the round up.
        let waited = now - asked.since;
        let ripe = !(0..i64::from(self.plan.min_seconds)).contains(&waited);
        let is_over = self.is_over(state, asked, now);
        if enough && (is_complete && ripe || is_over) {
            if !missing.is_empty() {
                tracing::warn!(
                    "round {round} continues with {}; missing: {}",
                    counted(count, "client"),
                    missing.join(", ")
                );
            }
            return Ok(Some(Event::Answered(Closed {
                at,
                answers,
                missing,
            })));
        }
        if !is_over {
            return Ok(None);
        }
        let few = format!(
            "round {round}: {} at the deadline, and {least} needed; missing: {}",
            counted(count, "answer"),
            missing.join(", ")
        );
        if state.extended.is_none() {
            tracing::warn!("{few}: waiting as long again");
            let until = now + i64::from(self.plan.round_seconds);
            return Ok(Some(Event::Extended { until }));
        }
        Err(too_few(few))
    }

    /// Returns true if no more answers are waited for: at the deadline, once those are checked
    /// that are here. Clients could not answer while the server was down.
    fn is_over(&self, state: &State, asked: &Asked, now: i64) -> bool {
        let until = state.extended.unwrap_or(asked.until);
        let answers = |upload: &Upload| upload.at == Some(asked.at);
        until == NOW
            || now >= until
                && !self.is_starting()
                && !self.server.uploads.has_unchecked(state, answers)
    }

    /// Returns true while clients may not have had the time to call since the server started.
    fn is_starting(&self) -> bool {
        let seconds = self.plan.round_seconds.min(self.plan.lease_seconds);
        self.server.started.elapsed() <= Duration::from_secs(seconds.into())
    }
}

fn too_few(reason: String) -> Error {
    Error::failed(reason).hint("what is complete is saved: `serve run` resumes from here")
}

impl Clients for RoundsServer {
    fn present(&mut self, at: At, nodes: &[usize]) -> Result<Vec<usize>> {
        let began = Instant::now();
        let most = Duration::from_secs(self.plan.round_seconds.into());
        loop {
            let earlier = self.server.store.view(|state| {
                let closed = state.rounds.closed(at);
                let closed = closed.map(|closed| closed.answers.iter().map(|(node, _)| *node));
                match state.rounds.asked(at) {
                    Some(asked) => Some(asked.nodes.clone()),
                    None => closed.map(Iterator::collect),
                }
            });
            if let Some(nodes) = earlier {
                return Ok(nodes);
            }
            let (here, unknown) = self.lease(nodes);
            let least = self.server.task.min_clients;
            if unknown.is_empty() && here.len() >= least {
                return Ok(here);
            }
            if began.elapsed() > most {
                return Err(too_few(format!(
                    "round {}: {} there, and {least} needed",
                    self.server.task.round(at),
                    counted(here.len(), "client")
                )));
            }
            self.wait()?;
        }
    }

    fn exchange(&mut self, call: Call) -> Result<Vec<usize>> {
        let at = call.at;
        self.ask(call)?;
        loop {
            self.server
                .store
                .commit(|state| self.due(state, at, now()))?;
            let closed = self.server.store.view(|state| {
                let closed = state.rounds.closed(at);
                closed.map(|closed| closed.answers.iter().cloned().collect())
            });
            if let Some(answers) = closed {
                self.answers = answers;
                return Ok(self.answers.keys().copied().collect());
            }
            self.wait()?;
        }
    }

    fn message(&mut self, node: usize, index: usize) -> Result<Vec<u8>> {
        let sha256 = self.answers.get(&node);
        let sha256 = sha256.ok_or_else(|| Error::failed(format!("node {node} sent no answer")))?;
        envelope::read(&self.server.store.blob(sha256), index)
    }
}
