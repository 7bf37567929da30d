//! Normalization: turns a request head into an [`InboundRequest`], the form in which the gateway
//! decides on a request *and* forwards it.
//!
//! Refuses a request whose framing, target, host or path is ambiguous. Removes hop-by-hop headers
//! and those that only the gateway may write, so that no later stage mistakes a client's value for
//! the gateway's.

use std::rc::Rc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri, Version};

use super::StageContext;
use crate::gateway::client_address::Client;
use crate::gateway::matching::host::{Host, HostRefusal};
use crate::gateway::matching::path::{NormalPath, PathMarks, UnusualForms};
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::IdentityHeaders;
use crate::gateway::request::{Peer, RequestHead};
use crate::gateway::response::refusal::{FramingFault, Refusal};
use crate::gateway::runtime::Runtime;
use crate::gateway::tls_peer::{PresentedCertificate, TlsPeer};
use crate::primitives::clock::WallTime;
use crate::primitives::field_syntax::{is_token, list_elements};
use crate::upstream::headers::forwarding::Hop;
use crate::upstream::headers::{PeerTrust, X_REQUEST_ID, join_cookies, retain_end_to_end};

/// Longest request target, in bytes. Common servers have a similar limit on the request line and
/// would refuse a longer one.
pub(crate) const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Longest request id that is accepted from a trusted proxy, in bytes: room for a UUID and a
/// prefix.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// A request in normal form.
#[derive(Debug)]
pub(crate) struct InboundRequest {
    /// Never `CONNECT` or `TRACE`, and without lower-case letters.
    pub method: Method,
    /// The protocol version of the client's request, for `Via`.
    pub version: Version,
    /// Without hop-by-hop headers, identity headers and headers that override method, path or
    /// address. Still with `Authorization`, which authentication reads.
    pub headers: HeaderMap,
    /// The protocol that the client asks to switch to (RFC 9110 §7.8).
    pub upgrade: Option<HeaderValue>,
    /// The client, from the connection or from a trusted proxy's forwarding headers.
    pub client: Client,
    /// The forwarding headers that describe the connection to upstreams.
    pub hop: Rc<Hop>,
    /// The TLS session of the connection.
    pub tls: Option<Rc<TlsPeer>>,
    /// The certificate that the client has presented in that session.
    pub certificate: PresentedCertificate,
    /// The host, for routing.
    pub host: Host,
    /// The host as the client wrote it, for the upstream.
    pub host_field: HeaderValue,
    target: Uri,
    normal_path: Option<Box<str>>,
    path_marks: PathMarks,
}

impl InboundRequest {
    /// The path in normal form.
    #[must_use]
    pub(crate) fn path(&self) -> NormalPath<'_> {
        let text = self.normal_path.as_deref().unwrap_or_else(|| self.target.path());
        NormalPath::assume_normal(text, self.path_marks)
    }

    /// The query as received.
    #[must_use]
    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The target as received, if its path was already in normal form.
    #[must_use]
    pub(crate) fn unchanged_target(&self) -> Option<&Uri> {
        self.normal_path.is_none().then_some(&self.target)
    }

    /// The head of a request that normalizes to this one, for deciding on it again. It has no
    /// credentials, so that none stay in memory.
    #[must_use]
    pub(crate) fn head_without_credentials(&self) -> RequestHead {
        let mut headers = self.headers.clone();
        headers.remove(header::AUTHORIZATION);
        headers.remove(header::COOKIE);
        headers.insert(header::HOST, self.host_field.clone());
        if let Some(protocol) = &self.upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        RequestHead {
            method: self.method.clone(),
            target: self.target.clone(),
            version: self.version,
            headers,
            can_upgrade: self.upgrade.is_some(),
        }
    }
}

