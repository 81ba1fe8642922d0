//! Drives a production [`Sender`] over a virtual connection, as `grey-net`
//! does over TCP.

use bytes::BytesMut;
use grey_link::BackoffConfig;
use grey_model::SiteId;
use grey_sync::{Action, FrameDecoder, Outbox, Role, Sender, SenderConfig};

use crate::fault::Fault;
use crate::net::{Arrival, End, Net, Place};

/// The dialling side of a link.
#[derive(Debug)]
pub(crate) struct Uplink {
    sender: Sender,
    place: Place,
    boot: u64,
    conn: Option<u64>,
    decoder: FrameDecoder,
    redirects: u64,
}

/// Settings with times that fit a run of seconds.
pub(crate) fn sender_config(site: SiteId, role: Role, addresses: Vec<String>, seed: u64) -> SenderConfig {
    SenderConfig {
        role,
        seed,
        window_bytes_max: 16 << 10,
        in_flight_blocks_max: 32,
        connect_timeout_ms: 300,
        greeting_timeout_ms: 500,
        heartbeat_interval_ms: 250,
        heartbeat_timeout_ms: 900,
        sites_interval_ms: 700,
        ack_timeout_ms: 1_500,
        rate_floor_bytes_per_s: 1 << 20,
        outbox_retry_ms: 100,
        backoff: BackoffConfig { initial_ms: 30, max_ms: 600, factor: 2, jitter_percent: 20, stable_ms: 1_000 },
        ..SenderConfig::new(site, addresses)
    }
}

impl Uplink {
    pub(crate) fn new(config: SenderConfig, start: [u64; 3], place: Place, boot: u64, now: u64) -> Self {
        let sender = Sender::new(config, start, now).expect("the simulation's settings are checked by every run");
        Self { sender, place, boot, conn: None, decoder: FrameDecoder::for_sender(), redirects: 0 }
    }

    pub(crate) fn wake(&mut self) {
        self.sender.wake();
    }

    pub(crate) fn tick(&mut self, net: &Net) {
        self.sender.on_tick(net.now);
    }

    /// Writes what there is to write, and does what the sender asks for. Returns what is for
    /// the owner of the data.
    pub(crate) fn run(
        &mut self,
        net: &mut Net,
        outbox: &mut dyn Outbox,
        find: &dyn Fn(&str) -> Option<Place>,
    ) -> Vec<Action> {
        let mut for_owner = Vec::new();
        loop {
            let mut idle = true;
            while let Some(conn) = self.conn.filter(|_| self.sender.is_connected())
                && net.has_room(conn, End::Client)
                && let Some(frame) = self.sender.poll_transmit(net.now, outbox)
            {
                let mut bytes = BytesMut::new();
                frame.encode(&mut bytes);
                net.write(conn, End::Client, &bytes);
                idle = false;
            }
            while let Some(action) = self.sender.poll_action() {
                idle = false;
                match action {
                    Action::Dial { address, .. } => {
                        self.hang_up(net);
                        self.decoder = FrameDecoder::for_sender();
                        match find(&address) {
                            Some(server) => self.conn = Some(net.dial(self.place, self.boot, server)),
                            None => self.sender.on_disconnected(net.now, "no such host"),
                        }
                    }
                    Action::Close { .. } => self.hang_up(net),
                    other => for_owner.push(other),
                }
            }
            if idle {
                break;
            }
        }
        let redirects = self.sender.status().stats.redirects;
        net.faults.add(Fault::Redirected, redirects - self.redirects);
        self.redirects = redirects;
        for_owner
    }

    fn hang_up(&mut self, net: &mut Net) {
        if let Some(conn) = self.conn.take() {
            net.close(conn, End::Client);
        }
    }

    /// The connection that was dialled stands, or does not.
    pub(crate) fn dialed(&mut self, net: &mut Net, conn: u64, stands: bool) {
        if self.conn != Some(conn) {
            return;
        }
        if stands {
            self.sender.on_connected(net.now);
        } else {
            self.hang_up(net);
            self.sender.on_disconnected(net.now, "connection refused");
        }
    }

    /// Something arrived on the connection.
    pub(crate) fn arrived(&mut self, net: &mut Net, conn: u64, arrival: Arrival) {
        if self.conn != Some(conn) {
            return;
        }
        let broken = match arrival {
            Arrival::End => Some("the peer closed the connection".to_owned()),
            Arrival::Bytes(bytes) => {
                self.decoder.extend(&bytes);
                loop {
                    if !self.sender.is_connected() {
                        break None;
                    }
                    match self.decoder.next_frame() {
                        Ok(Some(frame)) => self.sender.on_frame(net.now, frame),
                        Ok(None) => break None,
                        Err(error) => break Some(error.to_string()),
                    }
                }
            }
        };
        if let Some(reason) = broken {
            if self.decoder.partial_bytes() > 0 {
                net.faults.note(Fault::MidFrameCut);
            }
            self.hang_up(net);
            self.sender.on_disconnected(net.now, &reason);
        }
    }

    /// Ends the link in order.
    pub(crate) fn stop(mut self, net: &mut Net, outbox: &mut dyn Outbox) {
        let was_live = self.sender.is_live();
        self.sender.stop(net.now, "shutting down");
        if let Some(conn) = self.conn.filter(|_| was_live) {
            while let Some(frame) = self.sender.poll_transmit(net.now, outbox) {
                let mut bytes = BytesMut::new();
                frame.encode(&mut bytes);
                net.write(conn, End::Client, &bytes);
            }
        }
        self.hang_up(net);
    }

    /// For failure reports.
    pub(crate) fn describe(&self) -> String {
        let status = self.sender.status();
        format!("link {:?}, session {:?}, last failure {:?}", status.state, status.session, status.last_failure)
    }
}
