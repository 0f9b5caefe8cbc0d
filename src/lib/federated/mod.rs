//! Training together in many rounds: the baselines that one-shot distillation is compared with.
//!
//! *Algorithms* ([`fed_avg`], [`fed_md`], [`distributed_sgd`]) say what server and nodes do in a
//! round. *Transports* ([`transport`]) carry bytes between ranks. Between them stands [`Link`]:
//! named tensors in, safetensors bytes out, every one counted in a [`Ledger`] by node, round, kind
//! and direction. An algorithm never knows which transport it runs on.
//!
//! Ranks are SPMD: every rank runs the same function. Rank 0 is the server and hosts nodes as well;
//! node `i` lives on rank `i mod ranks`, so a single rank is the whole federation in one process.
//! Sums are taken in the order of the nodes, so that the number of ranks changes no bit of the
//! result. What rank 0 sends to nodes of its own is encoded and counted as if it travelled. Rank 0
//! alone saves runs; when one goes on, it tells the others where ([`Link::spread`]), so that
//! another number of ranks can take over.
//!
//! Knows models, training and images; knows nothing of config files, folders or command lines.

pub mod distributed_sgd;
pub mod fed_avg;
pub mod fed_md;
mod ledger;
mod link;
mod node;
pub mod transport;

pub use ledger::{Amount, Direction, Entry, Ledger, Traffic};
pub use link::{Kind, Link};
pub use node::NodeData;
