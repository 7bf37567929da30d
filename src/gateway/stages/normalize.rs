//! Intake: what a client sent becomes an [`InboundRequest`], or is refused before anybody looks at it further.
//!
//! Stage 1 of [`Gateway::handle`](super::Gateway::handle). Framing, target, host and path are brought to the one form that is judged *and*
//! forwarded; hop-by-hop fields and everything that only the gateway may write are taken away, so that no later stage can mistake a client's
//! word for ours.

use http::header::{self, HeaderMap, HeaderValue};
use std::rc::Rc;

use http::{Method, Request, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::gateway::client_address::{self, ClientAddress};
use crate::gateway::matching::host::{Host, HostRefusal};
use crate::gateway::matching::path::{NormalPath, PathParameters};
use crate::gateway::response::refusal::{Framing, Refusal};
use crate::gateway::{Peer, ResponseContext, Runtime};
use crate::upstream::headers::forwarding::Hop;
use crate::upstream::headers::{Peers, X_REQUEST_ID, clean, is_override, join_cookies};

/// Longest request target, in bytes. The request line of common servers is bounded alike, so that a longer one could not be forwarded.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Longest request id taken over from a trusted proxy, in bytes: room for a UUID and a prefix.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// A request in its one form.
#[derive(Debug)]
pub struct InboundRequest {
    /// Never `CONNECT` or `TRACE`.
    pub method: Method,
    /// For `Via`.
    pub version: Version,
    /// Without hop-by-hop fields, identity headers and overrides. `Authorization` is still there, for the next stages.
    pub headers: HeaderMap,
    /// Not yet read.
    pub body: Incoming,
    /// What the client asks to switch to.
    pub upgrade: Option<Upgrade>,
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

/// A wish to switch protocols (RFC 9110 §7.8).
#[derive(Debug)]
pub struct Upgrade {
    /// The protocol, one alone.
    pub protocol: HeaderValue,
    /// The client's connection, once it has been told 101.
    pub client: OnUpgrade,
}

impl InboundRequest {
    /// The path, in normal form.
    #[must_use]
    pub fn path(&self) -> NormalPath<'_> {
        NormalPath::assume_normal(self.normal_path.as_deref().unwrap_or_else(|| self.target.path()))
    }

    /// The query, as it came.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The target as it came, if its path was in normal form already.
    #[must_use]
    pub fn unchanged_target(&self) -> Option<&Uri> {
        self.normal_path.is_none().then_some(&self.target)
    }

    /// Whether the peer's forwarding headers count.
    #[must_use]
    pub fn peers(&self) -> Peers {
        if self.client.through_trusted { Peers::Trusted } else { Peers::Untrusted }
    }
}

/// Brings a request into its one form.
///
/// # Errors
///
/// 400 for framing, host or path; 414, 431 for length; 405 for `CONNECT`, `TRACE` and `OPTIONS *`.
pub fn receive(
    request: Request<Incoming>,
    peer: &Peer,
    runtime: &Runtime,
    context: &mut ResponseContext,
) -> Result<Box<InboundRequest>, Refusal> {
    let settings = runtime.settings();
    let client = client_address::from_request(peer.address(), request.headers(), &settings.trusted_proxies);
    context.record().client(client.ip);
    if client.through_trusted
        && let Some(id) = request.headers().get(X_REQUEST_ID).filter(|id| is_request_id(id))
    {
        context.identify(id.clone());
    }
    check_size(&request, settings.max_header_size)?;
    check_framing(&request)?;
    check_method(&request)?;
    let (host, host_field) = check_host(&request)?;
    let normal_path = check_path(request.uri())?;
    let (mut parts, body) = request.into_parts();
    let upgrade = take_upgrade(&mut parts, &body)?;
    let mut headers = parts.headers;
    clean_up(&mut headers, client, runtime);
    // In one place from here on: it is handed from stage to stage, and half a kilobyte is a lot to hand.
    Ok(Box::new(InboundRequest {
        method: parts.method,
        version: parts.version,
        headers,
        body,
        upgrade,
        client,
        hop: Rc::clone(peer.hop()),
        host,
        host_field,
        target: parts.uri,
        normal_path,
    }))
}

/// The head's size as HTTP/1.1 would write it, so that HTTP/2's compression is no way around the limit.
fn check_size(request: &Request<Incoming>, max: usize) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        return Err(Refusal::UriTooLong);
    }
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if request.method().as_str().len() + target + fields > max { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}

