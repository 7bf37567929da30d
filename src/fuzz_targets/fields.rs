//! Header fields: what proxies report about the client, and what upstreams respond.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Response, Version, header};

use super::headers;
use crate::gateway::client_address::{Client, TrustedProxies};
use crate::upstream::headers::names::may_pass;
use crate::upstream::headers::{ForwardingFamily, retain_end_to_end};
use crate::upstream::response_framing;

/// The peer, which is a trusted proxy.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Whatever the fields say, the client has an address, and no fields move the client to an address
/// that they do not contain.
pub fn forwarding_fields(input: &[u8]) {
    let headers = headers(input);
    let networks = vec!["10.0.0.0/8".parse().expect("a network")];
    for family in [ForwardingFamily::XForwarded, ForwardingFamily::Forwarded] {
        let trusted = TrustedProxies::new(networks.clone(), family);
        let client = Client::of_request(PROXY.into(), &headers, &trusted);
        let text = String::from_utf8_lossy(input).to_ascii_lowercase();
        if client.ip != PROXY {
            // An address has several spellings; the fields contain digits of it in each of them.
            assert!(text.contains("for"), "{input:?} reports no address, but the client is {}", client.ip);
        }
        assert_eq!(client.ip, client.ip.to_canonical(), "{input:?}");
        assert!(client.reported.addresses.len() <= 32, "{input:?} reports too many hops");
        let stranger = Client::of_request(IpAddr::V4(Ipv4Addr::LOCALHOST).into(), &headers, &trusted);
        assert_eq!(stranger.ip, IpAddr::V4(Ipv4Addr::LOCALHOST), "{input:?} is believed of a stranger");
        assert!(stranger.reported.addresses.is_empty());
    }
}

/// The head of a response that passes states the length of its body once, and no hop-by-hop field.
pub fn response_head(input: &[u8]) {
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_11;
    *response.headers_mut() = headers(input);
    if response_framing::check(&mut response).is_err() {
        return;
    }
    let headers = response.headers_mut();
    let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
    assert!(lengths.len() <= 1, "{lengths:?}");
    assert!(lengths.iter().all(|length| length.as_bytes().iter().all(u8::is_ascii_digit)), "{lengths:?}");
    assert!(lengths.is_empty() || !headers.contains_key(header::TRANSFER_ENCODING), "two lengths");
    retain_end_to_end(headers, may_pass);
    assert_no_hop_by_hop(headers);
}

fn assert_no_hop_by_hop(headers: &HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
        assert!(!headers.contains_key(name), "{name} passes");
    }
}
