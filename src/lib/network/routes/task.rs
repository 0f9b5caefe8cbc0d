//! Tells clients what they must agree on.

use super::super::fault::Fault;
use super::super::server::Reply;
use super::super::task::Task;
use super::super::tokens::Client;
use super::{Call, json};
use crate::model::Model;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// What `GET /v1/task` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// What a client sends back when it enrols.
    pub fingerprint: String,
    pub task: Task,
    /// Name, shape and type of each tensor, where the task has one architecture.
    #[serde(default)]
    pub tensors: Vec<(String, Vec<i64>, String)>,
    /// The caller's number in rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
}

/// Answers with the task.
pub fn show(call: &Call, client: &Client) -> Result<Reply, Fault> {
    let task = &*call.server.task;
    let tensors = match task.models.as_slice() {
        [model] => Model::outline(&task.spec(model))?,
        _ => Vec::new(),
    };
    let described = |(name, shape, kind): (String, Vec<i64>, tch::Kind)| {
        let kind = match kind {
            tch::Kind::Int64 => "I64",
            _ => "F32",
        };
        (name, shape, kind.to_owned())
    };
    let shown = Shown {
        fingerprint: task.fingerprint()?,
        task: task.clone(),
        tensors: tensors.into_iter().map(described).collect(),
        node: match task.rounds {
            Some(_) => call.server.tokens.node(&client.id),
            None => None,
        },
    };
    json(StatusCode::OK, &shown)
}
