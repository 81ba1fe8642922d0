//! Where to dial next: the configured addresses in turn, or where the last
//! peer pointed, for a bounded number of hops.

use super::config::is_address;

#[derive(Debug)]
pub(super) struct Route {
    addresses: Vec<String>,
    /// Which configured address is next.
    turn: usize,
    /// Redirects followed since the last progress.
    hops: u32,
    hops_max: u32,
    /// An address to try before the configured ones.
    detour: Option<String>,
    current: String,
}

impl Route {
    pub(super) fn new(addresses: Vec<String>, hops_max: u32) -> Self {
        Self { addresses, turn: 0, hops: 0, hops_max, detour: None, current: String::new() }
    }

    /// The address to dial now.
    pub(super) fn next(&mut self) -> &str {
        self.current = match self.detour.take() {
            Some(address) => address,
            None => {
                let address = self.addresses.get(self.turn % self.addresses.len().max(1)).cloned();
                self.turn = self.turn.wrapping_add(1);
                address.unwrap_or_default()
            }
        };
        &self.current
    }

    /// The address that was dialled last.
    pub(super) fn current(&self) -> &str {
        &self.current
    }

    /// Follows a redirect: true when the next address should be dialled at once.
    pub(super) fn redirect(&mut self, address: Option<&str>) -> bool {
        self.hops = self.hops.saturating_add(1);
        match address {
            Some(address) if self.hops <= self.hops_max && is_address(address) => {
                self.detour = Some(address.to_owned());
                true
            }
            _ => false,
        }
    }

    /// A session ended that was good: its address is tried first.
    pub(super) fn prefer_current(&mut self) {
        self.detour = Some(self.current.clone());
    }

    /// The peer made progress: redirects may be followed again.
    pub(super) fn on_progress(&mut self) {
        self.hops = 0;
    }

    /// Waiting begins: the loop, if there was one, is broken.
    pub(super) fn on_wait(&mut self) {
        self.hops = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hops_max: u32) -> Route {
        Route::new(vec!["a:1".into(), "b:2".into()], hops_max)
    }

    #[test]
    fn addresses_take_turns() {
        let mut route = route(4);
        let dialled: Vec<_> = (0..5).map(|_| route.next().to_owned()).collect();
        assert_eq!(dialled, ["a:1", "b:2", "a:1", "b:2", "a:1"]);
    }

    #[test]
    fn a_redirect_is_a_detour_and_hops_are_bounded() {
        let mut route = route(2);
        assert_eq!(route.next(), "a:1");
        assert!(route.redirect(Some("c:3")));
        assert_eq!(route.next(), "c:3");
        assert!(route.redirect(Some("a:1")));
        assert_eq!(route.next(), "a:1");
        assert!(!route.redirect(Some("c:3")));
        assert_eq!(route.next(), "b:2");
        route.on_progress();
        assert!(route.redirect(Some("c:3")));
    }

    #[test]
    fn only_what_can_be_dialled_is_followed() {
        for good in ["hub-1.example:7100", "10.0.0.1:1", "[::1]:7100", "a_b:65535"] {
            assert!(route(9).redirect(Some(good)), "{good}");
        }
        for bad in ["", "hub", "hub:", "hub:0", "hub:65536", "hub:+1", ":1", "::1:7100", "a b:1", "http://x:1", "[x]:1"]
        {
            assert!(!route(9).redirect(Some(bad)), "{bad}");
        }
        assert!(!route(9).redirect(None));
    }

    #[test]
    fn a_good_peer_is_tried_again_first() {
        let mut route = route(4);
        route.next();
        route.redirect(Some("leader:9"));
        route.next();
        route.prefer_current();
        assert_eq!(route.next(), "leader:9");
        assert_eq!(route.next(), "b:2");
    }
}
