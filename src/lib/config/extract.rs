//! Turns the merged tree into the typed [`Config`]: each value is a figment provider of its own,
//! named after who set it, so that every value of the figment carries its origin.

use super::node::{Node, Value};
use super::schema::Config;
use crate::error::{Error, Result};
use figment::util::nest;
use figment::value::{Dict, Empty, Map, Tag, Value as FigmentValue};
use figment::{Figment, Metadata, Profile, Provider};

/// Reads the config from a tree that has been validated.
///
/// # Errors
/// Fails where the types and their schema disagree, which no config should bring about.
pub fn extract(root: &Node) -> Result<(Config, Figment)> {
    let mut figment = Figment::new();
    root.leaves(&mut |path, node| {
        figment = std::mem::take(&mut figment).merge(Setting {
            key: path.join("."),
            node,
        });
    });
    let config = figment
        .extract()
        .map_err(|error| Error::usage(format!("the configuration cannot be read: {error}")))?;
    Ok((config, figment))
}

/// Provides the value of one key.
struct Setting<'a> {
    /// Full key.
    key: String,
    node: &'a Node,
}

impl Provider for Setting<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.node.origin.to_string())
    }

    fn data(&self) -> std::result::Result<Map<Profile, Dict>, figment::Error> {
        let value = nest(&self.key, figment_value(&self.node.value));
        Ok(Profile::Default.collect(value.into_dict().unwrap_or_default()))
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
