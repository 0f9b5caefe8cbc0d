//! Exchanges messages with clients, or a server, that are processes elsewhere.

use super::ledger::Direction;
use super::link::{Answered, Answers, Carrier, Client, Handout, Kind, Link, label};
use super::remote::Call;
use crate::artifact::tensors;
use crate::error::{During, Error, Result};
use crate::model::StateDict;

impl<'a> Link<'a> {
    /// Server: takes part in an exchange with clients elsewhere. Of a client that did not answer
    /// nothing is counted.
    pub(super) fn with_clients_elsewhere<const N: usize>(
        &mut self,
        nodes: &[usize],
        handout: Option<Handout>,
        answers: [Kind; N],
        mut answered: Answered<'_, 'a>,
    ) -> Result<Answers<N>> {
        let first = nodes.first().copied().unwrap_or_default();
        let handout = handout.map(|(kind, state)| (kind, state(first)));
        let encode = |(kind, state): &(Kind, StateDict)| self.encode(None, *kind, state);
        let kinds = answers.iter().copied();
        let call = Call {
            at: self.at(),
            nodes: nodes.to_vec(),
            kinds: kinds.filter(|kind| *kind != Kind::Kept).collect(),
            handout: handout.as_ref().map(encode).transpose()?,
        };
        let mut all = Answers::new();
        for node in self.clients()?.exchange(call)? {
            if let Some((kind, state)) = &handout {
                // As long as the message that a rank would receive.
                let tensors: Vec<_> = state.iter().collect();
                let bytes = tensors::length(&tensors, &label(self.complete, Some(node), *kind))?;
                self.count(node, *kind, Direction::Download, state, bytes);
            }
            let (mut states, mut index) = (Vec::new(), 0);
            for kind in answers {
                states.push(match kind {
                    Kind::Kept => StateDict::default(),
                    _ => self.take_message(node, kind, index)?,
                });
                index += usize::from(kind != Kind::Kept);
            }
            // There is one of each kind.
            all.insert(node, states.try_into().expect("as many states as kinds"));
            if let Some(answered) = &mut answered {
                answered(self)?;
            }
        }
        Ok(all)
    }

    /// Server: counts a message of an answer, and returns its content; that of a model is left
    /// where it is.
    fn take_message(&mut self, node: usize, kind: Kind, index: usize) -> Result<StateDict> {
        let bytes = self.clients()?.message(node, index)?;
        let state = self.decode(Some(node), kind, &bytes);
        let state = state.during(|| format!("receiving from node {node}"))?;
        self.count(node, kind, Direction::Upload, &state, bytes.len());
        Ok(match kind {
            Kind::Model => StateDict::default(),
            _ => state,
        })
    }

    /// Server: returns the model in the answer of `node` to the last exchange, where `answered` is
    /// what [`exchange`](Self::exchange) returned for it and `index` its place among the messages.
    ///
    /// # Errors
    /// Fails when it cannot be read again.
    pub(super) fn model(
        &mut self,
        node: usize,
        index: usize,
        answered: &StateDict,
    ) -> Result<StateDict> {
        let bytes = match &mut self.carrier {
            Carrier::Clients(clients) => clients.message(node, index)?,
            _ => return Ok(answered.share()),
        };
        self.decode(Some(node), Kind::Model, &bytes)
            .during(|| format!("reading the model of node {node}"))
    }

    /// Client: takes part in an exchange with a server elsewhere, if this client is one of `nodes`
    /// and the server asks it. What it is to keep and nobody is told, it makes in any case.
    pub(super) fn with_server_elsewhere<const N: usize>(
        &mut self,
        nodes: &[usize],
        handout: Option<Handout>,
        answers: [Kind; N],
        client: Client<N>,
        answered: Answered<'_, 'a>,
    ) -> Result<()> {
        let at = self.at();
        let Carrier::Server(server) = &mut self.carrier else {
            return Err(Error::failed("there is no server elsewhere"));
        };
        let own = server.node();
        if !nodes.contains(&own) {
            return Ok(());
        }
        let received = server.receive(at)?;
        let is_private = answers.iter().all(|kind| *kind == Kind::Kept);
        if received.is_none() && !is_private {
            return Ok(());
        }
        let received = match (handout, &received) {
            (Some((kind, _)), Some(bytes)) => self
                .decode(None, kind, bytes)
                .during(|| "receiving from the server")?,
            _ => StateDict::default(),
        };
        let nothing = StateDict::default();
        let states = client(own, received, self.kept.get(&own).unwrap_or(&nothing))?;
        let mut messages = Vec::new();
        for (kind, state) in answers.into_iter().zip(states) {
            match kind {
                Kind::Kept => {
                    self.next_kept.insert(own, state.deep_clone());
                }
                _ => messages.push(self.encode(Some(own), kind, &state)?),
            }
        }
        let kept = self.next_kept.get(&own).or_else(|| self.kept.get(&own));
        if let Carrier::Server(server) = &mut self.carrier {
            server.answer(at, &messages, kept.unwrap_or(&nothing))?;
        }
        match answered {
            Some(answered) => answered(self),
            None => Ok(()),
        }
    }

    fn clients(&mut self) -> Result<&mut (dyn super::Clients + 'a)> {
        match &mut self.carrier {
            Carrier::Clients(clients) => Ok(&mut **clients),
            _ => Err(Error::failed("there are no clients elsewhere")),
        }
    }
}
