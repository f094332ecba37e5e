//! Estimates the size of a batch's rows as JSON before any of it is written. Escapes are not
//! counted, and the result is never more than slightly too high.
//!
//! Counting stops once the rows are known to be too large, so it costs no more than the largest
//! permitted rows.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, ByteArrayType, ByteViewType, Int16Type, Int32Type, Int64Type,
    RunEndIndexType,
};
use arrow_array::{
    Array, ArrayRef, GenericListArray, GenericListViewArray, OffsetSizeTrait, RecordBatch,
    StructArray, UnionArray,
};
use arrow_array::{downcast_dictionary_array, types};
use arrow_schema::{DataType, UnionMode};

use super::LINE_BYTES_MAX;

/// Minimum bytes of a number, boolean, null or bracket, including its comma.
const LEAST: usize = 2;
/// Counting stops at this size.
const ENOUGH: usize = LINE_BYTES_MAX + 1;

/// Bytes of `count` rows from `start` on, or more than the maximum for a row.
pub(super) fn of_rows(batch: &RecordBatch, start: usize, count: usize) -> usize {
    let fields = batch.schema_ref().fields().iter();
    let columns =
        fields.zip(batch.columns()).map(|(field, column)| (field.name().as_str(), column));
    of_members(columns, start, count)
}

/// Bytes of objects with these members.
fn of_members<'a>(
    members: impl Iterator<Item = (&'a str, &'a ArrayRef)>,
    start: usize,
    count: usize,
) -> usize {
    let mut bytes = count.saturating_mul(LEAST);
    for (name, member) in members {
        let part = member.slice(start, count);
        // Members that are null are not written.
        bytes = bytes
            .saturating_add((count - part.null_count()).saturating_mul(name.len() + LEAST))
            .saturating_add(of(&part));
        if bytes >= ENOUGH {
            return ENOUGH;
        }
    }
    bytes
}

/// Bytes of all values of an array.
fn of(array: &ArrayRef) -> usize {
    let least = array.len().saturating_mul(LEAST);
    let more = match array.data_type() {
        DataType::Utf8 => of_bytes::<types::Utf8Type>(array),
        DataType::LargeUtf8 => of_bytes::<types::LargeUtf8Type>(array),
        // Bytes are written as hexadecimal digits.
        DataType::Binary => of_bytes::<types::BinaryType>(array).saturating_mul(2),
        DataType::LargeBinary => of_bytes::<types::LargeBinaryType>(array).saturating_mul(2),
        DataType::Utf8View => of_views::<types::StringViewType>(array),
        DataType::BinaryView => of_views::<types::BinaryViewType>(array).saturating_mul(2),
        DataType::FixedSizeBinary(length) => {
            array.len().saturating_mul(*length as usize).saturating_mul(2)
        }
        DataType::List(_) => of_list(array.as_list::<i32>()),
        DataType::LargeList(_) => of_list(array.as_list::<i64>()),
        DataType::ListView(_) => of_list_view(array.as_list_view::<i32>()),
        DataType::LargeListView(_) => of_list_view(array.as_list_view::<i64>()),
        DataType::FixedSizeList(_, _) => of(array.as_fixed_size_list().values()),
        DataType::Map(_, _) => {
            let map = array.as_map();
            between(map.entries().columns(), map.offsets())
        }
        DataType::Struct(_) => of_struct(array.as_struct()),
        DataType::Dictionary(_, _) => of_dictionary(array),
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => of_runs::<Int16Type>(array),
            DataType::Int32 => of_runs::<Int32Type>(array),
            _ => of_runs::<Int64Type>(array),
        },
        DataType::Union(_, mode) => of_union(array.as_union(), *mode),
        _ => 0,
    };
    least.saturating_add(more).min(ENOUGH)
}

fn of_struct(array: &StructArray) -> usize {
    of_members(array.column_names().into_iter().zip(array.columns()), 0, array.len())
}

fn of_bytes<T: ByteArrayType>(array: &ArrayRef) -> usize {
    let offsets = array.as_bytes::<T>().value_offsets();
    first_to_last(offsets)
}

