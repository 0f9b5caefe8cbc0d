//! Trains models together in many rounds: the baselines that one-shot distillation is compared
//! with.
//!
//! *Algorithms* ([`fed_avg`], [`fed_md`], [`distributed_sgd`]) define what server and clients do in
//! a round, and know no transport. `rounds` takes [`fed_avg`] and [`fed_md`] from round to round.
//! *Ranks* ([`transport`]) are threads or processes that share a run. Algorithms exchange named
//! tensors over a [`Link`], which encodes them as safetensors and counts every byte in a [`Ledger`]
//! by node, round, kind and direction.
//!
//! Every rank runs the same function. Rank 0 is the server and hosts clients as well; node `i` is
//! hosted by rank `i mod ranks`, so a single rank is the whole federation in one process. Sums are
//! taken in the order of the nodes, so that the number of ranks changes no bit of the result. What
//! rank 0 sends to clients of its own is encoded and counted as if it travelled. Rank 0 alone saves
//! runs; when one resumes, it tells the others where ([`Link::share_start`]), so that another
//! number of ranks can continue it.
//!
//! The same algorithms run where the clients are processes elsewhere, each with its own images
//! alone: [`Clients`] and [`Server`] are the two ends of what then carries the messages
//! ([`Link::with_clients`], [`Link::with_server`]). The server hosts no client, and each process
//! saves what is its own.
//!
//! Knows models, training and images; knows nothing of config files, folders or command lines.

pub mod distributed_sgd;
mod elsewhere;
pub mod fed_avg;
pub mod fed_md;
mod ledger;
mod link;
mod node;
mod remote;
mod report;
mod resume;
mod rounds;
pub mod transport;

pub use ledger::{Amount, Direction, Entry, Ledger, Traffic};
pub use link::{Kind, Link, label};
pub use node::NodeData;
pub use remote::{At, Call, Clients, Server};
pub use report::{REPORT, Report};
pub use rounds::RoundReport;

use crate::error::{Text, parameter};

/// Returns the hint for numbers that are not finite.
fn lower_rate() -> Text {
    Text::from("lower the learning rate (") + parameter("optimizer.lr") + ")"
}
