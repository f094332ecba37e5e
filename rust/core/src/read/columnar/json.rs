//! Encodes values that Arrow's JSON writer rejects, or writes as something that is not in the file.
//!
//! It writes bytes as hexadecimal digits, which would be trained on as if they were the text. Only
//! an ID may be written that way. It also rejects the entire file because of a single column that
//! it cannot write, such as a time in a named zone, even if no shape needs that column.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions::as_datetime;
use arrow_array::timezone::Tz;
use arrow_array::types::{
    ArrowPrimitiveType, ArrowTimestampType, Float32Type, Float64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayAccessor, PrimitiveArray};
use arrow_json::writer::NullableEncoder;
use arrow_json::{Encoder, EncoderFactory, EncoderOptions};
use arrow_schema::{ArrowError, DataType, FieldRef, TimeUnit};
use serde::Serialize;

/// Fields whose bytes are written as hexadecimal digits if they are not text.
const IDS: [&str; 2] = ["id", "prompt_id"];
/// The field whose bytes count as missing if they are not text.
const SOURCE: &str = "source";

/// Encodes these values, and leaves all others to Arrow.
#[derive(Debug)]
pub(super) struct Values;

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let other = Other::of(field);
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Bytes(array.as_binary::<i32>(), other)),
            DataType::LargeBinary => Box::new(Bytes(array.as_binary::<i64>(), other)),
            DataType::BinaryView => Box::new(Bytes(array.as_binary_view(), other)),
            // A digest or a UUID, which Arrow writes as hexadecimal digits.
            DataType::FixedSizeBinary(_) if other == Other::Hex => return Ok(None),
            DataType::FixedSizeBinary(_) => Box::new(Bytes(array.as_fixed_size_binary(), other)),
            DataType::Timestamp(unit, Some(zone)) if zone.parse::<Tz>().is_err() => match unit {
                TimeUnit::Second => instants::<TimestampSecondType>(array),
                TimeUnit::Millisecond => instants::<TimestampMillisecondType>(array),
                TimeUnit::Microsecond => instants::<TimestampMicrosecondType>(array),
                TimeUnit::Nanosecond => instants::<TimestampNanosecondType>(array),
            },
            DataType::Float32 if has_infinity(array.as_primitive::<Float32Type>()) => {
                Box::new(Floats(array.as_primitive::<Float32Type>()))
            }
            DataType::Float64 if has_infinity(array.as_primitive::<Float64Type>()) => {
                Box::new(Floats(array.as_primitive::<Float64Type>()))
            }
            kind if is_unwritable(kind) => Box::new(Unwritable),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.logical_nulls())))
    }
}

/// Whether values of a type cannot be represented in JSON.
fn is_unwritable(kind: &DataType) -> bool {
    match kind {
        DataType::Union(..) => true,
        DataType::Map(entries, _) => !matches!(
            entries.data_type(),
            DataType::Struct(fields) if fields.first().is_some_and(|key| matches!(
                key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            ))
        ),
        _ => false,
    }
}

/// How bytes that are not text are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    /// As an object, which no shape accepts as a text.
    Object,
    Hex,
    Null,
}

impl Other {
    fn of(field: &FieldRef) -> Other {
        match field.name().as_str() {
            name if IDS.contains(&name) => Other::Hex,
            SOURCE => Other::Null,
            _ => Other::Object,
        }
    }
}

/// Writes bytes as text if they are UTF-8. Older Parquet writers do not mark the columns that hold
/// text.
struct Bytes<A>(A, Other);

impl<'a, A: ArrayAccessor<Item = &'a [u8]>> Encoder for Bytes<A> {
    fn encode(&mut self, index: usize, json: &mut Vec<u8>) {
        let Bytes(array, other) = self;
        let bytes = array.value(index);
        let text = simdutf8::basic::from_utf8(bytes).ok();
        // Few digests are UTF-8 by chance, and most of those have control characters.
        let text = text.filter(|text| *other != Other::Hex || !text.contains(char::is_control));
        let written = match (text, other) {
            (Some(text), _) => serde_json::to_writer(json, text).map_err(Into::into),
            (None, Other::Object) => write!(json, r#"{{"bytes":{}}}"#, bytes.len()),
            (None, Other::Hex) => write_hex(json, bytes),
            (None, Other::Null) => write!(json, "null"),
        };
        debug_assert!(written.is_ok(), "memory can be written to");
    }
}

fn write_hex(json: &mut Vec<u8>, bytes: &[u8]) -> std::io::Result<()> {
    json.push(b'"');
    bytes.iter().try_for_each(|byte| write!(json, "{byte:02x}"))?;
    json.push(b'"');
    Ok(())
}

fn has_infinity<T: ArrowPrimitiveType<Native: Into<f64>>>(array: &PrimitiveArray<T>) -> bool {
    array.values().iter().any(|number| (*number).into().is_infinite())
}

/// Writes an infinite number as text, which is no score. Arrow writes null, as for a missing one.
struct Floats<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Into<f64> + Serialize>> Encoder for Floats<'_, T> {
    fn encode(&mut self, index: usize, json: &mut Vec<u8>) {
        let number = self.0.value(index);
        let written = match number.into() {
            f64::INFINITY => write!(json, "\"inf\""),
            f64::NEG_INFINITY => write!(json, "\"-inf\""),
            _ => serde_json::to_writer(json, &number).map_err(Into::into),
        };
        debug_assert!(written.is_ok(), "memory can be written to");
    }
}

/// Writes times in a named zone in UTC.
struct Instants<'a, T: ArrowTimestampType>(&'a PrimitiveArray<T>);

fn instants<'a, T: ArrowTimestampType>(array: &'a dyn Array) -> Box<dyn Encoder + 'a> {
    Box::new(Instants(array.as_primitive::<T>()))
}

impl<T: ArrowTimestampType> Encoder for Instants<'_, T> {
    fn encode(&mut self, index: usize, json: &mut Vec<u8>) {
        let value = self.0.value(index);
        let written = match as_datetime::<T>(value) {
            Some(time) => write!(json, "\"{time:?}Z\""),
            None => write!(json, "{value}"),
        };
        debug_assert!(written.is_ok(), "memory can be written to");
    }
}

/// Values that JSON cannot represent. Each is written as an object.
struct Unwritable;

impl Encoder for Unwritable {
    fn encode(&mut self, _: usize, json: &mut Vec<u8>) {
        json.extend_from_slice(br#"{"unsupported":true}"#);
    }
}
