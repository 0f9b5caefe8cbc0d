//! Walks a value as serde would write it and stops at the first NaN or infinity, naming its place
//! (`epochs[3].loss`).
//!
//! serde_json turns non-finite numbers into `null` without a word, so [`super::json`] looks before
//! it writes.

use crate::error::Error;
use serde::ser::{self, Serialize, Serializer};
use std::fmt;

/// What cannot be written, and where it is.
#[derive(Debug)]
pub(super) struct Fault {
    place: String,
    why: String,
}

impl Fault {
    pub(super) fn into_error(self) -> Error {
        Error::failed(format!(
            "cannot write `{}` as JSON: {}",
            self.place, self.why
        ))
    }
}

/// Looks at every number in `value`.
pub(super) fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), Fault> {
    let mut place = Vec::new();
    value
        .serialize(Walk { place: &mut place })
        .map_err(|Stop(why)| Fault {
            place: place.concat().trim_start_matches('.').to_string(),
            why,
        })
}

/// Why the walk stopped. The place it stopped at is what is left on the stack of places.
#[derive(Debug)]
struct Stop(String);

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

type Step = Result<(), Stop>;

/// At one value; `place` is the way to it, one element a key or index.
struct Walk<'a> {
    place: &'a mut Vec<String>,
}

/// Inside a sequence, map or struct.
struct Inside<'a> {
    place: &'a mut Vec<String>,
    index: usize,
}

impl<'a> Walk<'a> {
    fn inside(self) -> Result<Inside<'a>, Stop> {
        Ok(Inside {
            place: self.place,
            index: 0,
        })
    }

    /// Inside the one entry of `{"variant": …}`, as serde_json writes an enum.
    fn inside_variant(self, variant: &str) -> Result<Inside<'a>, Stop> {
        self.place.push(format!(".{variant}"));
        self.inside()
    }
}

impl Inside<'_> {
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        value.serialize(Walk { place: self.place })?;
        self.place.pop();
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Step {
        self.place.push(format!(".{key}"));
        self.value(value)
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        self.place.push(format!("[{}]", self.index));
        self.index += 1;
        self.value(value)
    }

    fn leave_variant(self) -> Step {
        self.place.pop();
        Ok(())
    }
}

/// Values that JSON always holds.
macro_rules! fine {
    ($($method:ident: $kind:ty),* $(,)?) => { $(fn $method(self, _: $kind) -> Step { Ok(()) })* };
}

impl<'a> Serializer for Walk<'a> {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Inside<'a>;
    type SerializeTuple = Inside<'a>;
    type SerializeTupleStruct = Inside<'a>;
    type SerializeTupleVariant = Inside<'a>;
    type SerializeMap = Inside<'a>;
    type SerializeStruct = Inside<'a>;
    type SerializeStructVariant = Inside<'a>;

    fn serialize_f64(self, number: f64) -> Step {
        if number.is_finite() {
            return Ok(());
        }
        Err(Stop(format!("it is {number}, and JSON has no such number")))
    }
    fn serialize_f32(self, number: f32) -> Step {
        self.serialize_f64(number.into())
    }
    fine!(serialize_bool: bool, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128);
    fn serialize_none(self) -> Step {
        Ok(())
    }
    fn serialize_unit(self) -> Step {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Step {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Step {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Step {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Step
    where
        T: Serialize + ?Sized,
    {
        self.inside()?.field(variant, value)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Inside<'a>, Stop> {
        self.inside()
    }
    fn serialize_tuple(self, _: usize) -> Result<Inside<'a>, Stop> {
        self.inside()
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Inside<'a>, Stop> {
        self.inside()
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Inside<'a>, Stop> {
        self.inside()
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Inside<'a>, Stop> {
        self.inside()
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'a>, Stop> {
        self.inside_variant(variant)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Inside<'a>, Stop> {
        self.inside_variant(variant)
    }
}

/// Implements one of serde's compound traits by [`Inside`].
macro_rules! compound {
    (elements $kind:path, $method:ident) => {
        impl $kind for Inside<'_> {
            type Ok = ();
            type Error = Stop;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
                self.element(value)
            }
            fn end(self) -> Step {
                Ok(())
            }
        }
    };
}

compound!(elements ser::SerializeSeq, serialize_element);
compound!(elements ser::SerializeTuple, serialize_element);
compound!(elements ser::SerializeTupleStruct, serialize_field);

impl ser::SerializeTupleVariant for Inside<'_> {
    type Ok = ();
    type Error = Stop;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        self.element(value)
    }
    fn end(self) -> Step {
        self.leave_variant()
    }
}

impl ser::SerializeStruct for Inside<'_> {
    type Ok = ();
    type Error = Stop;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Step {
        self.field(key, value)
    }
    fn end(self) -> Step {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Inside<'_> {
    type Ok = ();
    type Error = Stop;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Step {
        self.field(key, value)
    }
    fn end(self) -> Step {
        self.leave_variant()
    }
}

impl ser::SerializeMap for Inside<'_> {
    type Ok = ();
    type Error = Stop;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Step {
        let shown = match serde_json::to_value(key) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(error) => return Err(Stop(error.to_string())),
        };
        self.place.push(format!(".{shown}"));
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Step {
        self.value(value)
    }
    fn end(self) -> Step {
        Ok(())
    }
}
