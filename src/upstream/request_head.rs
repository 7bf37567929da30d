//! Request head: what the protocol of the connection and the picked server change in it.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version, header};

use super::body::{RequestBody, Trailers};
use super::{HostHeader, HttpVersion, ServerAddress, UpstreamSettings};

/// What a head depends on, besides the upstream and the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadOptions {
    /// The protocol of the connection.
    pub(super) version: HttpVersion,
    pub(super) trailers: Trailers,
}

/// Adapts the head for an attempt on a connection to `server`. A head that was adapted before, for
/// any server and protocol, may be adapted again.
pub(super) fn adapt(
    request: &mut Request<RequestBody>,
    settings: &UpstreamSettings,
    server: &ServerAddress,
    options: HeadOptions,
) {
    match options.version {
        HttpVersion::Http1 => adapt_to_http1(request),
        HttpVersion::Http2 => {}
    }
    match settings.host {
        HostHeader::Preserve => {}
        HostHeader::Upstream => {
            request.headers_mut().insert(header::HOST, server.authority.clone());
        }
    }
    match options.version {
        HttpVersion::Http1 => {}
        HttpVersion::Http2 => {
            let scheme = if settings.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            adapt_to_http2(request, scheme, options.trailers);
        }
    }
}

/// Undoes what [`adapt_to_http2`] has done for an earlier attempt, if there was one.
fn adapt_to_http1(request: &mut Request<RequestBody>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().remove(header::TE);
    let target = std::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = target.authority.and_then(|host| HeaderValue::from_str(host.as_str()).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    *request.uri_mut() = Uri::from(target.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")));
}

/// The host becomes a part of the target (RFC 9113 §8.3.1), fields about a connection are removed
/// (§8.2.2), and a request for trailers is stated (RFC 9110 §10.1.4).
fn adapt_to_http2(request: &mut Request<RequestBody>, scheme: Scheme, trailers: Trailers) {
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
        target.scheme = Some(scheme);
        // The host was checked, so it is an authority. If it were none, hyper would reject the
        // request.
        target.authority = Authority::try_from(host.as_bytes()).ok();
        *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::client::ClientTlsSettings;
    use crate::upstream::balance::Balance;
    use crate::upstream::tests::upstream;

    /// Adapts a request for `api.example/a`, to each of two servers in turn. Returns the target and
    /// `Host` of each.
    fn adapted(settings: &UpstreamSettings, versions: [HttpVersion; 2]) -> [(String, Option<String>); 2] {
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = Uri::from_static("/a");
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("api.example"));
        std::array::from_fn(|index| {
            let options = HeadOptions { version: versions[index], trailers: Trailers::Pass };
            adapt(&mut request, settings, &settings.servers[index].address, options);
            let (http2, te) = (request.version() == Version::HTTP_2, request.headers().contains_key(header::TE));
            assert_eq!((http2, te), (versions[index] == HttpVersion::Http2, http2), "{versions:?}");
            let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap().to_owned());
            (request.uri().to_string(), host)
        })
    }

    #[test]
    fn a_head_can_be_adapted_again_for_another_server_and_protocol() {
        use HttpVersion::{Http1, Http2};
        let upstream = upstream(Balance::RoundRobin, &[1, 2]);
        for (versions, host, tls, targets, hosts) in [
            ([Http1; 2], HostHeader::Preserve, false, ["/a", "/a"], [Some("api.example"), Some("api.example")]),
            ([Http1; 2], HostHeader::Upstream, false, ["/a", "/a"], [Some("127.0.0.1:1"), Some("127.0.0.1:2")]),
            ([Http2; 2], HostHeader::Preserve, false, ["http://api.example/a"; 2], [None, None]),
            ([Http2; 2], HostHeader::Upstream, false, ["http://127.0.0.1:1/a", "http://127.0.0.1:2/a"], [None, None]),
            ([Http2; 2], HostHeader::Preserve, true, ["https://api.example/a"; 2], [None, None]),
            ([Http2, Http1], HostHeader::Preserve, true, ["https://api.example/a", "/a"], [None, Some("api.example")]),
            ([Http1, Http2], HostHeader::Upstream, true, ["/a", "https://127.0.0.1:2/a"], [Some("127.0.0.1:1"), None]),
        ] {
            let tls = tls.then(ClientTlsSettings::default);
            let settings = UpstreamSettings { tls, host, ..upstream.settings().clone() };
            let expected = std::array::from_fn(|index| (targets[index].to_owned(), hosts[index].map(str::to_owned)));
            assert_eq!(adapted(&settings, versions), expected, "{versions:?}, {host:?}");
        }
    }
}
