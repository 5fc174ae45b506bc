//! Real headers and made ones, whole, cut and spoiled.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// From AWS's own test data.
const AWS: &str = "0d0a0d0a000d0a515549540a21110054ac1f0771ac1f0a1fc8f20050030004e8d6892dea001701767063652d3038643262663135666163353030316339040024000000000000000000000000000000000000000000000000000000000000000000000000";
/// Captured at Google.
const GCP: &str = "0d0a0d0a000d0a515549540a211100170a003c020a003c6481380050e00008009b34d70a003c64";
const AZURE: &str = "0d0a0d0a000d0a515549540a2111001b0a0102030a0908079c4001bb0300043d644a45ee000501bc0a0020";
const GCP_LARGE: &str = "0d0a0d0a000d0a515549540a2111001e0a0102030a0908079c4001bb030004ce005b27e00008ffffffffc0a86402";
const LOCAL: &str = "0d0a0d0a000d0a515549540a20000000";
const LOCAL_CHECKED: &str = "0d0a0d0a000d0a515549540a20000007030004a9b87e8f";
const IPV6: &str = "0d0a0d0a000d0a515549540a2121005620010db800000000000000000000000120010db8000000000000000000000002c35001bb0300040b8f3db7ea001701767063652d303864326266313566616335303031633902000e6d6972726f722e6578616d706c65";

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// The header that all of `bytes` are.
fn whole(bytes: &[u8]) -> Result<Header, Malformed> {
    match parse(bytes)? {
        Progress::Complete { header, length } => {
            assert_eq!(length, bytes.len());
            Ok(header)
        }
        needs @ Progress::Needs(_) => panic!("{needs:?} of {bytes:?}"),
    }
}

#[track_caller]
fn names(bytes: &[u8], source: &str, endpoint: Option<&str>) {
    let header = whole(bytes).unwrap();
    assert_eq!(header.source, Some(source.parse().unwrap()));
    assert_eq!(header.endpoint.as_ref().map(Endpoint::as_str), endpoint);
    assert!(!header.is_probe);
}

#[track_caller]
fn refused(bytes: &[u8], malformed: Malformed) {
    assert_eq!(parse(bytes), Err(malformed), "{}", hex::encode(bytes));
}

/// A header of version 2 with addresses of IPv4 and these bytes behind them.
fn v4(extensions: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&[10, 1, 2, 3, 10, 9, 8, 7, 0x9c, 0x40, 1, 187], extensions].concat())
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, family], &length, rest].concat()
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// The header with one more extension, its checksum.
fn with_checksum(header: &[u8]) -> Vec<u8> {
    let mut header = [header, &extension(3, &[0; 4])].concat();
    let length = u16::try_from(header.len() - 16).unwrap().to_be_bytes();
    header[14..16].copy_from_slice(&length);
    let (at, sum) = (header.len() - 4, crc32c::checksum([&header, b"", b""]));
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn what_the_clouds_send_is_read() {
    names(&hex(AWS), "172.31.7.113:51442", Some("aws:vpce-08d2bf15fac5001c9"));
    names(&hex(GCP), "10.0.60.2:33080", Some("gcp:43686719580552292"));
    names(&hex(AZURE), "10.1.2.3:40000", Some("azure:536873660"));
    names(&hex(GCP_LARGE), "10.1.2.3:40000", Some("gcp:18446744072646845442"));
    names(&hex(IPV6), "[2001:db8::1]:50000", Some("aws:vpce-08d2bf15fac5001c9"));
}

#[test]
fn a_load_balancer_that_speaks_for_itself_is_a_probe_and_nothing_else() {
    let probe = Header { is_probe: true, ..Header::default() };
    for local in [hex(LOCAL), hex(LOCAL_CHECKED), v2(0x20, 0xff, b"\x03 whatever")] {
        assert_eq!(whole(&local), Ok(probe.clone()));
    }
    let mut named = hex(AWS);
    named[12] = 0x20;
    assert_eq!(whole(&named), Ok(probe), "not the client that the rest names");
}

#[test]
fn what_names_no_client_names_no_endpoint() {
    let id = extension(0xea, b"\x01vpce-1");
    for (family, size) in [(0x00, 0), (0x31, 216), (0x32, 216)] {
        let header = v2(0x21, family, &[&vec![7; size], &id[..]].concat());
        assert_eq!(whole(&header), Ok(Header::default()), "{family:#x}");
    }
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ff::1 ff::2 1 2\r\n", "PROXY UNKNOWN \u{fffd}\t \r\n"] {
        assert_eq!(whole(line.as_bytes()), Ok(Header::default()), "{line}");
    }
}

