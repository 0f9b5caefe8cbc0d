//! Layered, Hydra-like configuration: YAML groups in `config/`, overrides on the command line, one typed struct at the end.

pub mod schema;

pub use schema::Config;
