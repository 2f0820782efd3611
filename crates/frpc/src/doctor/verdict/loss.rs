//! What is lost on the way, and of what.

use super::*;

/// Packets of which a share tells three percent from none: chance makes it of one percent once in
/// twelve times, and then one of both is true.
const ENOUGH_PACKETS: u64 = 100;

/// How many times more UDP loses than TCP where it is not the link that loses.
const ALONE_FACTOR: f64 = 10.0;

/// How many packets TCP would have lost, did it lose as UDP does: that it is none of seven is chance
/// once in a thousand times.
const ENOUGH_EXPECTED: f64 = 7.0;

impl Case<'_> {
    /// Loss of the link, told by what counts packets.
    pub(super) fn judge_loss(&self, findings: &mut Vec<Finding>) {
        if let Some(finding) = self.udp_alone_loses() {
            findings.push(finding);
            return;
        }
        if self.is_go() {
            findings.extend(self.counted_loss());
            return;
        }
        let mut worst: Option<(f64, &PathReport, &Measured)> = None;
        for (path, measured) in self.measured().filter(|(path, _)| path.is_udp) {
            let [out, back] = [measured.loss_out_pct, measured.loss_in_pct];
            let Some(loss) = out.into_iter().chain(back).reduce(f64::max) else {
                continue;
            };
            if worst.is_none_or(|(most, ..)| loss > most) {
                worst = Some((loss, path, measured));
            }
        }
        let Some((loss, path, measured)) = worst.filter(|(loss, ..)| *loss >= LOSS_PCT) else {
            return;
        };
        let pct =
            |loss: Option<f64>| loss.map_or_else(|| "?".to_owned(), |loss| format!("{loss:.0}"));
        let advice = match loss >= HEAVY_LOSS_PCT {
            true => {
                "TCP is slow on that with most systems. QUIC and KCP of Holdfast keep the \
                     link's rate; auto uses whichever is best."
            }
            false => "QUIC and KCP of Holdfast keep the link's rate; auto uses whichever is best.",
        };
        findings.push(Finding {
            kind: "loss",
            text: format!(
                "the link loses packets: {} % to the server and {} % back (of {} and {} probes \
                 over {})",
                pct(measured.loss_out_pct),
                pct(measured.loss_in_pct),
                measured.probes_out,
                measured.probes_in,
                path.transport
            ),
            advice: advice.to_owned(),
            config: self.auto_line().filter(|_| self.is_holdfast()),
        });
    }

    /// A server of frp answers no probes, and what this end's packets come to is known all the same.
    fn counted_loss(&self) -> Option<Finding> {
        let (loss, path) = self
            .worst_counted(true)
            .or_else(|| self.worst_counted(false))?;
        (loss >= LOSS_PCT).then(|| Finding {
            kind: "loss",
            text: format!(
                "the link loses packets: {loss:.0} % of those to the server over {} (those from \
                 the server are not counted)",
                path.transport
            ),
            advice:
                "TCP is slow on that with most systems. QUIC of Holdfast keeps the link's rate \
                     for what this end sends, towards frp too (quicBindPort on the server); with \
                     a Holdfast at both ends it does so both ways."
                    .to_owned(),
            config: None,
        })
    }

    /// UDP that loses packets where TCP loses none is held down by somebody, and not by the link.
    fn udp_alone_loses(&self) -> Option<Finding> {
        // What a burst loses that was to find out a rate says only that there is one.
        if !self.is_go() && !self.is_lossy() {
            return None;
        }
        let (udp, path) = self.worst_counted(true)?;
        let of_tcp = self.measured().filter(|(path, _)| !path.is_udp);
        let (_, most) = of_tcp.max_by_key(|(_, measured)| measured.packets_out)?;
        let tcp = most.packet_loss_pct?;
        #[expect(clippy::cast_precision_loss, reason = "of some hundred packets")]
        let expected = most.packets_out as f64 * udp / 100.0;
        if expected < ENOUGH_EXPECTED {
            return None;
        }
        (udp >= LOSS_PCT && tcp * ALONE_FACTOR < udp).then(|| Finding {
            kind: "udp_policed",
            text: format!(
                "UDP loses {udp:.0} % of its packets to the server (over {}), TCP {tcp:.1} %: \
                 somebody on the way holds UDP down",
                path.transport
            ),
            advice: "auto finds that out by itself, and goes over TCP. Without it, pin TCP."
                .to_owned(),
            config: match self.is_holdfast() {
                true => self.auto_line(),
                false => Some("transport.protocol = \"tcp\"".to_owned()),
            },
        })
    }

    /// The most that a path over UDP, or over TCP, has lost of enough packets.
    fn worst_counted(&self, is_udp: bool) -> Option<(f64, &PathReport)> {
        let of_kind = self.measured().filter(|(path, _)| path.is_udp == is_udp);
        let counted = of_kind.filter(|(_, measured)| measured.packets_out >= ENOUGH_PACKETS);
        let losses = counted.filter_map(|(path, measured)| Some((measured.packet_loss_pct?, path)));
        losses.max_by(|one, other| one.0.total_cmp(&other.0))
    }
}
