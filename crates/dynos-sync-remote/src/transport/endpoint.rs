//! The one place that a client talks to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::Url;

use crate::error::BuildError;

/// What `localhost` is (the port is taken from the URL).
pub(crate) const LOCALHOST: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
];

/// A server's base URL that a token may be sent to.
pub(crate) struct Endpoint {
    base: Url,
    loopback: bool,
}

impl Endpoint {
    /// Checks a base URL. Plain HTTP to another machine needs `allow_plain_http`.
    pub(crate) fn parse(url: &str, allow_plain_http: bool) -> Result<Self, BuildError> {
        let fault = |problem: &str| Err(BuildError::Url { problem: problem.to_owned() });
        let base = match Url::parse(url) {
            Ok(base) => base,
            Err(error) => return fault(&format!("cannot be parsed: {error}")),
        };
        if !matches!(base.scheme(), "http" | "https") {
            return fault("must begin with https:// (or http:// for this machine)");
        }
        if !base.username().is_empty() || base.password().is_some() {
            return fault("holds a user name or a password: remove them, the token is what signs in");
        }
        if base.query().is_some() || base.fragment().is_some() {
            return fault("has a query or a fragment: remove it, only a base path is allowed");
        }
        let host = base.host_str().unwrap_or_default().to_owned();
        let loopback = is_loopback(&host);
        if base.scheme() == "http" && !loopback && !allow_plain_http {
            return Err(BuildError::PlainHttp { host });
        }
        Ok(Self { base, loopback })
    }

    /// The URL of a path, which begins with `/`, below the base, with a query whose values are encoded here.
    pub(crate) fn at(&self, path: &str, query: &[(String, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// The host, with the port where that is not the scheme's own.
    pub(crate) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether the host is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.base.fmt(f)
    }
}

/// `host` as the URL parser normalised it: in lower case, addresses in their usual form, IPv6 in brackets.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for url in [
            "http://localhost:1",
            "http://LOCALHOST",
            "http://127.0.0.1",
            "http://127.9.9.9/x",
            "http://[::1]:8",
        ] {
            assert!(Endpoint::parse(url, false).is_ok_and(|endpoint| endpoint.is_loopback()), "{url}");
        }
        for url in [
            "http://example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://[::ffff:127.0.0.1]",
            "http://0.0.0.0",
            "http://128.0.0.1",
        ] {
            let refused = Endpoint::parse(url, false).err();
            assert!(matches!(refused, Some(BuildError::PlainHttp { .. })), "{url}: {refused:?}");
            assert!(Endpoint::parse(url, true).is_ok(), "{url}");
        }
        assert!(Endpoint::parse("https://example.com", false).is_ok_and(|e| e.is_tls() && !e.is_loopback()));
    }

    #[test]
    fn urls_that_are_no_base_are_refused_without_being_shown() {
        for url in [
            "",
            "example.com",
            "ftp://h",
            "https://u:canary@h",
            "https://h?canary",
            "https://h/#canary",
            "https://",
        ] {
            let refused = Endpoint::parse(url, true).err().unwrap();
            assert!(matches!(refused, BuildError::Url { .. }), "{url}");
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }

    #[test]
    fn paths_are_put_below_the_base() {
        for (base, at) in [
            ("https://h", "https://h/v1/push"),
            ("https://h/", "https://h/v1/push"),
            ("https://h/sync", "https://h/sync/v1/push"),
            ("https://h:8443/a%20b/", "https://h:8443/a%20b/v1/push"),
        ] {
            assert_eq!(Endpoint::parse(base, false).unwrap().at("/v1/push", &[]).as_str(), at);
        }
    }

    #[test]
    fn queries_are_encoded() {
        let query = [
            ("at".to_owned(), "gt.2026-01-01T00:00:00+00:00".to_owned()),
            ("a&b".to_owned(), "ü=%".to_owned()),
        ];
        let url = Endpoint::parse("https://h/x", false).unwrap().at("/v1", &query);
        assert_eq!(url.as_str(), "https://h/x/v1?at=gt.2026-01-01T00%3A00%3A00%2B00%3A00&a%26b=%C3%BC%3D%25");
    }
}
