//! Lines of bounded length from a stream, numbered.

use std::io::{self, BufRead, Read};

use super::LINE_BYTES_MAX;

/// Reads lines into one buffer.
pub(super) struct Lines<'a> {
    input: &'a mut dyn BufRead,
    buffer: Vec<u8>,
    number: u64,
    bytes_read: u64,
    too_long: bool,
}

/// What is known of the line just read; its text is [`Lines::text`].
#[derive(Debug, Clone, Copy)]
pub(super) struct LineRead {
    /// From 1.
    pub(super) number: u64,
    /// It is over the limit and was cut.
    pub(super) too_long: bool,
    blank: bool,
}

impl LineRead {
    pub(super) fn is_blank(self) -> bool {
        self.blank
    }
}

impl<'a> Lines<'a> {
    pub(super) fn new(input: &'a mut dyn BufRead) -> Self {
        Self { input, buffer: Vec::new(), number: 0, bytes_read: 0, too_long: false }
    }

    /// Reads the next line; `None` at the end.
    pub(super) fn next_line(&mut self) -> io::Result<Option<LineRead>> {
        self.buffer.clear();
        self.too_long = false;
        let mut any = false;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let room = LINE_BYTES_MAX.saturating_sub(self.buffer.len());
            self.too_long |= part.len() > room;
            self.buffer.extend_from_slice(&part[..part.len().min(room)]);
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.input.consume(used);
            self.bytes_read += used as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        let mark = "\u{feff}".as_bytes();
        if self.number == 1 && self.buffer.starts_with(mark) {
            self.buffer.drain(..mark.len());
        }
        let blank = self.buffer.iter().all(u8::is_ascii_whitespace);
        Ok(Some(LineRead { number: self.number, too_long: self.too_long, blank }))
    }

    /// The line just read, without white space around it.
    pub(super) fn text(&self) -> &[u8] {
        self.buffer.trim_ascii()
    }

    /// Whether the line just read is over the limit.
    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Bytes taken from the stream.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The line just read and everything after it; `None` when that is more than `bytes_max`.
    pub(super) fn rest(&mut self, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.push(b'\n');
        self.bytes_read += (&mut *self.input).take(bytes_max).read_to_end(&mut bytes)? as u64;
        Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
    }
}
