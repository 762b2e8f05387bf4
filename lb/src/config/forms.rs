//! The kinds of text that the file contains.

use std::{
    net::{Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use http::{HeaderName, HeaderValue, header, uri::PathAndQuery};
use ipnet::IpNet;
use ringmaster_fleet::{Host, ReplicaName};

use super::KeySource;

/// A kind of text: what it is, and how it is parsed.
pub(super) struct Form<T> {
    /// Completes the sentence "VALUE: not …".
    pub(super) name: &'static str,
    pub(super) parse: fn(&str) -> Option<T>,
}

/// Of a reference to an image with a registry, a tag and a digest.
const IMAGE_BYTES_MAX: usize = 512;

/// Where to listen. Port 0 stands for any free one.
pub(super) const LISTEN: Form<SocketAddr> = Form {
    name: "an address; use HOST:PORT with a numeric host, such as 127.0.0.1:5000",
    parse: |text| text.parse().ok(),
};

pub(super) const LISTEN_OR_NOT: Form<Option<SocketAddr>> =
    Form { name: LISTEN.name, parse: |text| (LISTEN.parse)(text).map(Some) };

/// Where a replica listens.
pub(super) const ADDRESS: Form<SocketAddr> = Form {
    name: "the address of a replica; use HOST:PORT with a numeric host and a port from 1 to 65535",
    parse: |text| text.parse().ok().filter(|address: &SocketAddr| address.port() != 0),
};

pub(super) const NETWORK: Form<IpNet> = Form {
    name: "a network; use ADDRESS/BITS, such as 10.0.0.0/8",
    parse: |text| text.parse().ok(),
};

/// The paths that the address for clients may answer itself.
pub(super) const RESERVED_PATHS: [&str; 4] = ["/rep", "/add", "/rm", "/metrics"];

pub(super) const RESERVED_PATH: Form<String> = Form {
    name: "one of /rep, /add, /rm, /metrics",
    parse: |text| RESERVED_PATHS.contains(&text).then(|| text.to_owned()),
};

pub(super) const FILE: Form<Option<PathBuf>> = Form {
    name: "the path of a file",
    parse: |text| (!text.is_empty()).then(|| Some(text.into())),
};

/// A host as a route compares it: lower case, without a port.
pub(super) const ROUTE_HOST: Form<Option<String>> = Form {
    name: "a host; use a name or an address without a port, such as example.com or [::1]",
    parse: |text| {
        let host = text.strip_suffix('.').filter(|it| !it.ends_with(']')).unwrap_or(text);
        is_host(host)
            .then(|| Some(ipv6(host).map_or(host.to_ascii_lowercase(), |it| format!("[{it}]"))))
    },
};

/// The value of a `Host` header.
pub(super) const HOST_FIELD: Form<Option<HeaderValue>> = Form {
    name: "a host; use a name or an address, with or without a port, such as example.com or [::1]:8080",
    parse: |text| {
        let value = HeaderValue::from_str(text).ok().filter(|_| is_host_with_port(text));
        value.map(Some)
    },
};

/// Headers that the connection of a heartbeat depends on.
const OF_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A header that a heartbeat may have.
pub(super) const PROBE_HEADER: Form<HeaderName> = Form {
    name: "a header that can be set; Host has the key `host`, and Connection, Content-Length, Expect, Keep-Alive, TE, \
           Trailer, Transfer-Encoding and Upgrade are the balancer's own",
    parse: |text| {
        let name: HeaderName = text.parse().ok()?;
        (name != header::HOST && !OF_CONNECTION.contains(&name)).then_some(name)
    },
};

/// Statuses of final answers.
pub(super) const STATUSES: Form<RangeInclusive<u16>> = Form {
    name: "a status or a range of statuses; use numbers from 200 to 599, such as 301 or 200-299",
    parse: statuses,
};

/// A path without a query, as requests spell it.
pub(super) const PATH: Form<String> = Form {
    name: "a path; it starts with '/', and is written as in a request, without a query",
    parse: |text| is_path(text).then(|| text.to_owned()),
};

/// Clusters and networks of containers are named as replicas are.
pub(super) const CLUSTER: Form<String> =
    Form { name: NAME.name, parse: |text| (NAME.parse)(text).map(|_| text.to_owned()) };

pub(super) const IMAGE: Form<Option<String>> = Form {
    name: "an image; use NAME, NAME:TAG or NAME@DIGEST, such as nginx:1.29",
    parse: |text| is_image(text).then(|| Some(text.to_owned())),
};

/// One word of a command, or the value of a variable.
pub(super) const WORD: Form<String> = Form {
    name: "a text; put quotes around numbers, true and false",
    parse: |text| (!text.contains('\0')).then(|| text.to_owned()),
};

pub(super) const VARIABLE: Form<String> = Form {
    name: "the name of an environment variable; use letters, digits and '_', the first not a digit",
    parse: |text| is_variable(text).then(|| text.to_owned()),
};

/// Pools are named as replicas are.
pub(super) const POOL: Form<Option<String>> =
    Form { name: NAME.name, parse: |text| (NAME.parse)(text).map(|_| Some(text.to_owned())) };

pub(super) const NAME: Form<ReplicaName> = Form {
    name: "a name; use up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    parse: |text| ReplicaName::parse(text).ok(),
};

pub(super) const REPLICA: Form<Host> = Form {
    name: "a replica; use NAME or NAME:PORT, such as Server1, and in NAME \
           up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    parse: |text| text.parse().ok(),
};

pub(super) const KEY: Form<KeySource> = Form {
    name: "a source of keys; use request_id, client_ip, path, header:NAME, cookie:NAME or query:NAME",
    parse: key_source,
};

fn key_source(text: &str) -> Option<KeySource> {
    // What may stand in a header's name may stand in a cookie's (RFC 6265 §4.1.1), and in that of a
    // query's parameter unless it ends the parameter.
    let token = |name: &str| HeaderName::try_from(name).ok().map(|_| name.to_owned());
    match text.split_once(':') {
        None => match text {
            "request_id" => Some(KeySource::RequestId),
            "client_ip" => Some(KeySource::ClientIp),
            "path" => Some(KeySource::Path),
            _ => None,
        },
        Some(("header", name)) => name.parse().ok().map(KeySource::Header),
        Some(("cookie", name)) => token(name).map(KeySource::Cookie),
        Some(("query", name)) if !name.contains(['&', '#']) => token(name).map(KeySource::Query),
        Some(_) => None,
    }
}

fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| is_plain && (200..=599).contains(number))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}

