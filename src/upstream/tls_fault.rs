//! Why a TLS handshake with a server fails: one of a fixed set of reasons for the log.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

use crate::tls::bounded_verifier::ChainTooLarge;
use crate::tls::pin::PinMismatch;

/// Why there is no TLS session with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is for other names.
    NameMismatch,
    /// No trusted authority has issued the certificate.
    IssuerUnknown,
    /// The certificate is on a revocation list.
    Revoked,
    /// No revocation list covers the certificate, or the one that does has expired.
    RevocationUnknown,
    /// The certificate is malformed, wrongly signed or for another purpose.
    CertificateInvalid,
    /// The server has sent more or larger certificates than are looked at.
    ChainTooLarge,
    /// The chain is valid, but has none of the keys in `pins`.
    PinMismatch,
    /// The server does not speak the protocol that is demanded (RFC 7301).
    AlpnRefused,
    /// The server demands a certificate, and the gateway has none.
    ClientCertificateRequired,
    /// The server does not accept the gateway's certificate.
    ClientCertificateRefused,
    /// The server speaks none of TLS 1.2 and 1.3.
    Version,
    /// What the server has sent is not TLS.
    NotTls,
    /// The server has closed the connection before the handshake was complete.
    Closed,
    /// Not complete within `connect_timeout`.
    TimedOut,
    /// Anything else, such as no cipher suite in common.
    Failed,
}

impl TlsFault {
    /// The reason for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "certificate expired",
            Self::NotYetValid => "certificate not yet valid",
            Self::NameMismatch => "certificate name mismatch",
            Self::IssuerUnknown => "certificate issuer unknown",
            Self::Revoked => "certificate revoked",
            Self::RevocationUnknown => "certificate revocation unknown",
            Self::CertificateInvalid => "certificate invalid",
            Self::ChainTooLarge => "certificate chain too large",
            Self::PinMismatch => "pin mismatch",
            Self::AlpnRefused => "alpn refused",
            Self::ClientCertificateRequired => "client certificate required",
            Self::ClientCertificateRefused => "client certificate refused",
            Self::Version => "tls version not supported",
            Self::NotTls => "the server does not speak TLS",
            Self::Closed => "closed during the tls handshake",
            Self::TimedOut => "tls handshake timeout",
            Self::Failed => "tls handshake failed",
        }
    }

    /// Classifies the error of a handshake.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        match rustls_error(error) {
            Some(error) => Self::of(error),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Failed,
            },
        }
    }

    /// Classifies the error of a read after the handshake. In TLS 1.3 a server looks at the
    /// client's certificate when the handshake is complete for the client (RFC 8446 §4.4.2.4).
    /// `None` if the error has another cause.
    pub(super) fn of_read(error: &io::Error) -> Option<Self> {
        match rustls_error(error)? {
            Error::AlertReceived(alert) => Self::of_client_certificate(*alert),
            _ => None,
        }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidCertRevocationList(_) => Self::RevocationUnknown,
            Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Self::AlpnRefused
            }
            Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version,
            Error::AlertReceived(alert) => Self::of_client_certificate(*alert).unwrap_or(Self::Failed),
            Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Failed,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::NameMismatch,
            CertificateError::UnknownIssuer => Self::IssuerUnknown,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationUnknown,
            CertificateError::Other(OtherError(other)) if other.is::<PinMismatch>() => Self::PinMismatch,
            CertificateError::Other(OtherError(other)) if other.is::<ChainTooLarge>() => Self::ChainTooLarge,
            _ => Self::CertificateInvalid,
        }
    }

    fn of_client_certificate(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                Some(Self::ClientCertificateRequired)
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Some(Self::ClientCertificateRefused),
            _ => None,
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{CertRevocationListError, InvalidMessage};

    use super::*;

    #[test]
    fn each_error_of_a_handshake_has_its_reason() {
        for (error, expected) in [
            (Error::InvalidCertificate(CertificateError::Expired), "certificate expired"),
            (Error::InvalidCertificate(CertificateError::NotValidYet), "certificate not yet valid"),
            (Error::InvalidCertificate(CertificateError::NotValidForName), "certificate name mismatch"),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "certificate issuer unknown"),
            (Error::InvalidCertificate(CertificateError::Revoked), "certificate revoked"),
            (Error::InvalidCertificate(CertificateError::UnknownRevocationStatus), "certificate revocation unknown"),
            (Error::InvalidCertificate(CertificateError::ExpiredRevocationList), "certificate revocation unknown"),
            (Error::InvalidCertRevocationList(CertRevocationListError::BadSignature), "certificate revocation unknown"),
            (Error::InvalidCertificate(CertificateError::BadSignature), "certificate invalid"),
            (Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(PinMismatch)))), "pin mismatch"),
            (
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(ChainTooLarge)))),
                "certificate chain too large",
            ),
            (
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(io::Error::other("x"))))),
                "certificate invalid",
            ),
            (Error::AlertReceived(AlertDescription::NoApplicationProtocol), "alpn refused"),
            (Error::NoApplicationProtocol, "alpn refused"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "client certificate required"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "client certificate refused"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), "tls version not supported"),
            (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), "tls version not supported"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "the server does not speak TLS"),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "tls handshake failed"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "tls handshake failed"),
        ] {
            let name = format!("{error:?}");
            let fault = TlsFault::of_handshake(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert_eq!(fault.reason(), expected, "{name}");
        }
        for (kind, expected) in [
            (io::ErrorKind::UnexpectedEof, TlsFault::Closed),
            (io::ErrorKind::ConnectionReset, TlsFault::Closed),
            (io::ErrorKind::OutOfMemory, TlsFault::Failed),
        ] {
            assert_eq!(TlsFault::of_handshake(&kind.into()), expected, "{kind}");
        }
    }

    #[test]
    fn after_the_handshake_only_the_clients_certificate_is_at_fault() {
        let read = |error| TlsFault::of_read(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(
            read(Error::AlertReceived(AlertDescription::CertificateRequired)),
            Some(TlsFault::ClientCertificateRequired)
        );
        assert_eq!(
            read(Error::AlertReceived(AlertDescription::BadCertificate)),
            Some(TlsFault::ClientCertificateRefused)
        );
        assert_eq!(read(Error::AlertReceived(AlertDescription::InternalError)), None);
        assert_eq!(read(Error::DecryptError), None);
        assert_eq!(TlsFault::of_read(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
