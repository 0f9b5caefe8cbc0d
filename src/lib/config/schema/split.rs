//! Holds config group `split`: how images are dealt to nodes, and the path of the split.

use super::Config;
use crate::config::{kinds, shape};
use crate::partition::PartitionSettings;
use crate::setting::FilePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// Holds config group `split`. A key that its `kind` does not read is a mistake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitConfig {
    /// Partitioner, with the keys of its own.
    #[serde(flatten)]
    pub partition: PartitionSettings,
    /// Path of the split's JSON file; `null`: no split, one teacher on everything.
    #[serde(default)]
    pub save_path: Option<FilePath>,
}

impl SplitConfig {
    /// Reads the group as a run of this or an earlier version recorded it; returns `None` for what
    /// no version wrote.
    pub fn recorded(group: &Value) -> Option<Self> {
        let whole = recorded(&json!({"split": group}));
        serde_json::from_value(whole["split"].clone()).ok()
    }
}

/// Returns a config that a run recorded as this version would have written it.
pub fn recorded(config: &Value) -> Value {
    static BUILT_IN: LazyLock<Value> =
        LazyLock::new(|| serde_json::to_value(Config::default()).unwrap_or_default());
    let mut config = config.clone();
    kinds::settle(&mut config, shape::config(), &BUILT_IN);
    config
}
