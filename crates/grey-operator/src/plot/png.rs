//! PNG of 8-bit RGB (W3C, Portable Network Graphics, third edition): one image
//! data chunk, each row filtered against the one above it, deflated.

/// Bytes of a pixel.
const PIXEL_BYTES: usize = 3;
/// Deflate level: plots are mostly flat and shrink well at any.
const LEVEL: u8 = 6;

/// The file of an image.
pub(super) fn encode(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&(width as u32).to_be_bytes());
    header.extend_from_slice(&(height as u32).to_be_bytes());
    // Eight bits, RGB, deflate, the five filters, not interlaced.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let row_bytes = width * PIXEL_BYTES;
    let mut filtered = Vec::with_capacity((row_bytes + 1) * height);
    let mut above = vec![0; row_bytes];
    for row in pixels.chunks_exact(row_bytes.max(1)).take(height) {
        // Filter 2, "up": what differs from the row above.
        filtered.push(2);
        filtered.extend(row.iter().zip(&above).map(|(byte, above)| byte.wrapping_sub(*above)));
        above.copy_from_slice(row);
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &miniz_oxide::deflate::compress_to_vec_zlib(&filtered, LEVEL));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let from = file.len();
    file.extend_from_slice(kind);
    file.extend_from_slice(data);
    let sum = crc32fast::hash(&file[from..]);
    file.extend_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_can_be_read_back() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).map(|n| n * 7).collect();
        let file = encode(&pixels, 2, 3);
        assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&file[16..24], &[0, 0, 0, 2, 0, 0, 0, 3]);
        // The checksum of the header and of an empty end are known numbers.
        assert_eq!(&file[file.len() - 12..], b"\0\0\0\0IEND\xae\x42\x60\x82");
        let length = u32::from_be_bytes(file[33..37].try_into().unwrap()) as usize;
        assert_eq!(&file[37..41], b"IDAT");
        let data = miniz_oxide::inflate::decompress_to_vec_zlib(&file[41..41 + length]).unwrap();
        let mut above = vec![0_u8; 6];
        let mut back = Vec::new();
        for row in data.chunks(7) {
            assert_eq!(row[0], 2);
            above = row[1..].iter().zip(&above).map(|(byte, above)| byte.wrapping_add(*above)).collect();
            back.extend_from_slice(&above);
        }
        assert_eq!(back, pixels);
    }
}
