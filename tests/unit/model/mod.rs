//! Networks and their weights.

mod networks;
mod oracle;
mod state_dict;