/// RFC 9112 §6.1: a message with a coding other than `chunked` alone has no length that everybody agrees on. `Content-Length` beside
/// `Transfer-Encoding` never gets here: hyper drops it and closes the connection after the answer.
fn check_framing(request: &Request<Incoming>) -> Result<(), Refusal> {
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let refused = Err(Refusal::Framing(Framing::TransferEncoding));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => refused,
        (Some(only), None) => {
            let chunked = only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            if chunked && request.version() == Version::HTTP_11 { Ok(()) } else { refused }
        }
    }
}

/// `CONNECT` would make an open proxy of us, `TRACE` reflects credentials (RFC 9110 §9.3.8), and `*` is no resource of a route.
fn check_method(request: &Request<Incoming>) -> Result<(), Refusal> {
    let never = matches!(*request.method(), Method::CONNECT | Method::TRACE) || request.uri().path() == "*";
    if never { Err(Refusal::MethodNotAllowed { allow: HeaderValue::from_static("") }) } else { Ok(()) }
}

/// RFC 9112 §3.2 and §3.2.2, RFC 9113 §8.3.1: exactly one host; where the target names one too, it is the same.
fn check_host(request: &Request<Incoming>) -> Result<(Host, HeaderValue), Refusal> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let (field, None) = (fields.next(), fields.next()) else { return Err(Refusal::Host(HostRefusal::Several)) };
    let refused = Refusal::Host;
    let host = |value: &HeaderValue| match value.to_str() {
        Ok(text) => Host::parse(text).map_err(refused),
        Err(_) => Err(refused(HostRefusal::Malformed)),
    };
    match (field, request.uri().authority()) {
        (None, None) => Err(refused(HostRefusal::Missing)),
        (Some(field), None) => Ok((host(field)?, field.clone())),
        (None, Some(authority)) => {
            let host = Host::parse(authority.as_str()).map_err(refused)?;
            let field = HeaderValue::from_str(authority.as_str()).map_err(|_| refused(HostRefusal::Malformed))?;
            // In HTTP/1.1 the field must be there even so.
            if request.version() == Version::HTTP_2 { Ok((host, field)) } else { Err(refused(HostRefusal::Missing)) }
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

/// Takes the wish to switch protocols out of the request. WebSocket and its like pass; `h2c` and TLS would change who reads what follows.
fn take_upgrade(parts: &mut http::request::Parts, body: &Incoming) -> Result<Option<Upgrade>, Refusal> {
    use http_body::Body as _;
    let Some(client) = parts.extensions.remove::<OnUpgrade>() else { return Ok(None) };
    let mut wishes = parts.headers.get_all(header::UPGRADE).iter();
    let Some(protocol) = wishes.next() else { return Ok(None) };
    let asked = parts
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")));
    // A server may ignore an Upgrade field (RFC 9110 §7.8); a request with a body goes its ordinary way.
    if !asked || !body.is_end_stream() || parts.version != Version::HTTP_11 {
        return Ok(None);
    }
    let refused = Refusal::Framing(Framing::Upgrade);
    let name = protocol.to_str().map_err(|_| refused.clone())?;
    let one = wishes.next().is_none() && !name.is_empty() && name.bytes().all(|byte| is_token(byte) || byte == b'/');
    let lower = name.to_ascii_lowercase();
    let forbidden = ["h2c", "http", "tls"].iter().any(|other| lower.split('/').next() == Some(other));
    if one && !forbidden { Ok(Some(Upgrade { protocol: protocol.clone(), client })) } else { Err(refused) }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Takes away what is about one connection, what only the gateway writes, and what would make a backend believe another request. First what
/// `Connection` names: what is set later can then not be named away.
fn clean_up(headers: &mut HeaderMap, client: ClientAddress, runtime: &Runtime) {
    let peers = if client.through_trusted { Peers::Trusted } else { Peers::Untrusted };
    let own = [header::CONTENT_LENGTH, X_REQUEST_ID];
    clean(headers, |name| own.contains(name) || runtime.identity().owns(name) || is_override(name, peers));
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
