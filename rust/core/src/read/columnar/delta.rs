//! Computes the decoded size of a page in Parquet's DELTA_BYTE_ARRAY encoding. Each value repeats
//! the start of the previous one, so a few bytes can decode to any number of bytes.

use super::thrift::{Broken, Read, Thrift};

/// Returns the bytes of all values together. `bytes` holds the page's values without levels, at
/// most `values_max` of them.
pub(super) fn total_bytes(bytes: &[u8], values_max: u64) -> Read<u64> {
    let mut reader = Thrift::new(bytes);
    let prefixes = sum(&mut reader, values_max)?;
    Ok(prefixes.saturating_add(sum(&mut reader, values_max)?))
}

/// Sums one run of lengths in DELTA_BINARY_PACKED, which stores differences in blocks of packed
/// bits. Leaves the reader after the run. Numbers and signs are encoded as in Thrift.
fn sum(reader: &mut Thrift, values_max: u64) -> Read<u64> {
    let (block, parts, mut left) = (reader.unsigned()?, reader.unsigned()?, reader.unsigned()?);
    let mut length = reader.signed()?;
    if left == 0 {
        return Ok(0);
    }
    if left > values_max {
        return Err(Broken::Malformed);
    }
    let per_part = block
        .checked_div(parts)
        .filter(|count| *count > 0 && count % 32 == 0 && block <= 1 << 20)
        .ok_or(Broken::Malformed)?;
    let mut sum = of_length(length)?;
    left -= 1;
    while left > 0 {
        let step = reader.signed()?;
        for width in reader.take(parts)? {
            let count = left.min(per_part);
            if count == 0 {
                break;
            }
            let width = u32::from(*width);
            sum = sum.saturating_add(if width == 0 {
                even(&mut length, step, count)?
            } else {
                packed(&mut length, step, count, width, reader.rest())?
            });
            // The last part may be truncated after its last value.
            reader.step_over(per_part as usize * width as usize / 8);
            left -= count;
        }
    }
    Ok(sum)
}

/// Sums lengths that all differ by the same step. They take no bits in the page, so their count is
/// not bounded by its size. This is done in one step, however many there are.
fn even(length: &mut i64, step: i64, count: u64) -> Read<u64> {
    let first = i128::from(*length) + i128::from(step);
    let last = i128::from(*length) + i128::from(step) * i128::from(count);
    if first < 0 || last < 0 {
        return Err(Broken::Malformed);
    }
    *length = i64::try_from(last).map_err(|_| Broken::Malformed)?;
    Ok(u64::try_from((first + last) * i128::from(count) / 2).unwrap_or(u64::MAX))
}

/// Sums lengths whose differences, minus the step, are packed in `width` bits each.
fn packed(length: &mut i64, step: i64, count: u64, width: u32, bytes: &[u8]) -> Read<u64> {
    let mut sum = 0_u64;
    for place in 0..count {
        *length =
            length
                .wrapping_add(step)
                .wrapping_add(bits(bytes, place * u64::from(width), width)? as i64);
        sum = sum.saturating_add(of_length(*length)?);
    }
    Ok(sum)
}

/// Returns the number in the `width` bits that start at bit `from`.
fn bits(bytes: &[u8], from: u64, width: u32) -> Read<u64> {
    if width > 32 {
        return Err(Broken::Malformed);
    }
    let end = (from + u64::from(width)).div_ceil(8) as usize;
    let bytes = bytes.get((from / 8) as usize..end).ok_or(Broken::Short)?;
    let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Ok((number >> (from % 8)) & ((1_u64 << width) - 1))
}

fn of_length(length: i64) -> Read<u64> {
    u64::try_from(length).map_err(|_| Broken::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_repeat_their_starts_come_to_the_sum_of_prefixes_and_suffixes() {
        // Ten values that all repeat a thousand bytes: a block of 128 in 4 parts, count 10, first
        // 1000, no differences.
        let same = |length: u64| {
            [0x80, 0x01, 4, 10]
                .into_iter()
                .chain(leb(length << 1))
                .chain([0, 0, 0, 0, 0])
                .collect::<Vec<u8>>()
        };
        let page = [same(1_000), same(3)].concat();
        assert_eq!(total_bytes(&page, 10), Ok(10_030));
        assert_eq!(total_bytes(&page, 9), Err(Broken::Malformed));
        // One, two, three: differences of one, in parts without bits.
        let counted = [0x80, 0x01, 4, 3, 2, 2, 0, 0, 0, 0];
        assert_eq!(total_bytes(&[&counted[..], &counted].concat(), 3), Ok(12));
        assert_eq!(total_bytes(&[0x80], 1), Err(Broken::Short));
    }

    #[test]
    fn lengths_without_bits_take_no_time() {
        // 2^50 empty values in blocks of 2^20, each of which takes two bytes: counted one by one,
        // two kilobytes were a billion steps.
        let head = [leb(1 << 20), leb(1), leb(1 << 50), leb(0)].concat();
        assert_eq!(total_bytes(&[head, vec![0; 2_000]].concat(), 1 << 50), Err(Broken::Short));
        assert_eq!(even(&mut 5, 2, 3), Ok(7 + 9 + 11));
        assert_eq!(even(&mut 5, -3, 2), Err(Broken::Malformed));
    }

    fn leb(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }
}
