//! Queueing disciplines that limit what a link carries (tc-tbf(8), tc-u32(8), linux/pkt_sched.h).

use super::message::{Message, flag};

const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const ROOT: u32 = 0xffff_ffff;
const INGRESS_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_0000;
const ETH_P_ALL: u16 = 3;

const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const LINKLAYER_ETHERNET: u8 = 1;
/// How long a packet may wait before it is dropped rather.
const LATENCY_MS: u64 = 25;

const U32_SEL: u16 = 5;
const U32_ACT: u16 = 7;
const U32_TERMINAL: u8 = 1;
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const MIRRED_PARMS: u16 = 2;
const MIRRED_EGRESS_REDIRECT: u32 = 1;
const ACT_STOLEN: u32 = 4;

/// struct tcmsg.
fn fixed(link: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut fixed = [0; 20];
    for (at, word) in [(4, link), (8, handle), (12, parent), (16, info)] {
        fixed[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    fixed
}

/// Limits what goes out by this link to `bits` per second.
pub(crate) fn token_bucket(link: u32, bits: u64, mtu: u32) -> Message {
    let rate = (bits / 8).max(1);
    // A tenth of a second's worth, and never less than two of the biggest frames that the stack makes.
    let burst = (rate / 10).clamp(u64::from(mtu).max(64 * 1024) * 2, 1 << 30);
    let limit = (rate.saturating_mul(LATENCY_MS) / 1000).saturating_add(burst);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: two rate specifications of 12 bytes, limit, buffer, mtu.
    let mut parms = [0; 36];
    parms[1] = LINKLAYER_ETHERNET;
    let rate32 = u32::try_from(rate).unwrap_or(u32::MAX);
    parms[8..12].copy_from_slice(&rate32.to_ne_bytes());
    parms[24..28].copy_from_slice(&limit.to_ne_bytes());
    let mut message = Message::new(NEW_QDISC, flag::CREATE | flag::EXCL, &fixed(link, 0, ROOT, 0));
    message.text(KIND, "tbf").nest(OPTIONS, |m| {
        m.bytes(TBF_PARMS, &parms);
        m.u32(TBF_BURST, u32::try_from(burst).unwrap_or(u32::MAX));
        if rate > u64::from(u32::MAX) {
            m.bytes(TBF_RATE64, &rate.to_ne_bytes());
        }
    });
    message
}

/// The place where what comes in by this link can be filtered.
pub(crate) fn ingress(link: u32) -> Message {
    let fixed = fixed(link, INGRESS, INGRESS_PARENT, 0);
    let mut message = Message::new(NEW_QDISC, flag::CREATE | flag::EXCL, &fixed);
    message.text(KIND, "ingress");
    message
}

/// Leads everything that comes in by `link` out by `target`, where it can be limited.
pub(crate) fn redirect_to(link: u32, target: u32) -> Message {
    let info = u32::from(ETH_P_ALL.to_be()) | (1 << 16);
    let mut message =
        Message::new(NEW_FILTER, flag::CREATE | flag::EXCL, &fixed(link, 0, INGRESS, info));
    // struct tc_u32_sel with one key that matches everything: mask, value, offset and its mask are 0.
    let mut selector = [0; 32];
    selector[0] = U32_TERMINAL;
    selector[2] = 1;
    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let mut mirred = [0; 28];
    mirred[8..12].copy_from_slice(&ACT_STOLEN.to_ne_bytes());
    mirred[20..24].copy_from_slice(&MIRRED_EGRESS_REDIRECT.to_ne_bytes());
    mirred[24..28].copy_from_slice(&target.to_ne_bytes());
    message.text(KIND, "u32").nest(OPTIONS, |m| {
        m.bytes(U32_SEL, &selector).nest(U32_ACT, |m| {
            m.nest(1, |m| {
                m.text(ACT_KIND, "mirred").nest(ACT_OPTIONS, |m| {
                    m.bytes(MIRRED_PARMS, &mirred);
                });
            });
        });
    });
    message
}
