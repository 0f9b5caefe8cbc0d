//! The library in process, one module a subject.

mod artifact;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod data;
mod error;
mod generator;
mod inversion;
mod model;
mod oracle;
mod partition;
mod precision;
mod report;
mod run;
mod runtime;
mod train;
