//! Networks and their weights.

mod networks;
pub mod oracle;
mod state_dict;