fn first_to_last<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => last.as_usize() - first.as_usize(),
        _ => 0,
    }
}

fn of_views<T: ByteViewType>(array: &ArrayRef) -> usize {
    // The low half of a view is its length.
    array
        .as_byte_view::<T>()
        .views()
        .iter()
        .fold(0, |bytes: usize, view| bytes.saturating_add(*view as u32 as usize))
}

fn of_list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> usize {
    between(std::slice::from_ref(array.values()), array.value_offsets())
}

/// Bytes of the values that the offsets refer to.
fn between<O: OffsetSizeTrait>(values: &[ArrayRef], offsets: &[O]) -> usize {
    let (start, count) =
        (offsets.first().map_or(0, |first| first.as_usize()), first_to_last(offsets));
    sum(values.iter().map(|values| of(&values.slice(start, count))))
}

/// Bytes of lists that may share values. Shared values count once per list.
fn of_list_view<O: OffsetSizeTrait>(array: &GenericListViewArray<O>) -> usize {
    let (starts, counts) = (array.value_offsets(), array.value_sizes());
    let lists = starts.iter().zip(counts);
    sum(lists.map(|(start, count)| of(&array.values().slice(start.as_usize(), count.as_usize()))))
}

fn of_dictionary(array: &ArrayRef) -> usize {
    fn of_keys<K: ArrowDictionaryKeyType>(array: &arrow_array::DictionaryArray<K>) -> usize {
        // Each key is looked up on its own. That is fast for a dictionary of text, by far the most
        // common kind.
        sum(array.keys_iter().flatten().map(|key| of(&array.values().slice(key, 1))))
    }
    downcast_dictionary_array!(
        array => of_keys(array),
        _ => 0
    )
}

fn of_runs<R: RunEndIndexType>(array: &ArrayRef) -> usize {
    let runs = array.as_run::<R>();
    sum((0..array.len()).map(|row| of(&runs.values().slice(runs.get_physical_index(row), 1))))
}

fn of_union(array: &UnionArray, mode: UnionMode) -> usize {
    sum((0..array.len()).map(|row| {
        let place = if mode == UnionMode::Dense { array.value_offset(row) } else { row };
        of(&array.child(array.type_id(row)).slice(place, 1))
    }))
}

/// Sums the parts up to the limit. Each part counts as at least one byte, so the loop always ends.
fn sum(parts: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0_usize;
    for part in parts {
        bytes = bytes.saturating_add(part.max(1));
        if bytes >= ENOUGH {
            return ENOUGH;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        DictionaryArray, FixedSizeListArray, Int32Array, ListArray, NullArray, StringArray,
        StringViewArray,
    };
    use arrow_buffer::OffsetBuffer;
    use arrow_schema::Field;

    use super::*;

    fn size(array: impl Array + 'static) -> usize {
        of(&(Arc::new(array) as ArrayRef))
    }

    #[test]
    fn values_that_share_their_bytes_count_each_time() {
        let text = "x".repeat(100);
        let shared = DictionaryArray::new(
            Int32Array::from(vec![0; 50]),
            Arc::new(StringArray::from(vec![text.as_str()])),
        );
        let views: StringViewArray = std::iter::repeat_n(Some(text.as_str()), 50).collect();
        let plain: StringArray = std::iter::repeat_n(Some(text.as_str()), 50).collect();
        assert_eq!([size(views), size(plain)], [5_100; 2]);
        assert_eq!(size(shared), 5_200, "a value of a dictionary counts as one of its own");
    }

    #[test]
    fn lists_count_the_part_that_a_slice_has_and_nothing_counts_beyond_a_row() {
        let values = Arc::new(StringArray::from(vec!["a"; 100]));
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let lists = ListArray::new(item, OffsetBuffer::from_lengths(vec![10; 10]), values, None);
        assert_eq!(size(lists.slice(2, 3)), 3 * 2 + 30 * 3);
        let item = Arc::new(Field::new("item", DataType::Null, true));
        let nulls = FixedSizeListArray::new(item, 1 << 30, Arc::new(NullArray::new(1 << 30)), None);
        assert_eq!(size(nulls), ENOUGH);
    }
}
