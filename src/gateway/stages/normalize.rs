//! Normalization: what a client sent becomes an [`InboundRequest`], in the one form that is judged *and*
//! forwarded.
//!
//! Framing, target, host and path have one reading or are refused. Hop-by-hop fields and everything
//! that only the gateway may write are removed, so that no later stage can mistake a client's words
//! for ours.

use std::rc::Rc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri, Version};

use super::StageContext;
use crate::gateway::client_address::{self, ClientAddress};
use crate::gateway::matching::host::{Host, HostRefusal};
use crate::gateway::matching::path::{NormalPath, PathParameters};
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::IdentityHeaders;
use crate::gateway::request::{Peer, RequestHead};
use crate::gateway::response::refusal::{Framing, Refusal};
use crate::primitives::field_syntax::{is_token, list_elements};
use crate::upstream::headers::forwarding::Hop;
use crate::upstream::headers::{Peers, X_REQUEST_ID, join_cookies, retain};

/// Longest request target, in bytes. The request line of common servers is bounded alike, so that a longer one could not be forwarded.
pub(crate) const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Longest request id taken over from a trusted proxy, in bytes: room for a UUID and a prefix.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// A request in its one form.
#[derive(Debug)]
pub(crate) struct InboundRequest {
    /// Never `CONNECT` or `TRACE`.
    pub method: Method,
    /// For `Via`.
    pub version: Version,
    /// Without hop-by-hop fields, identity headers and overrides. `Authorization` is still there, for the next stages.
    pub headers: HeaderMap,
    /// The protocol that the client asks to switch to (RFC 9110 §7.8).
    pub upgrade: Option<HeaderValue>,
    /// Who is asking, forwarding headers of trusted proxies considered.
    pub client: ClientAddress,
    /// What upstreams are told about the connection.
    pub hop: Rc<Hop>,
    /// The host, for routing.
    pub host: Host,
    /// The host, as it was written.
    pub host_field: HeaderValue,
    target: Uri,
    normal_path: Option<Box<str>>,
}

impl InboundRequest {
    /// The path, in normal form.
    #[must_use]
    pub(crate) fn path(&self) -> NormalPath<'_> {
        NormalPath::assume_normal(self.normal_path.as_deref().unwrap_or_else(|| self.target.path()))
    }

    /// The query, as it came.
    #[must_use]
    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The target as it came, if its path was in normal form already.
    #[must_use]
    pub(crate) fn unchanged_target(&self) -> Option<&Uri> {
        self.normal_path.is_none().then_some(&self.target)
    }

    /// Whether the peer's forwarding headers count.
    #[must_use]
    pub(crate) fn peers(&self) -> Peers {
        if self.client.via_trusted_proxy { Peers::Trusted } else { Peers::Untrusted }
    }
}

/// Brings a request into its one form.
///
/// # Errors
///
/// 400 for framing, host or path; 414, 431 for length; 405 for `CONNECT`, `TRACE` and `OPTIONS *`.
pub(crate) fn normalize<O: Observer>(
    head: RequestHead,
    peer: &Peer,
    cx: &mut StageContext<'_, O>,
) -> Result<Box<InboundRequest>, Refusal> {
    cx.enter(Stage::Normalize);
    let settings = cx.runtime.settings();
    let client = client_address::from_request(peer.address(), &head.headers, &settings.trusted_proxies);
    cx.response.record().set_client(client.ip);
    if client.via_trusted_proxy
        && let Some(id) = head.headers.get(X_REQUEST_ID).filter(|id| is_request_id(id))
    {
        cx.response.set_request_id(id.clone());
    }
    check_size(&head, settings.max_header_size)?;
    check_framing(&head)?;
    check_method(&head)?;
    let (host, host_field) = check_host(&head)?;
    cx.check(|| Check::passed("host", host.name()));
    let normal_path = check_path(&head.target)?;
    cx.check(|| match &normal_path {
        Some(path) => Check::passed("path", format!("normal form is {path}")),
        None => Check::passed("path", "in normal form"),
    });
    let upgrade = check_upgrade(&head)?;
    let RequestHead { method, target, version, mut headers, .. } = head;
    remove_untrusted_headers(&mut headers, client, cx.runtime.identity());
    // Boxed, since each stage hands it to the next, and it is half a kilobyte.
    Ok(Box::new(InboundRequest {
        method,
        version,
        headers,
        upgrade,
        client,
        hop: Rc::clone(peer.hop()),
        host,
        host_field,
        target,
        normal_path,
    }))
}

