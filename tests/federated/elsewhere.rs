//! A server and clients that know nothing of each other but their messages: the bytes are those of
//! one process.

use crate::fed_avg::support as averaging;
use crate::fed_md::course::motley;
use crate::fed_md::support as distilling;
use crate::support::{difference, normalisation, sgd};
use fed_distill::Result;
use fed_distill::data::ImageSet;
use fed_distill::federated::fed_avg::{self, FedAvgSettings, Statistics};
use fed_distill::federated::{At, Call, Clients, Link, NodeData, Server};
use fed_distill::model::{ModelKind, StateDict};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

/// Carries messages between threads.
#[derive(Default)]
struct Hub {
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Default)]
struct Round {
    call: Option<Call>,
    answers: BTreeMap<usize, Vec<Vec<u8>>>,
    done: bool,
}

/// The server's end.
struct Host<'h> {
    hub: &'h Hub,
    /// A client that is away in a round.
    away: Option<(usize, usize)>,
}

impl Clients for Host<'_> {
    fn present(&mut self, at: At, nodes: &[usize]) -> Result<Vec<usize>> {
        let here = |node: &&usize| self.away != Some((at.round, **node));
        Ok(nodes.iter().filter(here).copied().collect())
    }

    fn exchange(&mut self, call: Call) -> Result<Vec<usize>> {
        let (nodes, mut round) = (call.nodes.clone(), self.hub.round.lock().unwrap());
        (round.call, round.answers) = (Some(call), BTreeMap::new());
        self.hub.changed.notify_all();
        while round.answers.len() < nodes.len() {
            round = self.hub.changed.wait(round).unwrap();
        }
        Ok(nodes)
    }

    fn message(&mut self, node: usize, index: usize) -> Result<Vec<u8>> {
        Ok(self.hub.round.lock().unwrap().answers[&node][index].clone())
    }
}

/// A client's end.
struct Guest<'h> {
    hub: &'h Hub,
    node: usize,
}

impl Server for Guest<'_> {
    fn node(&self) -> usize {
        self.node
    }

    fn receive(&mut self, at: At) -> Result<Option<Vec<u8>>> {
        let mut round = self.hub.round.lock().unwrap();
        loop {
            match &round.call {
                Some(call) if call.at == at && call.nodes.contains(&self.node) => {
                    return Ok(Some(call.handout.clone().unwrap_or_default()));
                }
                Some(call) if call.at > at || round.done => return Ok(None),
                _ => round = self.hub.changed.wait(round).unwrap(),
            }
        }
    }

    fn answer(&mut self, at: At, messages: &[Vec<u8>], _: &StateDict) -> Result<()> {
        let mut round = self.hub.round.lock().unwrap();
        if round.call.as_ref().is_some_and(|call| call.at == at) {
            round.answers.insert(self.node, messages.to_vec());
            self.hub.changed.notify_all();
        }
        Ok(())
    }
}

/// Runs a server and clients of these numbers, and returns what each makes.
fn run<T: Send, C: Send>(
    nodes: &[usize],
    away: Option<(usize, usize)>,
    server: impl FnOnce(Link) -> T,
    client: impl Fn(usize, Link) -> C + Sync,
) -> (T, Vec<C>) {
    let (hub, client) = (&Hub::default(), &client);
    std::thread::scope(|scope| {
        let part = |&node: &usize| {
            scope.spawn(move || {
                tch::set_num_threads(1);
                client(node, Link::with_server(&mut Guest { hub, node }))
            })
        };
        let clients: Vec<_> = nodes.iter().map(part).collect();
        tch::set_num_threads(1);
        let made = server(Link::with_clients(&mut Host { hub, away }));
        hub.round.lock().unwrap().done = true;
        hub.changed.notify_all();
        let join = |client: std::thread::ScopedJoinHandle<C>| client.join().unwrap();
        (made, clients.into_iter().map(join).collect())
    })
}

const SIZES: [usize; 4] = [4, 9, 5, 6];

/// Federated averaging with each party's own images alone.
fn average(settings: &FedAvgSettings, away: Option<(usize, usize)>) -> (StateDict, averaging::Log) {
    let none = |set: &ImageSet| set.select(&[]).unwrap();
    let part = |own: Option<usize>, link: Link, log: &mut averaging::Log| {
        let normalisation = normalisation();
        let mut federation = averaging::federation(ModelKind::Resnet18, &SIZES, &normalisation);
        for (node, data) in federation.nodes.iter_mut().enumerate() {
            if Some(node) != own {
                *data = NodeData {
                    train: none(&data.train),
                    test: none(&data.test),
                };
            }
        }
        let model = fed_avg::run(settings, &federation, link, None, log).unwrap();
        model.map(|model| model.state().deep_clone())
    };
    let ((state, log), clients) = run(
        &[0, 1, 2, 3],
        away,
        |link| {
            let mut log = averaging::Log::default();
            (part(None, link, &mut log).unwrap(), log)
        },
        |node, link| part(Some(node), link, &mut averaging::Log::default()).is_none(),
    );
    assert_eq!(clients, [true; 4]);
    (state, log)
}

#[test]
fn averaging_changes_no_bit() {
    for statistics in [Statistics::Average, Statistics::Local] {
        let settings = FedAvgSettings {
            rounds: 3,
            fraction: 0.6,
            batch_size: Some(4),
            optimizer: sgd(0.05, 0.9),
            statistics,
            ..averaging::plain()
        };
        let (alone, log) = averaging::run(&settings, ModelKind::Resnet18, &SIZES, 1, None).unwrap();
        let (apart, logs) = average(&settings, None);
        assert_eq!(difference(&alone, &apart), 0.0, "{statistics:?}");
        assert_eq!(log.ledgers, logs.ledgers);
        assert_eq!(log.nodes, logs.nodes);
    }
}

/// Who is away is not selected, and the others' share of the clients is.
#[test]
fn selection_of_those_that_are_there() {
    let settings = FedAvgSettings {
        rounds: 3,
        fraction: 0.75,
        ..averaging::plain()
    };
    let (_, log) = average(&settings, Some((1, 2)));
    assert_eq!([3, 2, 3], [0, 1, 2].map(|round| log.nodes[round].len()));
    assert!(!log.nodes[1].contains(&2), "{:?}", log.nodes);
}

#[test]
fn distilling_changes_no_bit() {
    let (mut settings, cast) = motley();
    settings.weights = Some(vec![1.0, 0.5, 2.0, 1.0]);
    let (alone, log) = distilling::run(&settings, &cast, 1, None).unwrap();
    let nodes: Vec<usize> = (0..cast.clients.len()).map(distilling::node).collect();
    let part = |link: Link| {
        let mut log = distilling::Log::default();
        let states = distilling::part(&settings, &cast, link, None, &mut log).unwrap();
        let copies = states.into_iter();
        let copies = copies.map(|(node, state)| (node, state.deep_clone()));
        (copies.collect::<Vec<_>>(), log)
    };
    let ((none, logs), apart) = run(&nodes, None, part, |_, link| part(link).0);
    assert!(none.is_empty());
    assert_eq!(log.ledgers, logs.ledgers);
    assert_eq!(log.reports, logs.reports);
    let apart: Vec<(usize, StateDict)> = apart.into_iter().flatten().collect();
    assert_eq!(
        nodes,
        apart.iter().map(|(node, _)| *node).collect::<Vec<_>>()
    );
    for (one, (_, other)) in alone.iter().zip(&apart) {
        assert_eq!(difference(one, other), 0.0);
    }
}
