//! Rounds with clients elsewhere: the algorithms of [`crate::federated`] over HTTP.
//!
//! [`plan`] is what a task says of them. [`progress`] is how far they are, made of the journal's
//! events. [`server`] asks the clients and waits for them; [`client`] answers. An answer is one
//! upload: the messages of an exchange in an [`envelope`], which [`check`] validates before it is
//! accepted.

pub mod check;
pub mod client;
pub mod envelope;
pub mod plan;
pub mod progress;
pub mod server;
