//! A router with address translation on the far side, as in front of most clients.
//!
//! It is part of the far side's own network stack: what leaves gets another address and port, and
//! only answers come back in.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use rustix::net::netlink::NETFILTER;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

use super::{DEVICE, Place};

/// Translates what `place` sends to `address` and new ports. Existing connections get new ports
/// too, and their peers take that for another client, as with any router that has forgotten its
/// table.
pub(crate) fn translate(place: &Place, address: Ipv4Addr, turn: u16) -> Result<()> {
    // Other ports each time: a router that starts over gives out others as well, and a kernel that
    // may choose prefers the old one.
    let first = FIRST_PORT + turn % N_RANGES * RANGE_LEN;
    let last = first + RANGE_LEN - 1;
    let script = format!(
        "table ip router\ndelete table ip router\ntable ip router {{\n\
         chain out {{ type nat hook postrouting priority 100\n\
         oifname \"{DEVICE}\" meta l4proto {{ tcp, udp }} snat to {address}:{first}-{last}\n\
         oifname \"{DEVICE}\" snat to {address}\n}}\n}}\n"
    );
    place.run_with_input("nft", &["-f", "-"], &script)?;
    forget_connections(place)
}

/// Empties the table of connections (`conntrack -F`, which few machines have installed).
fn forget_connections(place: &Place) -> Result<()> {
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let mut message = Vec::with_capacity(MESSAGE_LEN);
    message.extend(u32::try_from(MESSAGE_LEN)?.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence number, sender; family, version and resource: all of them 0, for all connections.
    message.extend([0; 12]);

    let mut answer = [0; 64];
    let (n, _) = place
        .enter(|| {
            let kernel = socket(AddressFamily::NETLINK, SocketType::RAW, Some(NETFILTER))?;
            send(&kernel, &message, SendFlags::empty())?;
            recv(&kernel, &mut answer[..], RecvFlags::empty())
        })
        .context("cannot ask the kernel to forget connections")?;
    let error = answer
        .get(HEADER_LEN..HEADER_LEN + 4)
        .filter(|_| n >= HEADER_LEN + 4);
    ensure!(
        error == Some(&[0; 4]),
        "the kernel does not forget connections: {error:?}"
    );
    Ok(())
}

/// The ranges of ports that follow each other.
const FIRST_PORT: u16 = 20_000;
const RANGE_LEN: u16 = 2_000;
const N_RANGES: u16 = 20;

// `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `nfnetlink_conntrack.h`.
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const HEADER_LEN: usize = 16;
const MESSAGE_LEN: usize = HEADER_LEN + 4;
