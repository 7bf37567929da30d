//! Request head: what the upstream's protocol and the picked server change in it.

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Uri, Version, header};

use super::body::{RequestBody, Trailers};
use super::{HostHeader, Protocol, ServerAddress, UpstreamSettings};

/// Adapts the head for an attempt on `server`. A head that was adapted before, for any server, may
/// be adapted again.
pub(super) fn adapt(
    request: &mut Request<RequestBody>,
    settings: &UpstreamSettings,
    server: &ServerAddress,
    trailers: Trailers,
) {
    match settings.host {
        HostHeader::Preserve => {}
        HostHeader::Upstream => {
            request.headers_mut().insert(header::HOST, server.authority.clone());
        }
    }
    match settings.protocol {
        Protocol::Http1 => {}
        Protocol::Http2 => adapt_to_http2(request, trailers),
    }
}

/// The host becomes a part of the target (RFC 9113 §8.3.1), fields about a connection are removed
/// (§8.2.2), and a request for trailers is stated (RFC 9110 §10.1.4).
fn adapt_to_http2(request: &mut Request<RequestBody>, trailers: Trailers) {
    let host = request.headers_mut().remove(header::HOST);
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        request.headers_mut().remove(name);
    }
    if trailers == Trailers::Pass {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    *request.version_mut() = Version::HTTP_2;
    // Without a `Host`, an earlier attempt has already moved it into the target.
    if let Some(host) = host {
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(Scheme::HTTP);
        // The host was checked, so it is an authority. If it were none, hyper would reject the
        // request.
        target.authority = Authority::try_from(host.as_bytes()).ok();
        *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::balance::Balance;
    use crate::upstream::tests::upstream;

    #[test]
    fn a_head_can_be_adapted_again_for_another_server() {
        for (protocol, host, targets, hosts) in [
            (Protocol::Http1, HostHeader::Preserve, ["/a", "/a"], [Some("api.example"), Some("api.example")]),
            (Protocol::Http1, HostHeader::Upstream, ["/a", "/a"], [Some("127.0.0.1:1"), Some("127.0.0.1:2")]),
            (Protocol::Http2, HostHeader::Preserve, ["http://api.example/a", "http://api.example/a"], [None, None]),
            (Protocol::Http2, HostHeader::Upstream, ["http://127.0.0.1:1/a", "http://127.0.0.1:2/a"], [None, None]),
        ] {
            let upstream = upstream(Balance::RoundRobin, &[1, 2]);
            let settings = UpstreamSettings { protocol, host, ..upstream.settings().clone() };
            let mut request = Request::new(RequestBody::empty());
            *request.uri_mut() = Uri::from_static("/a");
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("api.example"));
            for ((server, target), host) in settings.servers.iter().zip(targets).zip(hosts) {
                adapt(&mut request, &settings, &server.address, Trailers::Drop);
                assert_eq!(request.uri(), target, "{protocol:?}");
                let written = request.headers().get(header::HOST).map(|host| host.to_str().unwrap());
                assert_eq!(written, host, "{protocol:?}");
            }
        }
    }
}