#[test]
fn every_kind_of_address_is_known_and_no_other() {
    for (family, size) in [(0x00, 0), (0x11, 12), (0x12, 12), (0x21, 36), (0x22, 36), (0x31, 216), (0x32, 216)] {
        assert!(whole(&v2(0x21, family, &vec![0; size])).is_ok(), "{family:#x}");
        if size > 0 {
            refused(&v2(0x21, family, &vec![0; size - 1]), Malformed::NoAddresses);
        }
    }
    let known = [0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32];
    for family in (0..=u8::MAX).filter(|family| !known.contains(family)) {
        refused(&v2(0x21, family, &[0; 216]), Malformed::Family(family));
    }
    for command in (0..=u8::MAX).filter(|command| ![0x20, 0x21].contains(command)) {
        refused(&v2(command, 0x11, &[0; 12]), Malformed::Command(command));
    }
}

#[test]
fn each_bit_of_a_checked_header_counts() {
    // Where the checksum stands; without its type it would be none.
    for (sample, checksum) in [(AWS, 28), (AZURE, 28), (GCP_LARGE, 28), (IPV6, 52)] {
        let sound = hex(sample);
        assert_eq!(sound[checksum], 3);
        for bit in (0..sound.len() * 8).filter(|bit| bit / 8 != checksum) {
            let mut spoiled = sound.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            // Longer and LOCAL headers are the exceptions: one waits for the rest, the other says nothing.
            let harmless = match parse(&spoiled) {
                Err(_) | Ok(Progress::Needs(_)) => true,
                Ok(Progress::Complete { header, .. }) => header.is_probe,
            };
            assert!(harmless, "bit {bit} of {sample}");
        }
    }
}

#[test]
fn extensions_fill_the_rest_exactly() {
    for rest in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 0, 4, 0, 9, 1], &[0xea, 0xff, 0xff, 1]] {
        refused(&v4(rest), Malformed::Truncated);
    }
    for rest in [&[][..], &[4, 0, 0], &[4, 0, 1, 7], &[0x55, 0, 1, 7, 0xf8, 0, 0], &[1, 0, 2, b'h', b'2', 0x30, 0, 1, b'n']] {
        assert!(whole(&v4(rest)).unwrap().endpoint.is_none());
    }
}

#[test]
fn an_extension_is_as_its_type_wants_it_or_refused() {
    for (kind, value) in [
        (3, &[0; 3][..]),
        (3, &[0; 5]),
        (5, &[0; 129]),
        (0x20, &[0; 4]),
        (0xea, b""),
        (0xea, b"\x01"),
        (0xea, b"\x01vpce_1"),
        (0xea, b"\x01vpce-\xc3\xa9"),
        (0xea, b"\x01vpce-1\0"),
        (0xea, &[1; 70]),
        (0xee, b""),
        (0xee, b"\x01\x01\x02\x03"),
        (0xee, b"\x01\x01\x02\x03\x04\x05"),
        (0xe0, &[1; 7]),
        (0xe0, &[1; 9]),
        (0xe0, b""),
    ] {
        refused(&v4(&extension(kind, value)), Malformed::Extension(kind));
    }
    refused(&v4(&extension(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 2, b'T'])), Malformed::Truncated);
    for (kind, value) in
        [(5, &[0; 128][..]), (0x20, &[1, 0, 0, 0, 0, 0x21, 0, 1, b'T']), (0xea, b"\x02vpce"), (0xee, b"\x02x"), (0xe1, b"ep")]
    {
        assert!(whole(&v4(&extension(kind, value))).unwrap().endpoint.is_none(), "{kind:#x}");
    }
}