/// The head's size as HTTP/1.1 would write it, so that HTTP/2's compression is no way around the limit.
fn check_size(head: &RequestHead, max: usize) -> Result<(), Refusal> {
    let target = head.target.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        return Err(Refusal::UriTooLong);
    }
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head.method.as_str().len() + target + fields > max { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}

/// RFC 9112 §6.1: a message with a coding other than `chunked` alone has no length that everybody agrees on. `Content-Length` beside
/// `Transfer-Encoding` never gets here: hyper drops it and closes the connection after the answer.
fn check_framing(head: &RequestHead) -> Result<(), Refusal> {
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let refused = Err(Refusal::Framing(Framing::TransferEncoding));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => refused,
        (Some(only), None) => {
            let chunked = only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            if chunked && head.version == Version::HTTP_11 { Ok(()) } else { refused }
        }
    }
}

/// `CONNECT` would make an open proxy of us, `TRACE` reflects credentials (RFC 9110 §9.3.8), and `*` is no resource of a route.
fn check_method(head: &RequestHead) -> Result<(), Refusal> {
    let never = matches!(head.method, Method::CONNECT | Method::TRACE) || head.target.path() == "*";
    if never { Err(Refusal::MethodNotAllowed { allow: HeaderValue::from_static("") }) } else { Ok(()) }
}

/// RFC 9112 §3.2 and §3.2.2, RFC 9113 §8.3.1: exactly one host; where the target names one too, it is the same.
fn check_host(head: &RequestHead) -> Result<(Host, HeaderValue), Refusal> {
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
            // In HTTP/1.1 the field must be there even so.
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

/// The path's normal form, if it came in another one. Whether `;` may stand in it is the route's decision.
fn check_path(target: &Uri) -> Result<Option<Box<str>>, Refusal> {
    let raw = target.path();
    let normal = NormalPath::parse(raw, PathParameters::Allow).map_err(Refusal::Path)?;
    Ok((normal.as_str() != raw).then(|| normal.as_str().into()))
}

/// The protocol that the client asks to switch to. WebSocket and its like pass; `h2c` and TLS would
/// change who reads what follows. `None` if it asks for none, or in a way that a server may ignore
/// (RFC 9110 §7.8), such as with a body.
fn check_upgrade(head: &RequestHead) -> Result<Option<HeaderValue>, Refusal> {
    let mut offers = head.headers.get_all(header::UPGRADE).iter();
    let Some(protocol) = offers.next().filter(|_| head.can_upgrade) else { return Ok(None) };
    if !list_elements(&head.headers, &header::CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return Ok(None);
    }
    let (name, version) = match protocol.as_bytes().iter().position(|&byte| byte == b'/') {
        Some(slash) => (&protocol.as_bytes()[..slash], Some(&protocol.as_bytes()[slash + 1..])),
        None => (protocol.as_bytes(), None),
    };
    let is_one = offers.next().is_none() && is_token(name) && version.is_none_or(is_token);
    let changes_reader = [&b"h2c"[..], b"http", b"tls"].iter().any(|other| name.eq_ignore_ascii_case(other));
    if is_one && !changes_reader { Ok(Some(protocol.clone())) } else { Err(Refusal::Framing(Framing::Upgrade)) }
}

/// Removes what is about one connection, what only the gateway writes, and what would make a backend
/// believe another request. First what `Connection` names: what the gateway sets later can then not be
/// named away.
fn remove_untrusted_headers(headers: &mut HeaderMap, client: ClientAddress, identity: &IdentityHeaders) {
    let peers = if client.via_trusted_proxy { Peers::Trusted } else { Peers::Untrusted };
    retain(headers, |name| identity.passes_upstream(name, peers));
    join_cookies(headers);
    // Never shown by anything that prints headers.
    if let Some(credential) = headers.get_mut(header::AUTHORIZATION) {
        credential.set_sensitive(true);
    }
}

fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=MAX_REQUEST_ID_BYTES).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
