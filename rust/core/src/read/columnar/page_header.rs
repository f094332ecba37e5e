//! Reads the header of a Parquet page from Thrift.

use super::thrift::{Broken, Read, Thrift, kind};

/// The fields of a page header that are needed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Header {
    pub kind: i32,
    pub unpacked: usize,
    pub packed: usize,
    /// Number of values, including nulls for a data page.
    pub values: u32,
    pub encoding: i32,
    pub definition_encoding: i32,
    pub repetition_encoding: i32,
    pub nulls: u32,
    pub rows: u32,
    pub definition_bytes: u32,
    pub repetition_bytes: u32,
    pub is_stored: bool,
    pub is_sorted: bool,
}

pub(super) const DATA: i32 = 0;
pub(super) const DICTIONARY: i32 = 2;
pub(super) const DATA_V2: i32 = 3;

/// Reads the header at the current position.
pub(super) fn read(thrift: &mut Thrift<'_>) -> Read<Header> {
    let mut header = Header::default();
    let mut has_kind = false;
    thrift.fields(|thrift, id, of| match id {
        1 => thrift.int32(of).map(|kind| (header.kind, has_kind) = (kind, true)),
        2 => size(thrift, of).map(|bytes| header.unpacked = bytes as usize),
        3 => size(thrift, of).map(|bytes| header.packed = bytes as usize),
        5 => data(thrift, of, &mut header),
        7 => dictionary(thrift, of, &mut header),
        8 => data_v2(thrift, of, &mut header),
        _ => thrift.skip(of),
    })?;
    if has_kind { Ok(header) } else { Err(Broken::Malformed) }
}

fn size(thrift: &mut Thrift<'_>, of: u8) -> Read<u32> {
    u32::try_from(thrift.int32(of)?).map_err(|_| Broken::Malformed)
}

fn structure(
    thrift: &mut Thrift<'_>,
    of: u8,
    visit: impl FnMut(&mut Thrift<'_>, i16, u8) -> Read<()>,
) -> Read<()> {
    if of == kind::STRUCT { thrift.fields(visit) } else { Err(Broken::Malformed) }
}

fn data(thrift: &mut Thrift<'_>, of: u8, header: &mut Header) -> Read<()> {
    structure(thrift, of, |thrift, id, of| match id {
        1 => size(thrift, of).map(|values| header.values = values),
        2 => thrift.int32(of).map(|encoding| header.encoding = encoding),
        3 => thrift.int32(of).map(|encoding| header.definition_encoding = encoding),
        4 => thrift.int32(of).map(|encoding| header.repetition_encoding = encoding),
        _ => thrift.skip(of),
    })
}

fn dictionary(thrift: &mut Thrift<'_>, of: u8, header: &mut Header) -> Read<()> {
    structure(thrift, of, |thrift, id, of| match id {
        1 => size(thrift, of).map(|values| header.values = values),
        2 => thrift.int32(of).map(|encoding| header.encoding = encoding),
        3 => {
            header.is_sorted = of == kind::TRUE;
            thrift.skip(of)
        }
        _ => thrift.skip(of),
    })
}

fn data_v2(thrift: &mut Thrift<'_>, of: u8, header: &mut Header) -> Read<()> {
    structure(thrift, of, |thrift, id, of| match id {
        1 => size(thrift, of).map(|values| header.values = values),
        2 => size(thrift, of).map(|nulls| header.nulls = nulls),
        3 => size(thrift, of).map(|rows| header.rows = rows),
        4 => thrift.int32(of).map(|encoding| header.encoding = encoding),
        5 => size(thrift, of).map(|bytes| header.definition_bytes = bytes),
        6 => size(thrift, of).map(|bytes| header.repetition_bytes = bytes),
        7 => {
            header.is_stored = of == kind::FALSE;
            thrift.skip(of)
        }
        _ => thrift.skip(of),
    })
}
