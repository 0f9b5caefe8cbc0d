//! Marks settings by whether a run's result depends on them.
//!
//! A plain field of a settings struct is part of a run's identity: another value makes another
//! result. A [`Free`] one is not. Of a [`FilePath`] the content counts. The marks are in the
//! JSON schema of the settings ([`schemars`]), where the config layer reads them.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Keyword that the schema of a [`Free`] setting has.
pub const FREE: &str = "x-free";

/// Keyword in the schema of a setting that some kinds of its group do not read: their names.
pub const UNREAD_BY: &str = "x-unread-by";

/// Keyword in the schema of a setting that only some kinds of its group read: their names.
pub const READ_BY: &str = "x-read-by";

/// Value of `format` in the schema of a [`FilePath`].
pub const FILE_PATH: &str = "path";

/// Holds a setting that changes no result: how fast a run works, on what, what it keeps meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Free<T>(pub T);

impl<T> Deref for Free<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Free<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: PartialEq> PartialEq<T> for Free<T> {
    fn eq(&self, other: &T) -> bool {
        self.0 == *other
    }
}

impl<T: JsonSchema> JsonSchema for Free<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.insert(FREE.into(), true.into());
        schema
    }
}

/// Holds the path of a file or folder. The path itself changes no result, but its content does: a
/// path that a stage reads from is compared, and the one that it writes to is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilePath(PathBuf);

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl<T: Into<PathBuf>> From<T> for FilePath {
    fn from(path: T) -> Self {
        Self(path.into())
    }
}

impl JsonSchema for FilePath {
    fn schema_name() -> Cow<'static, str> {
        "FilePath".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "format": FILE_PATH})
    }
}
