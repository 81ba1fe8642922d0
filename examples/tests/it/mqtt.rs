//! A minimal MQTT 3.1.1 device: connects, publishes, reads acknowledgements.
//! It spells its own bytes, so that the agent's codec is not checked against itself.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBCOMP: u8 = 7;

/// How a message is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) qos: u8,
    pub(crate) packet_id: u16,
    pub(crate) dup: bool,
}

/// One connection of a device.
pub(crate) struct Device(TcpStream);

impl Device {
    /// Connects; `clean` begins a new session.
    pub(crate) async fn connect(address: SocketAddr, client: &str, clean: bool) -> Self {
        let mut device = Self(TcpStream::connect(address).await.expect("the agent listens"));
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, u8::from(clean) << 1, 0, 60];
        put_text(&mut body, client);
        device.send(0x10, &body).await;
        let (kind, answer) = device.receive().await.expect("CONNACK");
        assert_eq!((kind, answer.get(1)), (CONNACK, Some(&0)), "the agent lets {client} in");
        device
    }

    pub(crate) async fn publish(&mut self, message: Publish<'_>) {
        let mut body = Vec::new();
        put_text(&mut body, message.topic);
        if message.qos > 0 {
            body.extend(message.packet_id.to_be_bytes());
        }
        body.extend(message.payload.as_bytes());
        self.send(0x30 | message.qos << 1 | u8::from(message.dup) << 3, &body).await;
    }

    pub(crate) async fn release(&mut self, packet_id: u16) {
        self.send(0x62, &packet_id.to_be_bytes()).await;
    }

    /// Reads one acknowledgement.
    pub(crate) async fn acknowledged(&mut self, kind: u8, packet_id: u16) {
        let (got, body) = self.receive().await.expect("an acknowledgement");
        assert_eq!((got, &body[..2]), (kind, &packet_id.to_be_bytes()[..]));
    }

    /// Reads one packet: its type and body; `None` at the end of the connection.
    pub(crate) async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.0.read_u8().await.ok()?;
            let (mut len, mut shift) = (0, 0);
            loop {
                let byte = self.0.read_u8().await.ok()?;
                len |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; len];
            self.0.read_exact(&mut body).await.ok()?;
            Some((first >> 4, body))
        };
        tokio::time::timeout(crate::PATIENCE, read).await.expect("the agent answers or closes")
    }

    /// Writes a packet.
    pub(crate) async fn send(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first];
        let mut len = body.len();
        loop {
            let more = u8::from(len > 0x7F) << 7;
            packet.push(len as u8 & 0x7F | more);
            len >>= 7;
            if len == 0 {
                break;
            }
        }
        packet.extend(body);
        // The agent may close at any time; that shows when its answer is read.
        let _ = self.0.write_all(&packet).await;
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}
