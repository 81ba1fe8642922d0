//! Signatures for those who build on the log; the bodies follow.
#![allow(missing_docs, unused_variables)]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grey_disk::Disk;

use crate::{Damage, LogError, Recovery};

#[derive(Debug, Clone)]
pub struct LogConfig {
    pub segment_bytes_max: u64,
    pub record_bytes_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, record_bytes_max: 8 << 20 }
    }
}

#[derive(Debug)]
pub struct Log;

#[derive(Debug, Clone)]
pub struct LogReader;

fn no<T>() -> Result<T, LogError> {
    Err(LogError::TooLarge { len: 0, limit: 0 })
}

impl Log {
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig) -> Result<(Self, Recovery), LogError> {
        no()
    }
    pub fn first_index(&self) -> u64 {
        0
    }
    pub fn next_index(&self) -> u64 {
        0
    }
    pub fn durable_end(&self) -> u64 {
        0
    }
    pub fn bytes(&self) -> u64 {
        0
    }
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, LogError> {
        no()
    }
    pub fn append_parts(&mut self, parts: &[&[u8]]) -> Result<u64, LogError> {
        no()
    }
    pub fn commit(&mut self) -> Result<u64, LogError> {
        no()
    }
    pub fn read(&self, index: u64) -> Result<Option<Bytes>, LogError> {
        no()
    }
    pub fn reader(&self) -> LogReader {
        LogReader
    }
    pub fn trim_front(&mut self, index: u64) -> Result<(), LogError> {
        no()
    }
    pub fn truncate_back(&mut self, index: u64) -> Result<(), LogError> {
        no()
    }
    pub fn reset(&mut self, next_index: u64) -> Result<(), LogError> {
        no()
    }
}

impl LogReader {
    pub fn first_index(&self) -> u64 {
        0
    }
    pub fn durable_end(&self) -> u64 {
        0
    }
    pub fn read(&self, index: u64) -> Result<Option<Bytes>, LogError> {
        no()
    }
    pub fn scan(&self, from: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, LogError> {
        no()
    }
    pub fn damaged(&self) -> Vec<Damage> {
        Vec::new()
    }
}

#[derive(Debug)]
pub struct Checkpoints;

impl Checkpoints {
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, keep: usize) -> Result<Self, LogError> {
        no()
    }
    pub fn save(&self, position: u64, bytes: &[u8]) -> Result<(), LogError> {
        no()
    }
    pub fn load_newest(&self, at_most: Option<u64>) -> Result<Option<(u64, Vec<u8>)>, LogError> {
        no()
    }
    pub fn list(&self) -> Result<Vec<u64>, LogError> {
        no()
    }
    pub fn remove_below(&self, position: u64) -> Result<(), LogError> {
        no()
    }
}

#[allow(dead_code)]
type Lost = Range<u64>;
