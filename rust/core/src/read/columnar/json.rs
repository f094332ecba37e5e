//! Values that Arrow's JSON writer refuses, or writes as something that is not in the file.
//!
//! It writes bytes as hex digits, which would be trained as if they were the text; and one column
//! that it cannot write, such as a time in a named zone, makes it refuse the whole file, although
//! no shape may need that column.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions::as_datetime;
use arrow_array::timezone::Tz;
use arrow_array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayAccessor, PrimitiveArray};
use arrow_json::writer::NullableEncoder;
use arrow_json::{Encoder, EncoderFactory, EncoderOptions};
use arrow_schema::{ArrowError, DataType, FieldRef, TimeUnit};

/// Bytes of a UUID, which stays hex digits: it is an id, never a text.
const UUID_BYTES: i32 = 16;

/// Writes these values our way, and leaves all others to Arrow.
#[derive(Debug)]
pub(super) struct Values;

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Bytes(array.as_binary::<i32>())),
            DataType::LargeBinary => Box::new(Bytes(array.as_binary::<i64>())),
            DataType::BinaryView => Box::new(Bytes(array.as_binary_view())),
            DataType::FixedSizeBinary(length) if *length != UUID_BYTES => {
                Box::new(Bytes(array.as_fixed_size_binary()))
            }
            DataType::Timestamp(unit, Some(zone)) if zone.parse::<Tz>().is_err() => match unit {
                TimeUnit::Second => instants::<TimestampSecondType>(array),
                TimeUnit::Millisecond => instants::<TimestampMillisecondType>(array),
                TimeUnit::Microsecond => instants::<TimestampMicrosecondType>(array),
                TimeUnit::Nanosecond => instants::<TimestampNanosecondType>(array),
            },
            kind if is_unwritable(kind) => Box::new(Unwritable),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.logical_nulls())))
    }
}

/// Whether JSON has no form for values of a type.
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

/// Bytes, as text if they are UTF-8; older writers of Parquet do not say which of their columns
/// hold text. Other bytes become an object, which no shape takes for a text.
struct Bytes<A>(A);

impl<'a, A: ArrayAccessor<Item = &'a [u8]>> Encoder for Bytes<A> {
    fn encode(&mut self, index: usize, json: &mut Vec<u8>) {
        let bytes = self.0.value(index);
        let written = match simdutf8::basic::from_utf8(bytes) {
            Ok(text) => serde_json::to_writer(json, text).map_err(Into::into),
            Err(_) => write!(json, r#"{{"bytes":{}}}"#, bytes.len()),
        };
        debug_assert!(written.is_ok(), "memory can be written to");
    }
}

/// Times in a zone that is given by name, written in UTC.
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

/// Values that have no form in JSON; an object stands for each.
struct Unwritable;

impl Encoder for Unwritable {
    fn encode(&mut self, _: usize, json: &mut Vec<u8>) {
        json.extend_from_slice(br#"{"unsupported":true}"#);
    }
}
