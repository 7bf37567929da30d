//! Reading a header from a socket, in one piece and byte by byte, and whose header is expected.

use ipnet::IpNet;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::upstream::headers::ForwardingFamily;

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n";

/// A proxy and the gateway's end, over each kind of socket.
async fn pairs() -> [(&'static str, ClientSocket, ClientSocket); 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let socket = listener.accept().await.unwrap().0;
    let (unix_proxy, unix) = UnixStream::pair().unwrap();
    [
        ("TCP", ClientSocket::tcp(proxy), ClientSocket::tcp(socket)),
        ("Unix", ClientSocket::Unix(unix_proxy), ClientSocket::Unix(unix)),
    ]
}

fn ip(text: &str) -> PeerAddress {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn trusted() -> TrustedProxies {
    TrustedProxies::new(vec!["10.0.0.0/8".parse::<IpNet>().unwrap()], ForwardingFamily::XForwarded)
}

#[tokio::test]
async fn what_follows_the_header_stays_in_the_socket() {
    let with_extensions = {
        let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb";
        [&fixed[..], &[0; 512]].concat()
    };
    for header in [HEADER, &with_extensions] {
        for (name, mut proxy, mut socket) in pairs().await {
            proxy.write_all(&[header, REQUEST].concat()).await.unwrap();
            let received = receive(&mut socket, ip("10.0.0.1"), &trusted()).await.unwrap();
            assert_eq!(received, ip("192.0.2.1"), "{name}");
            let mut rest = vec![0; REQUEST.len()];
            socket.read_exact(&mut rest).await.unwrap();
            assert_eq!(rest, REQUEST, "{name}");
        }
    }
}

#[tokio::test]
async fn a_header_may_arrive_byte_by_byte() {
    for (name, mut proxy, mut socket) in pairs().await {
        let sending = async {
            for byte in HEADER {
                proxy.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            proxy.write_all(REQUEST).await.unwrap();
        };
        let (peer, nobody) = (PeerAddress::UnixSocket, TrustedProxies::default());
        let (received, ()) = tokio::join!(receive(&mut socket, peer, &nobody), sending);
        assert_eq!(received.unwrap(), ip("192.0.2.1"), "{name}");
        assert_eq!(socket.read_u8().await.unwrap(), b'G', "{name}");
    }
}

#[tokio::test]
async fn a_connection_without_a_source_keeps_the_address_of_its_proxy_and_is_not_trusted() {
    for (peer, header) in
        [(ip("10.0.0.1"), &b"PROXY UNKNOWN\r\n"[..]), (ip("10.0.0.1"), b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0")]
    {
        for (name, mut proxy, mut socket) in pairs().await {
            proxy.write_all(header).await.unwrap();
            let received = receive(&mut socket, peer, &trusted()).await.unwrap();
            assert_eq!(received, PeerAddress::BehindProxy(peer.ip()), "{name}");
            assert!(!received.is_trusted(&trusted()), "{name}");
        }
    }
}

/// The fault, or `None` if the connection may go on.
async fn fault(socket: &mut ClientSocket, peer: &str) -> Option<ProxyHeaderFault> {
    match receive(socket, ip(peer), &trusted()).await {
        Ok(_) => None,
        Err(Fault::Header(fault)) => Some(fault),
        Err(Fault::Connection) => panic!("the connection has failed"),
    }
}

#[tokio::test]
async fn trusted_proxies_must_send_a_header_and_others_must_not() {
    use ProxyHeaderFault::{Malformed, Missing, TooLong, Untrusted};
    for (peer, bytes, expected) in [
        ("10.0.0.1", HEADER, None),
        ("10.0.0.1", REQUEST, Some(Missing)),
        ("10.0.0.1", b"PROXY TCP4\r\n", Some(Malformed)),
        ("10.0.0.1", &[b'P', b'R', b'O', b'X', b'Y', b' '].repeat(20), Some(TooLong)),
        ("192.0.2.9", HEADER, Some(Untrusted)),
        ("192.0.2.9", b"\r\n\r\n\0\r\nQUIT\n", Some(Untrusted)),
        ("192.0.2.9", REQUEST, None),
    ] {
        for (name, mut proxy, mut socket) in pairs().await {
            proxy.write_all(bytes).await.unwrap();
            assert_eq!(fault(&mut socket, peer).await, expected, "{name}: {peer} {bytes:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_closes_before_the_end_of_its_header_has_no_fault() {
    for bytes in [&b""[..], &HEADER[..20]] {
        for (name, mut proxy, mut socket) in pairs().await {
            proxy.write_all(bytes).await.unwrap();
            drop(proxy);
            let received = receive(&mut socket, ip("10.0.0.1"), &trusted()).await;
            assert!(matches!(received, Err(Fault::Connection)), "{name}: {received:?}");
        }
    }
}
