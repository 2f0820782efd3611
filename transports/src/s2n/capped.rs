//! A congestion control that another one's window is cut by, so that a rate is not exceeded. See
//! [`crate::quic`]'s of the same name.

use std::time::Duration;

use s2n_quic::provider::congestion_controller::{
    CongestionController, Endpoint, PathInfo, Publisher, RandomGenerator, RttEstimator, Timestamp,
};

use crate::quic::{INITIAL_RTT, window_at};

/// Makes congestion controls that send at most at `max_rate`, if there is one.
#[derive(Debug)]
pub(super) struct Capped<E> {
    endpoint: E,
    max_rate: Option<u64>,
}

impl<E> Capped<E> {
    pub(super) fn new(endpoint: E, max_rate: Option<u64>) -> Self {
        Self { endpoint, max_rate }
    }
}

impl<E: Endpoint> Endpoint for Capped<E> {
    type CongestionController = Cap<E::CongestionController>;

    fn new_congestion_controller(&mut self, path: PathInfo<'_>) -> Self::CongestionController {
        let mut cap = Cap {
            max_rate: self.max_rate,
            mtu: path.max_datagram_size,
            window: u32::MAX,
            controller: self.endpoint.new_congestion_controller(path),
        };
        cap.fit(INITIAL_RTT);
        cap
    }
}

/// A congestion control that does what the wrapped one does, within its own window.
#[derive(Clone, Debug)]
pub(super) struct Cap<C> {
    controller: C,
    max_rate: Option<u64>,
    mtu: u16,
    window: u32,
}

impl<C> Cap<C> {
    fn fit(&mut self, rtt: Duration) {
        if let Some(max_rate) = self.max_rate {
            let window = window_at(max_rate, rtt, self.mtu);
            self.window = u32::try_from(window).unwrap_or(u32::MAX);
        }
    }
}

impl<C: CongestionController> CongestionController for Cap<C> {
    type PacketInfo = C::PacketInfo;

    fn congestion_window(&self) -> u32 {
        self.controller.congestion_window().min(self.window)
    }

    fn bytes_in_flight(&self) -> u32 {
        self.controller.bytes_in_flight()
    }

    fn is_congestion_limited(&self) -> bool {
        let room = self.window.saturating_sub(self.bytes_in_flight());
        self.controller.is_congestion_limited() || room < u32::from(self.mtu)
    }

    fn requires_fast_retransmission(&self) -> bool {
        self.controller.requires_fast_retransmission()
    }

    fn on_packet_sent<Pub: Publisher>(
        &mut self,
        time_sent: Timestamp,
        sent_bytes: usize,
        app_limited: Option<bool>,
        rtt_estimator: &RttEstimator,
        publisher: &mut Pub,
    ) -> Self::PacketInfo {
        self.controller
            .on_packet_sent(time_sent, sent_bytes, app_limited, rtt_estimator, publisher)
    }

    fn on_rtt_update<Pub: Publisher>(
        &mut self,
        time_sent: Timestamp,
        now: Timestamp,
        rtt_estimator: &RttEstimator,
        publisher: &mut Pub,
    ) {
        self.fit(rtt_estimator.smoothed_rtt());
        self.controller
            .on_rtt_update(time_sent, now, rtt_estimator, publisher);
    }

    fn on_ack<Pub: Publisher>(
        &mut self,
        newest_acked_time_sent: Timestamp,
        bytes_acknowledged: usize,
        newest_acked_packet_info: Self::PacketInfo,
        rtt_estimator: &RttEstimator,
        random_generator: &mut dyn RandomGenerator,
        ack_receive_time: Timestamp,
        publisher: &mut Pub,
    ) {
        self.controller.on_ack(
            newest_acked_time_sent,
            bytes_acknowledged,
            newest_acked_packet_info,
            rtt_estimator,
            random_generator,
            ack_receive_time,
            publisher,
        );
    }

    fn on_packet_lost<Pub: Publisher>(
        &mut self,
        lost_bytes: u32,
        packet_info: Self::PacketInfo,
        persistent_congestion: bool,
        new_loss_burst: bool,
        random_generator: &mut dyn RandomGenerator,
        timestamp: Timestamp,
        publisher: &mut Pub,
    ) {
        self.controller.on_packet_lost(
            lost_bytes,
            packet_info,
            persistent_congestion,
            new_loss_burst,
            random_generator,
            timestamp,
            publisher,
        );
    }

    fn on_explicit_congestion<Pub: Publisher>(
        &mut self,
        ce_count: u64,
        event_time: Timestamp,
        publisher: &mut Pub,
    ) {
        self.controller
            .on_explicit_congestion(ce_count, event_time, publisher);
    }

    fn on_mtu_update<Pub: Publisher>(&mut self, max_data_size: u16, publisher: &mut Pub) {
        self.mtu = max_data_size;
        self.controller.on_mtu_update(max_data_size, publisher);
    }

    fn on_packet_discarded<Pub: Publisher>(&mut self, bytes_sent: usize, publisher: &mut Pub) {
        self.controller.on_packet_discarded(bytes_sent, publisher);
    }

    fn earliest_departure_time(&self) -> Option<Timestamp> {
        self.controller.earliest_departure_time()
    }

    fn send_quantum(&self) -> Option<usize> {
        self.controller.send_quantum()
    }
}
