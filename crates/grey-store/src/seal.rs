//! The checksum that every value carries: neither engine checks a page that
//! it reads after a clean close.

use std::path::Path;

use crate::batch::Table;
use crate::error::StoreError;

const CRC_BYTES: usize = 4;

fn checksum(table: Table, key: &[u8], value: &[u8]) -> u32 {
    let crc = crc32c::crc32c(table.as_str().as_bytes());
    // The key's length keeps (key, value) pairs with the same concatenation apart.
    let crc = crc32c::crc32c_append(crc, &(key.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, key), value)
}

/// The stored form of a value: its bytes, then CRC-32C of table, key length, key and value, little-endian.
pub(crate) fn seal(table: Table, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let crc = checksum(table, key, &value);
    value.extend_from_slice(&crc.to_le_bytes());
    value
}

/// The value of a stored form.
pub(crate) fn unseal(path: &Path, table: Table, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
    let value = stored.len().checked_sub(CRC_BYTES).map(|len| stored.split_at(len));
    match value {
        Some((value, crc)) if crc == checksum(table, key, value).to_le_bytes() => Ok(value.to_vec()),
        _ => Err(StoreError::damaged(
            path,
            format!("the value of key {} in table {:?} fails its checksum", key.escape_ascii(), table.as_str()),
        )),
    }
}
