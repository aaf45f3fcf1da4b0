use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const RULES: Rules =
    Rules { streams_max: 4, stream_window_bytes: 100_000, connection_window_bytes: 200_000, header_bytes_max: 20_000 };

/// GET / with an indexed method, scheme and path, and an authority.
const GET: &[u8] = b"\x82\x87\x84\x41\x01a";
const POST: &[u8] = b"\x83\x87\x84\x41\x01a";

/// A client whose frames are written by hand.
struct Peer {
    session: Session,
    now: Instant,
}

/// Kind, flags, stream and payload.
type Sent = (u8, u8, u32, Vec<u8>);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn head(stream: u32, block: &[u8], end: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_headers(&mut bytes, stream, block, end);
    bytes
}

fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(kind::DATA, u8::from(end), stream, bytes)
}

fn number(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

impl Peer {
    fn new() -> Self {
        let now = Instant::now();
        let mut peer = Self { session: Session::new(RULES, now), now };
        let sent = peer.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])[..]].concat());
        let kinds: Vec<_> = sent.iter().map(|(kind, flags, ..)| (*kind, *flags)).collect();
        assert_eq!(kinds, [(kind::SETTINGS, 0), (kind::WINDOW_UPDATE, 0), (kind::SETTINGS, flag::ACK)]);
        peer
    }

    /// What the session says to these bytes.
    fn send(&mut self, bytes: &[u8]) -> Vec<Sent> {
        // A flood is told by the frame that ends the connection, too.
        self.session.receive(bytes, self.now).unwrap_or_default();
        self.sent()
    }

    fn sent(&mut self) -> Vec<Sent> {
        let bytes = self.session.unsent().to_vec();
        self.session.note_sent(bytes.len());
        frames(&bytes)
    }

    /// Requests that have begun.
    fn opened(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.session.next_opened()).collect()
    }

    fn data_sent(&mut self, id: u32, bytes: &[u8], end: bool) -> Vec<(usize, u8)> {
        self.session.send_data(id, bytes, end);
        self.sent().iter().map(|(_kind, flags, _stream, payload)| (payload.len(), *flags)).collect()
    }
}

fn frames(mut bytes: &[u8]) -> Vec<Sent> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let head = FrameHead::parse(header);
        let (payload, behind) = rest.split_at(head.length);
        frames.push((head.kind, head.flags, head.stream, payload.to_vec()));
        bytes = behind;
    }
    assert!(bytes.is_empty(), "half a frame");
    frames
}

fn go_away(last: u32, reason: Reason) -> Sent {
    (kind::GOAWAY, 0, 0, [number(last), number(reason as u32)].concat())
}

