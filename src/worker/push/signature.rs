//! Signatures after Standard Webhooks: a target that knows the secret can tell that a request is
//! from this node, unchanged and recent.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::hmac;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// A secret in this form is base64 behind it, as the libraries of Standard Webhooks have it.
const ENCODED: &str = "whsec_";

/// The header with the id that is signed: the job's.
pub(super) const WEBHOOK_ID: &str = "webhook-id";
/// The header with the moment of the request, in seconds since 1970.
pub(super) const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signature.
pub(super) const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// A secret shared with a target. It is never shown.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// The secret of this text: its bytes, or, behind `whsec_`, what it is base64 of.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) when it is empty or no base64; the text is not
    /// in the error.
    pub fn new(text: &str) -> Result<Secret> {
        let wrong = |sentence: &str| Error::new(ErrorKind::Configuration, sentence);
        let bytes = match text.strip_prefix(ENCODED) {
            None => text.as_bytes().to_vec(),
            Some(encoded) => {
                let encoded = encoded.trim_end_matches('=');
                let decoded = STANDARD_NO_PAD.decode(encoded);
                decoded.map_err(|_| wrong("the secret is not base64 behind whsec_"))?
            }
        };
        match bytes.is_empty() {
            true => Err(wrong("the secret is empty")),
            false => Ok(Secret(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
        }
    }

    /// The value of the signature's header.
    pub(super) fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> String {
        let mut signed = hmac::Context::with_key(&self.0);
        signed.update(format!("{id}.{}.", at.as_ms() / 1_000).as_bytes());
        signed.update(body);
        format!("v1,{}", STANDARD.encode(signed.sign()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_signed_as_it_says() {
        // From the reference implementation's own tests.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp::from_ms(1_614_265_330_999),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_taken_as_it_is_unless_it_says_that_it_is_base64() {
        let sign =
            |text: &str| Secret::new(text).unwrap().sign("id", Timestamp::from_ms(0), b"body");
        assert_eq!(sign("whsec_c2VjcmV0"), sign("secret"));
        assert_eq!(sign("whsec_AA=="), sign("whsec_AA"));
        assert_ne!(sign("secret"), sign("Secret"));
    }

    #[test]
    fn a_bad_secret_is_refused_and_none_is_shown() {
        for text in ["", "whsec_", "whsec_s3cr3t!"] {
            let error = Secret::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
        assert_eq!(format!("{:?}", Secret::new("s3cr3t").unwrap()), "Secret(***)");
    }
}
