//! Where a node is, and what a URL to it is made of.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ureq::http::Uri;

use super::super::mask;

/// What stands for itself in a part of a path and in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The address of a node.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Address {
    scheme_and_rest: String,
    user: Option<String>,
}

/// Reads an address like `http://127.0.0.1:8080`, with a user and password for a proxy if need be.
pub(in crate::cli) fn address(text: &str) -> Result<Address, String> {
    let wrong = || "write it like http://127.0.0.1:8080".to_owned();
    if text.starts_with("https://") {
        return Err("a node speaks http; for https, go through a proxy on this machine".to_owned());
    }
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?.as_str();
    if uri.scheme_str() != Some("http") || uri.query().is_some() {
        return Err(wrong());
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, authority),
    };
    if host.is_empty() || host.starts_with(':') {
        return Err(wrong());
    }
    let path = uri.path().trim_end_matches('/');
    Ok(Address { scheme_and_rest: format!("http://{host}{path}"), user })
}

impl Address {
    pub(in crate::cli) fn base(&self) -> &str {
        &self.scheme_and_rest
    }

    pub(in crate::cli) fn shown(&self) -> String {
        match &self.user {
            Some(user) => mask::url(&self.scheme_and_rest.replacen("//", &format!("//{user}@"), 1)),
            None => self.scheme_and_rest.clone(),
        }
    }

    /// The header for the user and password, if the address has them.
    pub(in crate::cli) fn authorization(&self) -> Option<String> {
        let user: Vec<u8> = percent_decode_str(self.user.as_deref()?).collect();
        Some(format!("Basic {}", BASE64_STANDARD.encode(user)))
    }
}

/// A path from its parts, each escaped: a queue's name may have a `/` in it.
pub(in crate::cli) fn path(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| utf8_percent_encode(part, ESCAPED).to_string());
    parts.fold(String::new(), |path, part| path + "/" + &part)
}

/// The path with those of the values that there are.
pub(in crate::cli) fn query(path: &str, values: &[(&str, Option<String>)]) -> String {
    let given = values.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let pairs: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED)))
        .collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_without_its_secret() {
        let plain = address("http://127.0.0.1:8080/").unwrap();
        assert_eq!((plain.base(), plain.authorization()), ("http://127.0.0.1:8080", None));
        let secret = address("http://me:p%40ss@host/queue/").unwrap();
        assert_eq!(secret.base(), "http://host/queue");
        assert_eq!(secret.shown(), "http://***@host/queue");
        assert_eq!(secret.authorization().unwrap(), "Basic bWU6cEBzcw==");
        for wrong in
            ["127.0.0.1:8080", "ftp://host", "http://", "http://:80", "http://a?b", "", "https://a"]
        {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_in_a_path_or_a_query_is_escaped() {
        assert_eq!(path(&["v1", "queues", "a/b:c"]), "/v1/queues/a%2Fb%3Ac");
        let values =
            [("queue", Some("a&b".to_owned())), ("kind", None), ("error", Some("é".into()))];
        assert_eq!(query("/v1/dead", &values), "/v1/dead?queue=a%26b&error=%C3%A9");
        assert_eq!(query("/v1/dead", &[("kind", None)]), "/v1/dead");
    }
}