fn reset(stream: u32, reason: Reason) -> Sent {
    (kind::RST_STREAM, 0, stream, number(reason as u32).to_vec())
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    // A stream is idle, open, half closed by the client, or closed; all four are met here.
    let check = |bytes: &[u8], reason: Reason| {
        let mut peer = Peer::new();
        peer.send(&head(1, POST, false));
        peer.send(&head(3, GET, true));
        peer.opened();
        let sent = peer.send(bytes);
        assert_eq!(
            sent.last(),
            Some(&go_away(peer.session.last_stream, reason)),
            "{:x?}",
            &bytes[..bytes.len().min(30)]
        );
        assert_eq!(peer.session.end(), End::Over);
        assert!(peer.session.is_gone(1), "its requests are gone");
        assert_eq!(peer.send(&frame(kind::PING, 0, 0, b"12345678")), [], "nothing more is answered");
    };
    check(&frame(kind::DATA, 0, 1, &vec![0; PAYLOAD_BYTES_MAX + 1]), Reason::FrameSizeError);
    check(&head(5, b"\x80", true), Reason::CompressionError);
    check(&data(5, b"x", false), Reason::ProtocolError);
    check(&frame(kind::RST_STREAM, 0, 5, &number(8)), Reason::ProtocolError);
    check(&frame(kind::WINDOW_UPDATE, 0, 5, &number(1)), Reason::ProtocolError);
    check(&frame(kind::CONTINUATION, flag::END_HEADERS, 1, b""), Reason::ProtocolError);
    check(&data(3, b"x", false), Reason::StreamClosed);
    check(&head(3, GET, true), Reason::StreamClosed);
    check(&[head(7, GET, true), head(5, GET, true)].concat(), Reason::StreamClosed);
    check(&head(4, GET, true), Reason::ProtocolError);
    let unfinished = frame(kind::HEADERS, 0, 5, GET);
    check(&[&unfinished[..], &frame(kind::PING, 0, 0, b"12345678")].concat(), Reason::ProtocolError);
    check(&[&unfinished[..], &frame(kind::CONTINUATION, 0, 7, b"")].concat(), Reason::ProtocolError);
    check(&[unfinished, frame(kind::CONTINUATION, 0, 5, &[0; 16_000]).repeat(2)].concat(), Reason::EnhanceYourCalm);
    let settings =
        |name: u16, value: u32| frame(kind::SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &number(value)].concat());
    check(&settings(setting::ENABLE_PUSH, 2), Reason::ProtocolError);
    check(&settings(setting::INITIAL_WINDOW_SIZE, 1 << 31), Reason::FlowControlError);
    check(&settings(setting::MAX_FRAME_SIZE, 16_383), Reason::ProtocolError);
    check(&settings(setting::MAX_FRAME_SIZE, 1 << 24), Reason::ProtocolError);
    check(&frame(kind::WINDOW_UPDATE, 0, 0, &number(MAX_31_BITS)), Reason::FlowControlError);
    let grown = frame(kind::WINDOW_UPDATE, 0, 1, &number(MAX_31_BITS - 65_535));
    check(&[grown, settings(setting::INITIAL_WINDOW_SIZE, 65_536)].concat(), Reason::FlowControlError);
    // More than the connection's window, on a stream that has room for it.
    let full = [head(5, POST, false), data(5, &[0; 10_000], false).repeat(10), head(7, POST, false)].concat();
    check(&[full, data(1, &[0; 10_001], false).repeat(10)].concat(), Reason::FlowControlError);
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    let first = |bytes: &[u8]| {
        let mut peer = Peer { session: Session::new(RULES, Instant::now()), now: Instant::now() };
        peer.send(bytes).last().cloned()
    };
    assert_eq!(first(b"GET / HTTP/1.1\r\n"), Some(go_away(0, Reason::ProtocolError)));
    assert_eq!(
        first(&[PREFACE, &frame(kind::PING, 0, 0, b"12345678")[..]].concat()),
        Some(go_away(0, Reason::ProtocolError))
    );
    let ack = frame(kind::SETTINGS, flag::ACK, 0, b"");
    assert_eq!(first(&[PREFACE, &ack[..]].concat()), Some(go_away(0, Reason::ProtocolError)));
}

