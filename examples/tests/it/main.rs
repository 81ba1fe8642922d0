//! Whole tiers in one process, over real sockets, on temporary directories.
//!
//! What is checked here is what no crate can check alone: that an event which
//! was acknowledged to a device reaches the coordinator exactly once, that the
//! HTTP contract holds on a node that runs, and that damage, full disks and
//! wrong input end in an answer rather than in silence.

mod contract;
mod damage;
mod federation;
#[path = "../../http.rs"]
mod http;
mod mqtt;
mod path;
mod process;
mod refusals;
mod rules;
mod table;

use std::time::Duration;

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(25);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` finds something.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seek = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, seek).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
