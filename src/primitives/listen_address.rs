//! Where the gateway listens, as the configuration writes it: `IP:PORT`, `unix:/path` or
//! `systemd:NAME`, and what it serves there.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port. Port 0 stands for any free port.
    Tcp(SocketAddr),
    /// A Unix stream socket at this absolute path.
    Unix(PathBuf),
    /// The sockets that systemd hands over under this name.
    Systemd(Box<str>),
}

/// How the connections of a listener are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerService {
    /// A redirect to https, without TLS.
    HttpsRedirect,
    /// The routes, without TLS.
    Plain,
    /// The routes, over TLS.
    Tls,
}

/// A listener, as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where it listens.
    pub address: ListenAddress,
    /// What it serves.
    pub service: ListenerService,
}

/// Who may connect to Unix listeners: the permission bits of their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixMode(u32);

/// Why a text is not an address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidListenAddress {
    /// It is neither an IP address with a port nor a Unix socket.
    #[error("is not an IP address with a port")]
    Unknown,
    /// The path of a Unix socket does not begin at the root.
    #[error("is not an absolute path")]
    RelativePath,
    /// The path of a Unix socket is longer than the kernel accepts.
    #[error("is longer than the {MAX_UNIX_PATH_BYTES} bytes that the path of a Unix socket may have")]
    LongPath,
    /// What follows `systemd:` cannot be the name of a socket.
    #[error("has no name that systemd can give to a socket")]
    DescriptorName,
}

/// The longest path of a Unix socket, in bytes: the kernel's `sun_path` without the final zero byte
/// (unix(7)).
pub(crate) const MAX_UNIX_PATH_BYTES: usize = 107;

impl ListenAddress {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// [`InvalidListenAddress`].
    pub fn parse(text: &str) -> Result<Self, InvalidListenAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path).map(Self::Unix);
        }
        match text.strip_prefix("systemd:") {
            Some(name) if is_descriptor_name(name) => Ok(Self::Systemd(name.into())),
            Some(_) => Err(InvalidListenAddress::DescriptorName),
            None => text.parse().map(Self::Tcp).map_err(|_| InvalidListenAddress::Unknown),
        }
    }

    /// Whether listening on `self` and on `other` would collide. Port 0 is any free port, so that
    /// it may be listed several times.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        match self {
            Self::Tcp(address) if address.port() == 0 => false,
            Self::Tcp(_) | Self::Unix(_) | Self::Systemd(_) => self == other,
        }
    }
}

/// Whether `text` is a name that `FileDescriptorName=` takes (systemd.socket(5)).
fn is_descriptor_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':')
}

/// The path of a Unix socket, which must be absolute: the gateway's working directory depends on
/// how it is started.
///
/// # Errors
///
/// [`InvalidListenAddress`].
pub(crate) fn unix_path(text: &str) -> Result<PathBuf, InvalidListenAddress> {
    let path = Path::new(text);
    if !path.is_absolute() || path.file_name().is_none() {
        return Err(InvalidListenAddress::RelativePath);
    }
    if text.len() > MAX_UNIX_PATH_BYTES {
        return Err(InvalidListenAddress::LongPath);
    }
    Ok(path.to_owned())
}

impl UnixMode {
    /// Only the process's own user may connect.
    pub const OWNER: Self = Self(0o600);

    /// Reads a mode, such as `0660`: a zero and three octal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3)?;
        let is_octal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        u32::from_str_radix(digits, 8).ok().filter(|_| is_octal).map(Self)
    }

    /// The permission bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether every user of the machine may connect.
    #[must_use]
    pub fn admits_everyone(self) -> bool {
        self.0 & 0o002 != 0
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::InvalidListenAddress::{DescriptorName, LongPath, RelativePath, Unknown};
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_with_a_port_or_the_path_of_a_unix_socket() {
        let longest = format!("unix:/{}", "a".repeat(MAX_UNIX_PATH_BYTES - 1));
        let too_long = format!("{longest}a");
        for (text, expected) in [
            ("127.0.0.1:8080", Ok(())),
            ("[::]:0", Ok(())),
            ("unix:/run/gateway.sock", Ok(())),
            (&longest, Ok(())),
            (&too_long, Err(LongPath)),
            ("unix:gateway.sock", Err(RelativePath)),
            ("unix:", Err(RelativePath)),
            ("unix:/", Err(RelativePath)),
            ("unix:/run/..", Err(RelativePath)),
            ("unix:@abstract", Err(RelativePath)),
            ("systemd:http", Ok(())),
            ("systemd:portcullis.socket", Ok(())),
            ("systemd:", Err(DescriptorName)),
            ("systemd:a:b", Err(DescriptorName)),
            ("systemd:\u{e9}", Err(DescriptorName)),
            ("UNIX:/run/gateway.sock", Err(Unknown)),
            ("/run/gateway.sock", Err(Unknown)),
            ("localhost:8080", Err(Unknown)),
            ("127.0.0.1", Err(Unknown)),
            ("", Err(Unknown)),
        ] {
            let parsed = ListenAddress::parse(text);
            assert_eq!(parsed.as_ref().map(drop).map_err(|error| *error), expected, "{text}");
            if let Ok(address) = parsed {
                assert_eq!(address.to_string(), text);
            }
        }
    }

    #[test]
    fn a_mode_is_a_zero_and_three_octal_digits() {
        for (text, expected) in [
            ("0600", Some(0o600)),
            ("0666", Some(0o666)),
            ("0777", Some(0o777)),
            ("660", None),
            ("0o660", None),
            ("0668", None),
            ("+660", None),
            ("0+66", None),
            ("01777", None),
            ("", None),
        ] {
            assert_eq!(UnixMode::parse(text).map(UnixMode::bits), expected, "{text}");
        }
        assert!(UnixMode::parse("0602").unwrap().admits_everyone());
        assert!(!UnixMode::parse("0775").unwrap().admits_everyone());
    }

    #[test]
    fn the_same_address_collides_unless_it_is_any_free_port() {
        let address = |text| ListenAddress::parse(text).unwrap();
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("systemd:a", "systemd:a", true),
            ("systemd:a", "systemd:b", false),
        ] {
            assert_eq!(address(one).collides_with(&address(other)), expected, "{one} {other}");
        }
    }
}