#[test]
fn what_breaks_a_stream_resets_it_and_the_others_go_on() {
    let check = |bytes: &[u8], stream: u32, reason: Reason| {
        let mut peer = Peer::new();
        peer.send(&head(1, &[POST, b"\x0f\x0d\x013"].concat(), false));
        peer.opened();
        assert_eq!(peer.send(bytes), [reset(stream, reason)], "{bytes:x?}");
        let ping = peer.send(&frame(kind::PING, 0, 0, b"12345678"));
        assert_eq!(ping, [(kind::PING, flag::ACK, 0, b"12345678".to_vec())]);
        assert_eq!(peer.session.is_gone(1), stream == 1);
        // What was on its way when the client heard of it is no fault.
        assert_eq!(peer.send(&data(stream, b"x", false)), []);
        assert_eq!(peer.send(&frame(kind::WINDOW_UPDATE, 0, stream, &number(1))), []);
    };
    check(&frame(kind::WINDOW_UPDATE, 0, 1, &number(0)), 1, Reason::ProtocolError);
    check(&frame(kind::WINDOW_UPDATE, 0, 1, &number(MAX_31_BITS)), 1, Reason::FlowControlError);
    check(&data(1, b"four", false), 1, Reason::ProtocolError);
    check(&data(1, b"xx", true), 1, Reason::ProtocolError);
    check(&head(1, b"\x00\x01x\x01y", false), 1, Reason::ProtocolError);
    check(&head(1, b"\x82", true), 1, Reason::ProtocolError);
    check(&head(1, b"\x00\x01x\x01y", true), 1, Reason::ProtocolError);
    check(&head(3, b"\x82\x87\x84\x00\x05Upper\x01x", false), 3, Reason::ProtocolError);
    check(&head(3, b"\x82\x87", false), 3, Reason::ProtocolError);
    let too_much = [&[0x0f, 0x0d, 6][..], b"999999"].concat();
    let mut peer = Peer::new();
    peer.send(&head(1, &[POST, &too_much[..]].concat(), false));
    peer.opened();
    let sent = peer.send(&data(1, &[0; 11_000], false).repeat(10));
    assert_eq!(sent.first(), Some(&reset(1, Reason::FlowControlError)));
}

#[test]
fn so_many_streams_are_so_much_work_whatever_the_frames_say() {
    let mut peer = Peer::new();
    let requests: Vec<u8> = (0..4).flat_map(|n| head(n * 2 + 1, GET, true)).collect();
    assert_eq!(peer.send(&requests), []);
    assert_eq!(peer.opened(), [1, 3, 5, 7]);
    assert_eq!(peer.send(&head(9, GET, true)), [reset(9, Reason::RefusedStream)]);
    // Taken back, and still under way.
    peer.send(&frame(kind::RST_STREAM, 0, 1, &number(8)));
    assert_eq!(peer.send(&head(11, GET, true)), [reset(11, Reason::RefusedStream)]);
    peer.session.finish(1);
    assert_eq!(peer.send(&head(13, GET, true)), []);
    assert_eq!(peer.opened(), [13]);
    // One that is taken back before anybody saw it is no work.
    peer.session.finish(3);
    assert_eq!(
        peer.send(&[head(15, GET, true), frame(kind::RST_STREAM, 0, 15, &number(8))].concat()),
        [reset(3, Reason::InternalError)]
    );
    assert!(peer.opened().is_empty());
    assert_eq!(peer.session.streams.len(), 3);
}

#[test]
fn floods_end_the_connection() {
    let check = |bytes: &dyn Fn(u32) -> Vec<u8>| {
        let mut peer = Peer::new();
        for n in 0..100_000 {
            let sent = peer.send(&bytes(n));
            for id in peer.opened() {
                // Whole requests are answered at once.
                if peer.session.whole_body(id, 0).is_some() {
                    peer.session.finish(id);
                }
            }
            if peer.session.end() == End::Over {
                assert_eq!(&sent.last().unwrap().3[4..], number(Reason::EnhanceYourCalm as u32));
                return n;
            }
        }
        u32::MAX
    };
    // The first settings count.
    assert_eq!(check(&|_n| frame(kind::PING, 0, 0, b"12345678")), 199);
    assert_eq!(check(&|_n| frame(kind::SETTINGS, 0, 0, b"")), 199);
    // CVE-2023-44487: requests that are taken back at once.
    let id = |n: u32| n * 2 + 1;
    let rapid = |n: u32| [head(id(n), GET, true), frame(kind::RST_STREAM, 0, id(n), &number(8))].concat();
    assert_eq!(check(&rapid), 400);
    // CVE-2025-8671: requests that the router is made to take back.
    assert_eq!(check(&|n| [head(id(n), GET, true), frame(kind::WINDOW_UPDATE, 0, id(n), &number(0))].concat()), 400);
    assert_eq!(check(&|n| head(id(n), b"\x82", true)), 400);
    // CVE-2024-27316: a head that never ends.
    assert_eq!(
        check(&|n| if n == 0 { frame(kind::HEADERS, 0, 1, GET) } else { frame(kind::CONTINUATION, 0, 1, b"") }),
        1_001
    );
    assert_eq!(check(&|n| if n == 0 { head(1, POST, false) } else { data(1, b"", false) }), 1_001);
    assert_eq!(check(&|_n| frame(kind::PRIORITY, 0, 1, b"12345")), 1_000);
    // Requests alone are none.
    assert_eq!(check(&|n| if n < 5_000 { head(id(n), GET, true) } else { Vec::new() }), u32::MAX);
}