fn is_host_with_port(text: &str) -> bool {
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|it: u16| it > 0)
    };
    match text.rsplit_once(':') {
        // Not the last part of an address in brackets.
        Some((host, port)) if !port.ends_with(']') => is_host(host) && is_port(port),
        Some(_) | None => is_host(text),
    }
}

/// The address in `[ADDRESS]`.
pub(super) fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    ipv6(text).is_some() || (1..=253).contains(&text.len()) && text.bytes().all(allowed)
}

/// The engine knows the whole grammar; this keeps out what cannot be a reference or is not one to an image.
fn is_image(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@".contains(&byte);
    (1..=IMAGE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn is_variable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.starts_with(|first: char| !first.is_ascii_digit())
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.is_ascii()
        // Not equal if a query or a fragment was cut off.
        && PathAndQuery::try_from(text).is_ok_and(|parsed| parsed.path() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_without_a_port() {
        for good in ["a", "Example.com", "a_b.local", "127.0.0.1", "[::1]", &"a".repeat(253)] {
            assert_eq!((ROUTE_HOST.parse)(good), Some(Some(good.to_lowercase())));
        }
        for (text, host) in [("A.example.", "a.example"), ("[0:0::0001]", "[::1]")] {
            assert_eq!((ROUTE_HOST.parse)(text), Some(Some(host.to_owned())));
        }
        for bad in [
            "",
            ".",
            "[::1].",
            "a:80",
            "::1",
            "[::1",
            "[x]",
            "a b",
            "a/b",
            "*.a",
            "ä",
            &"a".repeat(254),
        ] {
            assert_eq!((ROUTE_HOST.parse)(bad), None, "{bad}");
        }
    }

    #[test]
    fn host_fields_may_have_a_port() {
        for good in ["a", "Example.com", "a:80", "127.0.0.1:65535", "[::1]", "[::1]:80"] {
            assert!(is_host_with_port(good), "{good}");
        }
        for bad in ["", ":80", "a:", "a:0", "a:65536", "a:+1", "a:b", "::1", "[::1", "u@a", "a b"] {
            assert!(!is_host_with_port(bad), "{bad}");
        }
    }

    #[test]
    fn statuses_are_single_ones_or_ranges() {
        for (text, range) in [
            ("200", 200..=200),
            ("599", 599..=599),
            ("200-299", 200..=299),
            ("301-301", 301..=301),
            ("200-599", 200..=599),
        ] {
            assert_eq!(statuses(text), Some(range), "{text}");
        }
        for bad in
            ["", "2xx", "199", "600", "299-200", "200-", "-299", "200-250-299", "+200", "200 - 299"]
        {
            assert_eq!(statuses(bad), None, "{bad}");
        }
    }

    #[test]
    fn heartbeats_keep_the_headers_of_their_connection() {
        for good in ["Authorization", "x-forwarded-proto", "User-Agent", "accept"] {
            assert!((PROBE_HEADER.parse)(good).is_some(), "{good}");
        }
        let own = OF_CONNECTION;
        let own = own.iter().map(HeaderName::as_str);
        for bad in own.chain(["", "Host", "HOST", "Connection", "a b", "a:", "ä"]) {
            assert_eq!((PROBE_HEADER.parse)(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_written_as_in_a_request() {
        for good in ["/", "/heartbeat", "/a/b/", "/%20", "/a;b=c", "//"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["", "a", "*", "/a?b", "/a#b", "/a b", "/ä", "/\n", "http://a/"] {
            assert!(!is_path(bad), "{bad}");
        }
    }

    #[test]
    fn keys_come_from_where_they_say() {
        for (text, source) in [
            ("request_id", KeySource::RequestId),
            ("client_ip", KeySource::ClientIp),
            ("path", KeySource::Path),
            ("header:X-User", KeySource::Header(HeaderName::from_static("x-user"))),
            ("cookie:SID", KeySource::Cookie("SID".to_owned())),
            ("query:User", KeySource::Query("User".to_owned())),
        ] {
            assert_eq!((KEY.parse)(text), Some(source));
        }
        for bad in
            ["", "ip", "header", "header:", "header:a b", "cookie:a=b", "query:a&b", "path:a", ":a"]
        {
            assert_eq!((KEY.parse)(bad), None, "{bad}");
        }
    }
}
