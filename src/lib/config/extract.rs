//! From the merged tree to the typed [`Config`]: one figment provider for each origin, so that
//! every value carries who set it.

use super::node::{Node, Value};
use super::schema::Config;
use crate::error::{Error, Result};
use figment::value::{Dict, Empty, Map, Tag, Value as FigmentValue};
use figment::{Figment, Metadata, Profile, Provider};
use std::collections::BTreeMap;

/// Reads the config from a tree that has been validated.
///
/// # Errors
/// Where the types and their schema disagree, which no config should bring about.
pub fn extract(root: &Node) -> Result<(Config, Figment)> {
    let figment = figment(root);
    let config = figment
        .extract()
        .map_err(|error| Error::usage(format!("the configuration cannot be read: {error}")))?;
    Ok((config, figment))
}

/// All values of one origin.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> std::result::Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Returns one provider for each origin; no two hold the same key, so their order does not matter.
fn figment(root: &Node) -> Figment {
    let mut layers: BTreeMap<String, Dict> = BTreeMap::new();
    root.leaves(&mut |path, node| {
        let values = layers.entry(node.origin.to_string()).or_default();
        insert(values, path, figment_value(&node.value));
    });
    layers
        .into_iter()
        .fold(Figment::new(), |figment, (origin, values)| {
            figment.merge(Layer { origin, values })
        })
}

fn insert(values: &mut Dict, path: &[String], value: FigmentValue) {
    match path {
        [] => {}
        [key] => {
            values.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let below = values
                .entry(key.clone())
                .or_insert_with(|| Dict::new().into());
            if let FigmentValue::Dict(_, below) = below {
                insert(below, rest, value);
            }
        }
    }
}

fn figment_value(value: &Value) -> FigmentValue {
    match value {
        Value::Null => FigmentValue::Empty(Tag::Default, Empty::None),
        Value::Bool(flag) => FigmentValue::from(*flag),
        Value::Int(whole) => match (i64::try_from(*whole), u64::try_from(*whole)) {
            (Ok(whole), _) => FigmentValue::from(whole),
            (_, Ok(whole)) => FigmentValue::from(whole),
            // Too long for any whole number of the schema; as a number it may still fit.
            _ => FigmentValue::from(*whole as f64),
        },
        Value::Float(number) => FigmentValue::from(*number),
        Value::Text(text) | Value::Environment(text) => FigmentValue::from(text.as_str()),
        Value::List(items) => FigmentValue::from(
            items
                .iter()
                .map(|item| figment_value(&item.value))
                .collect::<Vec<_>>(),
        ),
        Value::Map(map) => map
            .iter()
            .map(|(k, v)| (k.clone(), figment_value(&v.value)))
            .collect::<Dict>()
            .into(),
    }
}