#[test]
fn nothing_is_sent_beyond_the_windows() {
    let mut peer = Peer::new();
    peer.send(&[head(1, GET, true), head(3, GET, true)].concat());
    peer.opened();
    let window = u32::from(kind::WINDOW_UPDATE);
    assert_eq!(window, 8);
    // Four frames for 65,535 bytes, the window of the stream and of the connection.
    let sent = peer.data_sent(1, &[0; 70_000], true);
    assert_eq!(sent.iter().map(|(bytes, _flags)| bytes).sum::<usize>(), 65_535);
    assert!(sent.iter().all(|(bytes, flags)| *bytes <= PAYLOAD_BYTES_MAX && *flags == 0));
    assert_eq!(peer.data_sent(3, b"x", true), []);
    // The end alone needs no window.
    assert_eq!(peer.data_sent(3, b"", true), [(0, flag::END_STREAM)]);
    peer.send(&frame(kind::WINDOW_UPDATE, 0, 0, &number(100)));
    assert_eq!(peer.data_sent(1, b"y", true), [], "the stream's own window");
    peer.send(&frame(kind::WINDOW_UPDATE, 0, 1, &number(2)));
    assert_eq!(peer.data_sent(1, b"abc", true), [(2, 0)]);
    // Smaller initial windows make those of open streams negative.
    let smaller = [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &number(65_530)].concat();
    peer.send(&frame(kind::SETTINGS, 0, 0, &smaller));
    peer.send(&frame(kind::WINDOW_UPDATE, 0, 1, &number(5)));
    assert_eq!(peer.data_sent(1, b"c", true), []);
    peer.send(&frame(kind::WINDOW_UPDATE, 0, 1, &number(1)));
    assert_eq!(peer.data_sent(1, b"c", true), [(1, flag::END_STREAM)]);
}

#[test]
fn no_more_waits_for_the_socket_than_its_bound() {
    let mut peer = Peer::new();
    let larger = [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &number(1 << 20)].concat();
    peer.send(&frame(kind::SETTINGS, 0, 0, &larger));
    peer.send(&frame(kind::WINDOW_UPDATE, 0, 0, &number(1 << 20)));
    peer.send(&head(1, GET, true));
    peer.opened();
    let taken = peer.session.send_data(1, &[0; 1 << 20], true);
    assert_eq!(taken, outbound::BYTES_MAX);
    assert_eq!(peer.session.send_data(1, b"x", true), 0);
    peer.session.stand_in_line(1);
    peer.session.note_sent(1_000);
    assert_eq!(peer.session.line_of_served, [1], "not for every byte");
    peer.session.note_sent(40_000);
    assert!(peer.session.line_of_served.is_empty());
}

#[test]
fn whoever_got_no_room_gets_it_before_those_who_did() {
    let mut peer = Peer::new();
    peer.send(&[head(1, GET, true), head(3, GET, true), head(5, GET, true)].concat());
    peer.opened();
    let mut order = vec![1, 3, 5];
    let mut served = Vec::new();
    for _call in 0..7 {
        peer.session.send_window = 1 << 20;
        for &id in &order {
            peer.session.stream(id).unwrap().send_window = 1 << 20;
            if peer.session.send_data(id, &[0; 1 << 20], false) > 0 {
                served.push(id);
            }
            peer.session.stand_in_line(id);
        }
        order = peer.session.line.iter().chain(&peer.session.line_of_served).copied().collect();
        peer.sent();
    }
    assert_eq!(served, [1, 3, 5, 1, 3, 5, 1]);
}