/// Brings a request into normal form.
///
/// # Errors
///
/// 400 for framing, host or path; 414 or 431 for size; 405 for a method that no route can have.
pub(crate) fn normalize<O: Observer>(
    head: RequestHead,
    peer: &Peer,
    cx: &mut StageContext<'_, O>,
) -> Result<Box<InboundRequest>, Refusal> {
    cx.enter(Stage::Normalize);
    let settings = cx.runtime.settings();
    let client = Client::of_request(peer.address(), &head.headers, &settings.trusted_proxies);
    cx.response.record().set_client(client.ip);
    if client.peer_trust != PeerTrust::Untrusted
        && let Some(id) = head.headers.get(X_REQUEST_ID).filter(|id| is_request_id(id))
    {
        cx.response.set_request_id(id.clone());
    }
    check_size(&head, settings.max_header_size)?;
    check_framing(&head)?;
    check_method(&head)?;
    let (host, host_field) = parse_host(&head)?;
    cx.check(|| Check::passed("host", host.name()));
    let (normal_path, path_marks) = normalize_path(&head.target)?;
    cx.check(|| match &normal_path {
        Some(path) => Check::passed("path", format!("normal form is {path}")),
        None => Check::passed("path", "in normal form"),
    });
    let upgrade = requested_upgrade(&head);
    let certificate = presented_certificate(peer, cx.runtime, cx.response.received_at().wall);
    let RequestHead { method, target, version, mut headers, .. } = head;
    remove_untrusted_headers(&mut headers, client.peer_trust, cx.runtime.identity());
    // Boxed, because it is half a kilobyte and each stage moves it.
    Ok(Box::new(InboundRequest {
        method,
        version,
        headers,
        upgrade,
        client,
        hop: Rc::clone(peer.hop()),
        tls: peer.tls().cloned(),
        certificate,
        host,
        host_field,
        target,
        normal_path,
        path_marks,
    }))
}

/// The certificate of the connection at `now`.
fn presented_certificate(peer: &Peer, runtime: &Runtime, now: WallTime) -> PresentedCertificate {
    match peer.tls().filter(|tls| tls.has_certificate()) {
        Some(tls) => tls.certificate(runtime.client_trust(), now),
        None => PresentedCertificate::Absent,
    }
}

/// Checks the size of the head as HTTP/1.1 would encode it, so that HTTP/2's header compression
/// does not bypass the limit.
fn check_size(head: &RequestHead, max: usize) -> Result<(), Refusal> {
    let target = head.target.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        return Err(Refusal::UriTooLong);
    }
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head.method.as_str().len() + target + fields > max { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}

/// RFC 9112 §6.1: implementations disagree on the length of a message with a coding other than
/// `chunked` alone. A `Content-Length` next to `Transfer-Encoding` never comes this far: hyper
/// would remove it without a word, so the connection refuses such a head before hyper reads it.
fn check_framing(head: &RequestHead) -> Result<(), Refusal> {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let refused = Err(Refusal::Framing(FramingFault::TransferEncoding));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => refused,
        (Some(only), None) => {
            let chunked = only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            if chunked && head.version == Version::HTTP_11 { Ok(()) } else { refused }
        }
    }
}

/// `CONNECT` would make the gateway an open proxy, `TRACE` reflects credentials (RFC 9110 §9.3.8),
/// and no route matches `*`.
///
/// Methods are case-sensitive and all registered ones are in upper case (RFC 9110 §9.1, §16.1), but
/// some backends treat `delete` as `DELETE`. It would then not be subject to the rules of a route
/// for `DELETE`.
fn check_method(head: &RequestHead) -> Result<(), Refusal> {
    let is_refused = matches!(head.method, Method::CONNECT | Method::TRACE)
        || head.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase())
        || head.target.path() == "*";
    if is_refused { Err(Refusal::MethodNotAllowed { allow: HeaderValue::from_static("") }) } else { Ok(()) }
}

