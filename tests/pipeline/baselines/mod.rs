//! The binaries of the federated baselines on tiny data: what they write, that bytes add up, that
//! an interrupted run ends as one that was not, and what they refuse.

mod distributed_sgd;
mod fed_avg;
mod fed_md;
mod fed_md_mistakes;
mod support;