#[test]
fn heads_wait_for_the_socket_too_and_go_before_bodies() {
    let mut peer = Peer::new();
    peer.send(&[head(1, GET, true), head(3, GET, true), head(5, GET, true), head(7, GET, true)].concat());
    peer.opened();
    let block = vec![0x88; 40_000];
    assert!(peer.session.send_headers(1, &block, true));
    assert!(peer.session.send_headers(3, &block, true), "a head is not cut");
    assert_eq!(peer.session.send_data(7, b"x", true), 0);
    peer.session.stand_in_line(7);
    for _attempt in 0..2 {
        assert!(!peer.session.send_headers(5, &block, true));
    }
    assert_eq!(peer.session.line_of_heads, [5], "once");
    peer.session.note_sent(20_000);
    assert!(!peer.session.send_headers(5, &block, true), "there is room, but not for long enough to call anybody");
    // Without a window for bodies, which heads do not need.
    peer.session.send_window = 0;
    peer.session.note_sent(30_000);
    assert!(peer.session.line_of_heads.is_empty() && peer.session.line.is_empty());
    assert!(peer.session.send_headers(5, &block, true));
    peer.session.abandon(7);
    assert!(peer.session.send_headers(7, &block, true), "nobody waits for a stream that is gone");
}

#[test]
fn nothing_is_kept_of_what_a_client_took_that_is_never_quite_done() {
    let mut peer = Peer::new();
    peer.send(&head(1, GET, true));
    peer.opened();
    for _piece in 0..1_000 {
        peer.session.send_window = 1 << 20;
        peer.session.stream(1).unwrap().send_window = 1 << 20;
        peer.session.send_data(1, &[0; 40_000], false);
        peer.session.note_sent(peer.session.unsent().len() - 1_000);
        assert!(peer.session.out.end().len() <= 3 * outbound::BYTES_MAX);
    }
}

#[test]
fn a_client_may_send_more_once_its_bytes_were_taken() {
    let mut peer = Peer::new();
    peer.send(&head(1, POST, false));
    assert_eq!(peer.opened(), [1]);
    let mut context = Context::from_waker(Waker::noop());
    assert!(peer.session.poll_body(1, &mut context).is_pending());
    // Padding counts, and is given back at once.
    let padded = frame(kind::DATA, flag::PADDED, 1, &[&[200][..], &[1; 9_799], &[0; 200]].concat());
    assert_eq!(peer.send(&padded.repeat(6)), []);
    for _piece in 0..6 {
        let Poll::Ready(Some(Ok(Inbound::Data(data)))) = peer.session.poll_body(1, &mut context) else {
            panic!("no data");
        };
        assert_eq!(data.len(), 9_799);
    }
    // At half of the stream's window, but not of the connection's.
    assert_eq!(peer.sent(), [(kind::WINDOW_UPDATE, 0, 1, number(6 * 201 + 5 * 9_799).to_vec())]);
    peer.send(&head(1, b"\x00\x05x-sum\x011", true));
    assert!(matches!(peer.session.poll_body(1, &mut context), Poll::Ready(Some(Ok(Inbound::Trailers(_))))));
    assert!(matches!(peer.session.poll_body(1, &mut context), Poll::Ready(None)));
    // What was not taken of a stream that ended is given back to the connection.
    peer.send(&[head(3, POST, false), data(3, &[1; 15_000], false).repeat(4)].concat());
    assert_eq!(peer.opened(), [3]);
    peer.session.send_headers(3, b"\x88", true);
    peer.session.finish(3);
    let sent = peer.sent();
    let kinds: Vec<_> = sent.iter().map(|(kind, _flags, stream, _payload)| (*kind, *stream)).collect();
    assert_eq!(kinds, [(kind::HEADERS, 3), (kind::RST_STREAM, 3), (kind::WINDOW_UPDATE, 0)]);
    assert_eq!(sent[1], reset(3, Reason::NoError));
}

