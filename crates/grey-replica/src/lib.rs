//! A replicated tier: consensus, books, uplink in and uplink out.
