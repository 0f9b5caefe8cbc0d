//! Networks and their weights.

mod networks;
pub mod oracle;
mod stack;
mod state_dict;
