//! What the values of a page in Parquet's DELTA_BYTE_ARRAY come to: each repeats the start of the one before it, so that few bytes may stand for
//! any number.

use super::thrift::{Broken, Read};

/// Bytes of all values together. `bytes` are the page's values, without levels.
pub(super) fn total_bytes(bytes: &[u8]) -> Read<u64> {
    let mut lengths = Lengths { bytes, at: 0 };
    let prefixes = lengths.sum()?;
    Ok(prefixes.saturating_add(lengths.sum()?))
}

/// Lengths in DELTA_BINARY_PACKED: the differences from one to the next, in blocks of packed bits.
struct Lengths<'bytes> {
    bytes: &'bytes [u8],
    at: usize,
}

impl Lengths<'_> {
    fn byte(&mut self) -> Read<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Broken::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn unsigned(&mut self) -> Read<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken::Malformed)
    }

    fn signed(&mut self) -> Read<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// The sum of one run of lengths; what follows it is next.
    fn sum(&mut self) -> Read<u64> {
        let (block, parts, mut left) = (self.unsigned()?, self.unsigned()?, self.unsigned()?);
        let mut length = self.signed()?;
        if left == 0 {
            return Ok(0);
        }
        let per_part =
            block.checked_div(parts).filter(|count| *count > 0 && count % 32 == 0 && block <= 1 << 20).ok_or(Broken::Malformed)?;
        let mut sum = of_length(length)?;
        left -= 1;
        while left > 0 {
            let step = self.signed()?;
            let widths = self.at..self.at + parts as usize;
            if self.bytes.len() < widths.end {
                return Err(Broken::Short);
            }
            self.at = widths.end;
            for width in widths {
                let count = left.min(per_part);
                if count == 0 {
                    break;
                }
                let width = u32::from(self.bytes[width]);
                for place in 0..count {
                    length = length.wrapping_add(step).wrapping_add(self.bits(place * u64::from(width), width)? as i64);
                    sum = sum.saturating_add(of_length(length)?);
                }
                self.at += (per_part as usize * width as usize) / 8;
                left -= count;
            }
        }
        // The last part may be cut off behind its last value.
        self.at = self.at.min(self.bytes.len());
        Ok(sum)
    }

    /// The number in `width` bits, `from` bits behind the current byte.
    fn bits(&self, from: u64, width: u32) -> Read<u64> {
        if width > 32 {
            return Err(Broken::Malformed);
        }
        let first = self.at + (from / 8) as usize;
        let end = self.at + (from + u64::from(width)).div_ceil(8) as usize;
        let bytes = self.bytes.get(first..end).ok_or(Broken::Short)?;
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Ok((number >> (from % 8)) & ((1_u64 << width) - 1))
    }
}

fn of_length(length: i64) -> Read<u64> {
    u64::try_from(length).map_err(|_| Broken::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_repeat_their_starts_come_to_the_sum_of_prefixes_and_suffixes() {
        // Ten values that all repeat a thousand bytes: a block of 128 in 4 parts, count 10, first 1000, no differences.
        let same = |length: u64| [0x80, 0x01, 4, 10].into_iter().chain(leb(length << 1)).chain([0, 0, 0, 0, 0]).collect::<Vec<u8>>();
        let page = [same(1_000), same(3)].concat();
        assert_eq!(total_bytes(&page), Ok(10_030));
        // One, two, three: differences of one, in parts without bits.
        let counted = [0x80, 0x01, 4, 3, 2, 2, 0, 0, 0, 0];
        assert_eq!(total_bytes(&[&counted[..], &counted].concat()), Ok(12));
        assert_eq!(total_bytes(&[0x80]), Err(Broken::Short));
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
