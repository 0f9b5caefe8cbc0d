//! Config group `split`: how images are dealt to nodes, and where the split lies.

use crate::config::shape;
use crate::partition::PartitionSettings;
use crate::setting::FilePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Config group `split`. A key that its `kind` does not read is a mistake.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SplitConfig {
    #[serde(flatten)]
    pub partition: PartitionSettings,
    /// The split's JSON file; `null`: no split, one teacher on everything.
    #[serde(default)]
    pub save_path: Option<FilePath>,
}

impl SplitConfig {
    /// Reads the group as a run recorded it, maybe before there were kinds, or when the keys of all
    /// kinds stood side by side and `null` was a default. `None` for what no version wrote.
    pub fn recorded(group: &Value) -> Option<Self> {
        let mut keys = group.as_object()?.clone();
        keys.retain(|_, value| !value.is_null());
        keys.entry("kind").or_insert_with(|| "uniform_share".into());
        serde_json::from_value(Value::Object(keys)).ok()
    }
}

/// Returns a config that a run recorded as this version would have written it.
pub fn recorded(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(split) = SplitConfig::recorded(&config["split"]) {
        let mut split = json!(split);
        // Nobody knows what the keys of a later version say.
        let later = config["split"].as_object().into_iter().flatten();
        for (key, value) in later.filter(|(key, _)| shape::config().get(&["split", key]).is_none())
        {
            split[key] = value.clone();
        }
        config["split"] = split;
    }
    config
}