#[test]
fn what_may_stand_once_is_refused_twice() {
    let (aws, gcp) = (extension(0xea, b"\x01vpce-1"), extension(0xe0, &[0, 0, 0, 0, 0, 0, 0, 9]));
    for (first, second) in [(&aws, &aws), (&gcp, &gcp), (&aws, &gcp), (&gcp, &aws)] {
        refused(&v4(&[&first[..], second].concat()), Malformed::TwoEndpoints);
    }
    names(&v4(&[&extension(0xea, b"\x02other"), &aws[..]].concat()), "10.1.2.3:40000", Some("aws:vpce-1"));
    let once = with_checksum(&v4(&aws));
    names(&once, "10.1.2.3:40000", Some("aws:vpce-1"));
    refused(&with_checksum(&once), Malformed::TwoChecksums);
}

#[test]
fn what_is_too_long_is_refused_when_that_is_known() {
    let header = v4(&extension(4, &[0; MAX_HEADER]));
    refused(&header[..16], Malformed::TooLong(header.len()));
    let mut longest = v4(&[]);
    longest[14..16].copy_from_slice(&[0xff, 0xff]);
    refused(&longest[..16], Malformed::TooLong(65_551));
    let most = v4(&extension(4, &[0; MAX_HEADER - 31]));
    assert_eq!(most.len(), MAX_HEADER);
    assert!(whole(&most).is_ok());
}

#[test]
fn lines_of_version_1_are_read() {
    for (line, source) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "1.2.3.4:1"),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0"),
        ("PROXY TCP6 2001:db8::1 ::1 50000 443\r\n", "[2001:db8::1]:50000"),
        ("PROXY TCP6 ::ffff:1.2.3.4 ::ffff:1.2.3.5 1 2\r\n", "[::ffff:1.2.3.4]:1"),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ),
    ] {
        names(line.as_bytes(), source, None);
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!((longest.len(), whole(longest.as_bytes())), (107, Ok(Header::default())));
}

#[test]
fn lines_that_break_the_grammar_are_refused() {
    for line in [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 [::1] [::2] 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        "PROXY TCP6 ::1 ::2::3 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 00 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY unknown\r\n",
        "PROXY TCP4\r\n",
        "PROXY \r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY UNKNOWN\rx",
        "PROXY UNKNOWN \n\r\n",
    ] {
        assert!(matches!(parse(line.as_bytes()), Err(Malformed::Line(_))), "{line:?}: {:?}", parse(line.as_bytes()));
    }
    let endless = format!("PROXY UNKNOWN {}\r", "x".repeat(92));
    assert!(matches!(parse(endless.as_bytes()), Err(Malformed::Line(_))));
    assert!(matches!(parse("PROXY UNKNOWN ".repeat(20).as_bytes()), Err(Malformed::Line(_))));
}

#[test]
fn what_is_no_header_is_refused_with_its_first_wrong_byte() {
    for other in ["G", "POST ", "PRI", "PROXYTCP4", "proxy ", "\u{16}\u{3}\u{1}", "\r\n\r\nG", "\r\r"] {
        refused(other.as_bytes(), Malformed::NoHeader);
    }
    for (begun, enough) in [("PROXY", false), ("PROXY ", true), ("\r\n\r\n\0\r\nQUIT", false), ("\r\n\r\n\0\r\nQUIT\n", true)] {
        assert_eq!(is_begun(begun.as_bytes()), enough);
    }
}

