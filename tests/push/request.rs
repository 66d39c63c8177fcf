//! What a target gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::node::{Node, serve};
use crate::target::{Delivery, Target};
use crate::{enqueue, job_in, pushing};

/// As a target would look at it, with the secret's own bytes.
fn is_signed(delivery: &Delivery, secret: &[u8]) -> bool {
    let (id, time) = (delivery.header("webhook-id"), delivery.header("webhook-timestamp"));
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(&delivery.body);
    let signature = delivery.header("webhook-signature").strip_prefix("v1,").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::verify(&key, &signed, &STANDARD.decode(signature).unwrap()).is_ok()
}

#[tokio::test]
async fn a_job_arrives_as_a_cloud_event() {
    let mut target = Target::start();
    let url = target.url().replace("http://", "http://me:pass%21@");
    let node = pushing(&url, &["--push-secret=whsec_c2VjcmV0"]).await;
    let payload = json!({"to": "ann@example.org"});
    let job = json!({
        "kind": "mail.welcome", "queue": "mails", "payload": payload, "priority": "high",
        "timeout_ms": 60_000, "max_attempts": 7,
        "headers": {"traceparent": "00-0af7-b7ad-01", "Tenant": "Zoë & Co 100%"},
    });
    let id = enqueue(&node.http, job).await;
    let delivery = target.next().await;
    assert_eq!((delivery.method.as_str(), delivery.path.as_str()), ("POST", "/jobs?a=b"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("authorization", "Basic bWU6cGFzcyE="),
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", "/pulk/queues/mails"),
        ("ce-type", "mail.welcome"),
        ("ce-queue", "mails"),
        ("ce-priority", "high"),
        ("ce-attempt", "1"),
        ("ce-maxattempts", "7"),
        ("traceparent", "00-0af7-b7ad-01"),
        ("pulk-header-tenant", "Zo%C3%AB%20&%20Co%20100%25"),
        ("webhook-id", &id),
    ] {
        assert_eq!(delivery.header(name), value, "{name}");
    }
    let found = node.http.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(delivery.header("ce-time"), found["enqueued_at"].as_str().unwrap());
    assert!(delivery.header("ce-deadline") > found["started_at"].as_str().unwrap());
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&delivery.body).unwrap(), payload);
    assert!(is_signed(&delivery, b"secret"));
    assert!(!is_signed(&delivery, b"Secret"));
    delivery.answer(204);
    job_in(&node.http, &id, "gone").await;

    let binary = json!({"kind": "k", "payload_base64": "AP8="});
    enqueue(&node.http, binary).await;
    let delivery = target.next().await;
    assert_eq!(delivery.header("content-type"), "application/octet-stream");
    assert_eq!(&delivery.body[..], [0, 255]);
    assert!(is_signed(&delivery, b"secret"));
}

#[tokio::test]
async fn connections_are_kept_and_only_so_many_used_at_a_time() {
    let mut target = Target::start();
    let node = pushing(&target.url(), &["--concurrency=64", "--push-concurrency=2"]).await;
    let jobs: Vec<_> = (0..40).map(|_| json!({"kind": "k"})).collect();
    node.http.post("/v1/jobs/batch", json!({"jobs": jobs}).to_string()).await;
    for _ in 0..20 {
        let (first, second) = (target.next().await, target.next().await);
        // While both wait there is no third.
        let check = crate::scheduler_where(&node.http, |data| data["targets"][0]["in_flight"] == 2);
        check.await;
        first.answer(200);
        second.answer(200);
    }
    assert_eq!(target.connections(), 2);
}

#[tokio::test]
async fn a_target_may_speak_https_with_a_certificate_that_is_trusted() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trusted.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut target = Target::start_tls(TlsAcceptor::from(std::sync::Arc::new(config)));
    let url = format!("https://localhost:{}/", target.address.port());

    let mut command = serve(["--store", "memory", "--push-url", &url]);
    command.env("SSL_CERT_FILE", &file);
    let node = Node::spawn(command).await;
    let id = enqueue(&node.http, json!({"kind": "k"})).await;
    target.next().await.answer(200);
    job_in(&node.http, &id, "gone").await;

    // Who trusts others does not push there.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&file, other.cert.pem()).unwrap();
    let mut command = serve(["--store", "memory", "--push-url", &url]);
    command.args(["--retry-base-ms=3600000"]).env("SSL_CERT_FILE", &file);
    let node = Node::spawn(command).await;
    let id = enqueue(&node.http, json!({"kind": "k"})).await;
    let job = job_in(&node.http, &id, "retrying").await;
    let error = job["errors"][0]["error"].as_str().unwrap();
    assert!(error.contains("can't be reached") && error.contains("certificate"), "{error}");
}
