//! Free TCP ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use super::error::ClusterError;

/// A TCP port that nobody listens on, and that no other claim gets while this one lives.
///
/// Between the look at a port and the bind of the server that is to have it, another demo or test would find it free
/// too. So a claim holds the *UDP* port of the same number, which is exclusive and vanishes with the process.
#[derive(Debug)]
pub struct PortClaim {
    number: u16,
    _held: UdpSocket,
}

impl PortClaim {
    /// `wanted`, or the next port after it that can be had.
    pub fn at_or_after(wanted: u16) -> Result<Self, ClusterError> {
        let last = wanted.saturating_add(TRIES);
        (wanted..=last).find_map(Self::try_at).ok_or(ClusterError::NoPort { from: wanted, to: last })
    }

    /// A port where nobody expects one to be: each call, and each process, starts looking somewhere else.
    ///
    /// Below the range from which the kernel takes the local ports of outgoing connections (32768 on Linux), else any
    /// connection could have it before the server's bind.
    pub fn anywhere() -> Result<Self, ClusterError> {
        static CALLS: AtomicU16 = AtomicU16::new(0);
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        // A multiplier prime to the range's size spreads neighbouring process ids.
        let process = (u64::from(process::id()) * 7919) % u64::from(SPAN);
        let offset = (process + u64::from(calls) * 13) % u64::from(SPAN);
        Self::at_or_after(FIRST + u16::try_from(offset).expect("below SPAN, a u16"))
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn try_at(number: u16) -> Option<Self> {
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _held: held })
    }
}

const TRIES: u16 = 200;
const FIRST: u16 = 12_000;
const SPAN: u16 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_and_one_that_is_listened_on_are_passed_over() {
        let first = PortClaim::anywhere().expect("a port");
        let second = PortClaim::at_or_after(first.number()).expect("one of the next is free");
        assert!(second.number() > first.number());

        let taken = first.number();
        drop(first);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).expect("it was free for the claim's owner");
        assert!(PortClaim::at_or_after(taken).expect("one of the next is free").number() > taken);
    }

    #[test]
    fn a_claim_ends_with_its_owner() {
        // Another test may take one in the meantime.
        let is_free_again = |_| {
            let number = PortClaim::anywhere().expect("a port").number();
            PortClaim::at_or_after(number).expect("this or the next").number() == number
        };
        assert!((0..10).any(is_free_again));
    }
}