#[test]
fn a_body_that_comes_byte_by_byte_is_held_in_few_pieces() {
    let mut peer = Peer::new();
    peer.send(&head(1, POST, false));
    peer.send(&data(1, b"x", false).repeat(40_000));
    assert_eq!(peer.session.whole_body(1, usize::MAX), None);
    let pieces: Vec<usize> = peer.session.stream(1).unwrap().inbound.iter().map(|piece| piece.len()).collect();
    assert_eq!(pieces, [16_384, 16_384, 7_232]);
}

#[test]
fn the_end_is_announced_before_it_comes() {
    let mut peer = Peer::new();
    peer.session.announce_end();
    let sent = peer.sent();
    assert_eq!(sent, [go_away(MAX_31_BITS, Reason::NoError), (kind::PING, 0, 0, END_PING.to_vec())]);
    // On its way when the client heard of it.
    assert_eq!(peer.send(&head(1, GET, true)), []);
    assert_eq!(peer.send(&frame(kind::PING, flag::ACK, 0, &END_PING)), [go_away(1, Reason::NoError)]);
    assert_eq!(peer.send(&head(3, GET, true)), [reset(3, Reason::RefusedStream)]);
    assert_eq!(peer.opened(), [1]);
    assert!(!peer.session.is_done());
    peer.session.send_headers(1, b"\x88", true);
    peer.session.finish(1);
    assert_eq!(peer.sent().len(), 1);
    assert!(peer.session.is_done());
}

#[test]
fn a_client_that_changes_its_table_hears_that_it_is_not_used() {
    let mut peer = Peer::new();
    peer.send(&frame(kind::SETTINGS, 0, 0, &[&setting::HEADER_TABLE_SIZE.to_be_bytes()[..], &number(0)].concat()));
    peer.send(&[head(1, GET, true), head(3, GET, true)].concat());
    peer.opened();
    peer.session.send_headers(1, b"\x88", true);
    peer.session.send_headers(3, b"\x88", true);
    let blocks: Vec<_> = peer.sent().into_iter().map(|(_kind, _flags, _stream, block)| block).collect();
    assert_eq!(blocks, [&b"\x20\x88"[..], b"\x88"]);
}

#[test]
fn streams_are_woken_when_their_time_has_come() {
    let mut peer = Peer::new();
    peer.send(&[head(1, GET, true), head(3, GET, true)].concat());
    peer.opened();
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    assert!(peer.session.poll_deadline(1, at(100)).is_pending());
    assert!(peer.session.poll_deadline(3, at(50)).is_pending());
    assert_eq!(peer.session.deadline, Some(at(50)));
    peer.session.wake_due(at(60));
    assert_eq!(peer.session.deadline, Some(at(100)));
    assert!(peer.session.poll_deadline(3, begun).is_ready());
    peer.session.finish(1);
    peer.session.wake_due(at(200));
    assert_eq!(peer.session.deadline, None);
}

/// Frames as a client might send them, sound or not.
fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let block = prop_oneof![Just(GET.to_vec()), Just(POST.to_vec()), proptest::collection::vec(any::<u8>(), 0..20)];
    let payload = prop_oneof![block, proptest::collection::vec(any::<u8>(), 0..40), Just(vec![0, 0, 0, 1])];
    let one = (0_u8..11, any::<u8>(), 0_u32..12, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    proptest::collection::vec(one, 0..30).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn no_frames_make_it_panic_and_cuts_change_nothing(bytes in any_frames(), cut in 1_usize..40) {
        let now = Instant::now();
        let play = |cut: usize| {
            let mut peer = Peer::new();
            peer.now = now;
            let mut sent = Vec::new();
            for piece in bytes.chunks(cut) {
                sent.extend(peer.send(piece));
                assert!(peer.session.streams.len() <= RULES.streams_max as usize);
            }
            (sent, peer.session.end() == End::Over)
        };
        prop_assert_eq!(play(cut), play(usize::MAX));
    }
}
