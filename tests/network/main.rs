//! `serve` and `join` through the real binaries, on the loopback interface. Requests are written by
//! hand here, so that a test can send what no client would.

#[path = "../common/mod.rs"]
mod common;
mod convert;
mod crash;
mod fuzz;
mod hostile;
mod journal;
mod limits;
mod mistakes;
mod openapi;
mod protocol;
mod rounds;
mod signals;
mod soak;
mod student;
mod support;
mod tls;