/// RFC 9112 §3.2 and §3.2.2, RFC 9113 §8.3.1: a request names exactly one host. If the target names
/// one too, both are equal.
fn parse_host(head: &RequestHead) -> Result<(Host, HeaderValue), Refusal> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let (field, None) = (fields.next(), fields.next()) else { return Err(Refusal::Host(HostRefusal::Several)) };
    let refused = Refusal::Host;
    let host = |value: &HeaderValue| match value.to_str() {
        Ok(text) => Host::parse(text).map_err(refused),
        Err(_) => Err(refused(HostRefusal::Malformed)),
    };
    match (field, head.target.authority()) {
        (None, None) => Err(refused(HostRefusal::Missing)),
        (Some(field), None) => Ok((host(field)?, field.clone())),
        (None, Some(authority)) => {
            let host = Host::parse(authority.as_str()).map_err(refused)?;
            let field = HeaderValue::from_str(authority.as_str()).map_err(|_| refused(HostRefusal::Malformed))?;
            // HTTP/1.1 requires `Host` even then.
            if head.version == Version::HTTP_2 { Ok((host, field)) } else { Err(refused(HostRefusal::Missing)) }
        }
        (Some(field), Some(authority)) => {
            if !field.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) {
                return Err(refused(HostRefusal::Contradiction));
            }
            Ok((host(field)?, field.clone()))
        }
    }
}

/// The normal form of the path, if it differs from the path as received, and its marks. Unusual
/// forms pass here, because the route decides whether it accepts them.
fn normalize_path(target: &Uri) -> Result<(Option<Box<str>>, PathMarks), Refusal> {
    let raw = target.path();
    let normal = NormalPath::parse(raw, UnusualForms::ALL).map_err(Refusal::Path)?;
    Ok(((normal.as_str() != raw).then(|| normal.as_str().into()), normal.marks()))
}

/// The protocol that the client asks to switch to (RFC 9110 §7.8). `None` if it does not ask, or if
/// the gateway ignores the offer, as a server may. The upstream then does not learn of it, and what
/// the client sends next is read as another request.
///
/// The gateway ignores an offer if there is a body, if `Connection` does not name `Upgrade`, or if
/// it is not for exactly one protocol that can be passed on. Offers of HTTP and TLS do not count:
/// what follows would be requests that the gateway does not see.
fn requested_upgrade(head: &RequestHead) -> Option<HeaderValue> {
    if !head.can_upgrade || !head.headers.contains_key(header::UPGRADE) {
        return None;
    }
    if !list_elements(&head.headers, &header::CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let mut offers = list_elements(&head.headers, &header::UPGRADE).filter(|offer| !would_carry_requests(offer));
    match (offers.next(), offers.next()) {
        (Some(only), None) if is_protocol(only) => HeaderValue::from_bytes(only).ok(),
        (Some(_) | None, _) => None,
    }
}

/// HTTP under one of its names, `h2c` and its drafts among them, and TLS (RFC 2817).
fn would_carry_requests(protocol: &[u8]) -> bool {
    let is_or_begins_with = |name: &[u8]| {
        protocol
            .split_at_checked(name.len())
            .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(name) && matches!(rest, [] | [b'/' | b'-', ..]))
    };
    [&b"h2c"[..], b"h2", b"http", b"tls"].into_iter().any(is_or_begins_with)
}

/// Whether `text` is `protocol-name ["/" protocol-version]`, both of them tokens (RFC 9110 §7.8).
fn is_protocol(text: &[u8]) -> bool {
    text.splitn(2, |byte| *byte == b'/').all(is_token)
}

/// Removes the headers that describe one connection, those that only the gateway writes, and those
/// that would make a backend interpret the request differently. The headers that `Connection` names
/// are removed first and here, so that `Connection` cannot remove a header that the gateway sets
/// later.
fn remove_untrusted_headers(headers: &mut HeaderMap, trust: PeerTrust, identity: &IdentityHeaders) {
    retain_end_to_end(headers, |name| identity.passes_upstream(name, trust));
    join_cookies(headers);
    // `Debug` does not print a value that is marked as sensitive.
    if let Some(credential) = headers.get_mut(header::AUTHORIZATION) {
        credential.set_sensitive(true);
    }
}

fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=MAX_REQUEST_ID_BYTES).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request head that can be upgraded, with these `Connection` and `Upgrade` fields.
    fn head(connection: &[u8], upgrades: &[&str]) -> RequestHead {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_bytes(connection).unwrap());
        for upgrade in upgrades {
            headers.append(header::UPGRADE, HeaderValue::from_str(upgrade).unwrap());
        }
        let target = Uri::from_static("/");
        RequestHead { method: Method::GET, target, version: Version::HTTP_11, headers, can_upgrade: true }
    }

    /// The method, the target, and each name and value with the four bytes around them.
    #[test]
    fn a_head_is_as_large_as_http_1_writes_it() {
        let head = RequestHead { target: Uri::from_static("/a?b"), ..head(b"close", &[]) };
        let size = "GET".len() + "/a?b".len() + "connection".len() + "close".len() + 4;
        assert_eq!(check_size(&head, size), Ok(()));
        assert_eq!(check_size(&head, size - 1), Err(Refusal::HeadTooLarge));
        let target = |length: usize| Uri::try_from("/".repeat(length)).unwrap();
        let with_target = |length| RequestHead { target: target(length), ..self::head(b"close", &[]) };
        assert_eq!(check_size(&with_target(MAX_TARGET_BYTES), usize::MAX), Ok(()));
        assert_eq!(check_size(&with_target(MAX_TARGET_BYTES + 1), usize::MAX), Err(Refusal::UriTooLong));
    }

    /// RFC 9110 §7.8: `protocol = protocol-name ["/" protocol-version]`, both of them tokens.
    #[test]
    fn an_upgrade_passes_to_one_protocol_that_carries_no_requests() {
        for (name, connection, upgrades, expected) in [
            ("a protocol", &b"upgrade"[..], &["websocket"][..], Some("websocket")),
            ("with a version", b"Upgrade", &["chat/2.1"], Some("chat/2.1")),
            ("a name that begins with tls", b"upgrade", &["tlsx"], Some("tlsx")),
            ("a name that begins with h2", b"upgrade", &["h2o/1"], Some("h2o/1")),
            ("next to an option that is not ASCII", b"\xe9, upgrade", &["websocket"], Some("websocket")),
            ("next to HTTP and TLS", b"upgrade", &["h2c, websocket", "TLS/1.2"], Some("websocket")),
            ("empty elements", b"upgrade", &["", ", websocket,"], Some("websocket")),
            ("no option", b"close", &["websocket"], None),
            ("no field", b"upgrade", &[], None),
            ("h2c", b"upgrade", &["H2C"], None),
            ("h2", b"upgrade", &["h2"], None),
            ("a draft of h2c", b"upgrade", &["h2c-14"], None),
            ("HTTP", b"upgrade", &["HTTP/2.0"], None),
            ("TLS", b"upgrade", &["TLS/1.3"], None),
            ("two fields", b"upgrade", &["websocket", "chat"], None),
            ("a list", b"upgrade", &["websocket, chat"], None),
            ("an empty version", b"upgrade", &["websocket/"], None),
            ("two versions", b"upgrade", &["chat/2/1"], None),
            ("no name", b"upgrade", &["/2"], None),
            ("a space", b"upgrade", &["web socket"], None),
            ("nothing", b"upgrade", &[""], None),
        ] {
            assert_eq!(
                requested_upgrade(&head(connection, upgrades)).as_ref().map(HeaderValue::as_bytes),
                expected.map(str::as_bytes),
                "{name}"
            );
        }
    }

    #[test]
    fn a_request_that_cannot_be_upgraded_ignores_the_field() {
        let head = RequestHead { can_upgrade: false, ..head(b"upgrade", &["websocket"]) };
        assert_eq!(requested_upgrade(&head), None);
    }
}
