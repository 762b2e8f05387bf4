//! What a replica is called: [`ReplicaName`], and [`Host`], a name as a client gave it.

use std::{fmt, num::NonZeroU16, str::FromStr, sync::Arc};

/// The longest name, in bytes: that of a DNS label.
pub const NAME_BYTES_MAX: usize = 63;

/// The name of a replica: `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`, so that it can be a container's name, a
/// host name and part of a URL without escaping.
///
/// Stable for the replica's life, whatever its address. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaName(Arc<str>);

impl ReplicaName {
    /// Takes `text` as a name if it follows the rule.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        match text.as_bytes() {
            [first, rest @ ..]
                if first.is_ascii_alphanumeric()
                    && text.len() <= NAME_BYTES_MAX
                    && rest.iter().copied().all(allowed) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(NameError::Name(abbreviated(text))),
        }
    }

    /// The generated name number `number`: `Server4`.
    pub fn generated(number: u32) -> Self {
        Self(format!("Server{number}").into())
    }

    /// A random UUID (version 4), made of these bits.
    pub(crate) fn uuid(random: u128) -> Self {
        const VERSION: u128 = 4 << 76;
        const VERSION_MASK: u128 = 0xf << 76;
        const VARIANT: u128 = 0b10 << 62;
        const VARIANT_MASK: u128 = 0b11 << 62;
        let bits = (random & !VERSION_MASK & !VARIANT_MASK) | VERSION | VARIANT;
        let digits = format!("{bits:032x}");
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        Self(parts.join("-").into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A replica as a client names it: `Server4`, or `Server4:5000` with the port it shall listen on.
///
/// Two hosts with the same name are the same replica, whatever their ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Which replica.
    pub name: ReplicaName,
    /// The replica's own port, where the client gave one.
    pub port: Option<NonZeroU16>,
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((name, port)) = text.split_once(':') else {
            return Ok(ReplicaName::parse(text)?.into());
        };
        let port = port.parse().map_err(|_| NameError::Port(abbreviated(text)))?;
        Ok(Self { name: ReplicaName::parse(name)?, port: Some(port) })
    }
}

impl From<ReplicaName> for Host {
    fn from(name: ReplicaName) -> Self {
        Self { name, port: None }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// Why a text is not the name of a replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It does not follow the rule for names.
    #[error(
        "bad name {0:?}: 1 to {NAME_BYTES_MAX} characters, the first a letter or digit, the others letters, digits, '_', '.' or '-'"
    )]
    Name(String),
    /// What follows the colon is not a port.
    #[error("bad port in {0:?}: a number from 1 to 65535 must follow the colon")]
    Port(String),
}

/// Enough of a refused text to recognise it; an error must not repeat a megabyte of input.
fn abbreviated(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["S5", "Server4", "0", "a_b.c-d", &"x".repeat(63)] {
            assert_eq!(ReplicaName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "_a", "a b", "a/b", "a:1", "é", "a\n", &"x".repeat(64)] {
            assert!(ReplicaName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_uuid_has_its_version_and_variant_and_is_a_name() {
        for (random, expected) in [
            (0, "00000000-0000-4000-8000-000000000000"),
            (u128::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
            (0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, "01234567-89ab-4def-8123-456789abcdef"),
        ] {
            let name = ReplicaName::uuid(random);
            assert_eq!(name.as_str(), expected);
            assert_eq!(ReplicaName::parse(expected), Ok(name));
        }
    }

    #[test]
    fn a_host_keeps_the_port_as_given() {
        let host: Host = "server4:5000".parse().unwrap();
        assert_eq!(host.name.as_str(), "server4");
        assert_eq!(host.to_string(), "server4:5000");
        for bad in ["server4:", "server4:0", "server4:65536", "server4:http", ":5000", "a:1:2"] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_megabyte() {
        let error = ReplicaName::parse(&"é".repeat(1 << 20)).unwrap_err();
        assert!(error.to_string().len() < 400);
    }
}
