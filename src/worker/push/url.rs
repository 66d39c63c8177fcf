//! Where a target is.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Scheme;
use percent_encoding::percent_decode_str;

use crate::error::{Error, ErrorKind, Result};

/// An absolute http or https URL. User and password in it become an `Authorization` header, and
/// are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    /// Without user and password.
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl TargetUrl {
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    pub(super) fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }
}

impl FromStr for TargetUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::new(
                ErrorKind::Configuration,
                format!(
                    "this is not where to push to: {reason}; write it like \
                     http://127.0.0.1:3000/jobs"
                ),
            )
        };
        // A fragment is for the reader of an answer, and never sent.
        let text = text.split('#').next().unwrap_or_default();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong("http:// or https:// is missing"));
        };
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(wrong("only http and https can be pushed to"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let uri: Uri = format!("{scheme}://{host}{slash}{path}")
            .parse()
            .map_err(|reason| wrong(&format!("{reason}")))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("there is no host in it"));
        }
        let has_port = !host.trim_end_matches(']').ends_with(':') && uri.port_u16() != Some(0);
        let port_is_number = host
            .rsplit_once(':')
            .is_none_or(|(_, port)| port.ends_with(']') || uri.port_u16().is_some());
        if !has_port || !port_is_number {
            return Err(wrong("the port is not a number from 1 to 65535"));
        }
        let authorization = user.map(basic).transpose().map_err(|()| wrong("bad user"))?;
        Ok(TargetUrl { uri, authorization })
    }
}

/// `Authorization: Basic` of what stands before the `@` of a URL.
fn basic(user: &str) -> Result<HeaderValue, ()> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut pair: Vec<u8> = percent_decode_str(name).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let value = format!("Basic {}", STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&value).map_err(drop)?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(formatter)
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_become_a_header_and_are_not_shown() {
        let url: TargetUrl = "http://me:p%40ss@host:81/a?b=c#d".parse().unwrap();
        assert_eq!(url.to_string(), "http://host:81/a?b=c");
        assert_eq!(format!("{url:?}"), "http://host:81/a?b=c");
        assert_eq!(url.authorization().unwrap(), "Basic bWU6cEBzcw==");
        assert!(format!("{:?}", url.authorization().unwrap()).contains("Sensitive"));
        let url: TargetUrl = "HTTPS://[::1]".parse().unwrap();
        assert!(url.is_https());
        assert_eq!(url.to_string(), "https://[::1]/");
        assert_eq!("http://host?a".parse::<TargetUrl>().unwrap().to_string(), "http://host/?a");
    }

    #[test]
    fn what_is_no_target_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "http:// or https:// is missing"),
            ("localhost:3000/jobs", "http:// or https:// is missing"),
            ("ftp://host/", "only http and https"),
            ("http://", "http"),
            ("http:///jobs", "http"),
            ("http://me@/jobs", "http"),
            ("http://host:port/", ""),
            ("http://host:/", "port"),
            ("http://host:99999/", "port"),
            ("http://ho st/", ""),
        ] {
            let error = text.parse::<TargetUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }
}