#[test]
fn a_header_tells_the_caller_and_a_mapped_address_is_the_plain_one() {
    let mut caller = Caller::direct("nodes".into(), ([192, 0, 2, 1], 9).into());
    whole(b"PROXY TCP6 ::ffff:1.2.3.4 ::1 7 2\r\n").unwrap().describe(&mut caller);
    assert_eq!((caller.source, caller.peer), (([1, 2, 3, 4], 7).into(), ([192, 0, 2, 1], 9).into()));
    assert_eq!((caller.endpoint.as_str(), caller.is_probe), ("nodes", false));
    whole(&hex(LOCAL)).unwrap().describe(&mut caller);
    assert!(caller.is_probe);
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn endpoint() -> impl Strategy<Value = (Vec<u8>, Option<String>)> {
    prop_oneof![
        Just((Vec::new(), None)),
        "[A-Za-z0-9-]{1,64}".prop_map(|id| (extension(0xea, format!("\x01{id}").as_bytes()), Some(format!("aws:{id}")))),
        any::<u32>().prop_map(|id| (extension(0xee, &[&[1], &id.to_le_bytes()[..]].concat()), Some(format!("azure:{id}")))),
        any::<u64>().prop_map(|id| (extension(0xe0, &id.to_be_bytes()), Some(format!("gcp:{id}")))),
    ]
}

/// Extensions that nothing is read from.
fn padding() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![0x01, 0x02, 0x04, 0x05, 0x30, 0xe1, 0xef, 0xf0, 0xff]);
    let one = (kind, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(kind, value)| extension(kind, &value));
    prop::collection::vec(one, 0..5).prop_map(|all| all.concat())
}

fn binary(source: SocketAddr, destination: SocketAddr, extensions: &[u8], checked: bool) -> Vec<u8> {
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let (family, addresses) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (0x11, [from.octets(), to.octets()].concat()),
        (from, to) => (0x21, [sixteen(from), sixteen(to)].concat()),
    };
    let header = v2(0x21, family, &[&addresses, &ports, extensions].concat());
    if checked { with_checksum(&header) } else { header }
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn text(source: SocketAddr, destination: SocketAddr) -> String {
    let (from, to, ports) = (source.ip(), destination.ip(), format!("{} {}", source.port(), destination.port()));
    match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => format!("PROXY TCP4 {from} {to} {ports}\r\n"),
        _ => {
            let [from, to] = [from, to].map(|ip| std::net::Ipv6Addr::from(sixteen(ip)));
            format!("PROXY TCP6 {from} {to} {ports}\r\n")
        }
    }
}

/// However much of a header is known, some is needed and never more than there is; bytes behind it change nothing.
fn check_every_split(bytes: &[u8]) {
    let complete = parse(bytes);
    assert!(matches!(complete, Ok(Progress::Complete { length, .. }) if length == bytes.len()));
    for known in 0..bytes.len() {
        let Ok(Progress::Needs(more)) = parse(&bytes[..known]) else { panic!("complete after {known}: {bytes:?}") };
        assert!(more > 0 && known + more <= bytes.len(), "{more} more after {known} of {}", bytes.len());
    }
    for behind in ["GET / HTTP/1.1\r\n", "\n", "PROXY UNKNOWN\r\n"] {
        assert_eq!(parse(&[bytes, behind.as_bytes()].concat()), complete);
    }
}

#[test]
fn every_sample_is_the_same_however_it_comes() {
    for sample in [AWS, GCP, AZURE, GCP_LARGE, LOCAL, LOCAL_CHECKED, IPV6] {
        check_every_split(&hex(sample));
    }
    check_every_split(b"PROXY UNKNOWN\r\n");
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_comes(
        source in address(), destination in address(), (id, name) in endpoint(), padding in padding(), checked: bool,
    ) {
        let binary = binary(source, destination, &[padding, id].concat(), checked);
        check_every_split(&binary);
        let header = whole(&binary).unwrap();
        let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        prop_assert_eq!(header.source.map(plain), Some(plain(source)));
        prop_assert_eq!(header.endpoint.map(|endpoint| endpoint.to_string()), name);

        let text = text(source, destination);
        check_every_split(text.as_bytes());
        prop_assert_eq!(whole(text.as_bytes()).unwrap().source.map(plain), Some(plain(source)));
    }

    #[test]
    fn whatever_comes_is_no_panic_and_no_header_beyond_its_bytes(
        signed in 0..3_usize, bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [[&b""[..], v1::SIGNATURE, v2::SIGNATURE][signed], &bytes[..]].concat();
        match parse(&bytes) {
            Ok(Progress::Complete { length, .. }) => prop_assert!(length <= bytes.len() && length <= MAX_HEADER),
            Ok(Progress::Needs(more)) => prop_assert!(more > 0 && bytes.len() + more <= MAX_HEADER),
            Err(_) => {}
        }
    }

    #[test]
    fn whatever_extensions_come_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&v4(&bytes));
    }
}
