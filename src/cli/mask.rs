//! What is not shown: secrets, and the user and password in a URL.

/// Stands where a secret is.
pub(super) const SECRET: &str = "***";

/// The text with the user and password of a URL in it masked.
pub(super) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{SECRET}@{host}{path}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_and_password_are_masked() {
        for (text, shown) in [
            ("http://me:pw@host:80/a@b", "http://***@host:80/a@b"),
            ("http://me@x@host?q", "http://***@host?q"),
            ("http://host/a@b", "http://host/a@b"),
            ("no url@all", "no url@all"),
        ] {
            assert_eq!(url(text), shown);
        }
    }
}
