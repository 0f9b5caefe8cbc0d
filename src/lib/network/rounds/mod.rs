//! Rounds with clients elsewhere: the algorithms of [`crate::federated`] over HTTP.
//!
//! [`plan`] is what a task says of them. [`progress`] is how far they are, made of the journal's
//! events. [`host`] asks the clients, on the server, and [`guest`] answers, on a client. An answer
//! is one upload: the messages of an exchange in an [`envelope`], which [`check`] validates before
//! it is accepted.

pub mod check;
pub mod envelope;
pub mod guest;
pub mod host;
pub mod plan;
pub mod progress;
