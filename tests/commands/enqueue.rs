//! `pulk enqueue` of one job.

use crate::node_with;
use crate::program::refused;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_enqueued_as_asked() {
    let (node, client) = node_with(&[]).await;
    let id = client.printed(&[
        "enqueue",
        "mail.welcome",
        "--queue=mails/new",
        "--priority=HIGH",
        "--payload={\"n\": 1.50}",
        "--header=trace=a=b",
        "--header=who=me",
        "--delay-ms=60000",
        "--max-attempts=7",
        "--timeout-ms=5000",
    ]);
    let answer = node.http.get(&format!("/v1/jobs/{}", id.trim())).await;
    assert!(answer.text().contains(r#""payload":{"n": 1.50}"#), "{}", answer.text());
    let job = answer.json();
    assert_eq!((&job["kind"], &job["queue"]), (&"mail.welcome".into(), &"mails/new".into()));
    assert_eq!((&job["priority"], &job["state"]), (&"high".into(), &"scheduled".into()));
    assert_eq!(job["headers"], serde_json::json!({"trace": "a=b", "who": "me"}));
    assert_eq!((&job["max_attempts"], &job["timeout_ms"]), (&7.into(), &5_000.into()));
    let at = "2099-01-01T00:00:00.000Z";
    let later = client.json(&["enqueue", "later", "--run-at", at, "--json"]);
    assert_eq!(later["run_at"], at);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_comes_from_a_file_or_from_stdin() {
    let (node, client) = node_with(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("payload");
    std::fs::write(&file, b"\xff\x00\n").unwrap();
    let file = file.to_str().unwrap();
    let id = client.printed(&["enqueue", "k", "--binary", "--payload-file", file]);
    let job = node.http.get(&format!("/v1/jobs/{}", id.trim())).await.json();
    assert_eq!(job["payload_base64"], "/wAK");
    client.refused(&["enqueue", "k", "--payload-file", file], 64, "--binary");
    let piped = client.run_reading(&["enqueue", "k", "--payload-file=-"], "[1,\n2]");
    let job = node.http.get(&format!("/v1/jobs/{}", piped.stdout.trim())).await;
    assert!(job.text().contains("\"payload\":[1,\n2]"), "{}", job.text());
    let long = "1".repeat((1 << 20) + 1);
    let ended = client.run_reading(&["enqueue", "k", "--payload-file=-"], &long);
    assert_eq!(ended.code, 64);
    assert!(ended.stderr.contains("over 1048576 bytes"), "{ended:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_once() {
    let (node, client) = node_with(&[]).await;
    let first = client.json(&["enqueue", "k", "--idempotency-key=a", "--json"]);
    assert_eq!(client.json(&["enqueue", "k", "--idempotency-key=a", "--json"]), first);
    let holder = client.printed(&["enqueue", "k", "--unique-key=u"]);
    client.refused(&["enqueue", "k", "--unique-key=u"], 1, "u");
    let same = client.printed(&["enqueue", "k", "--unique-key=u", "--on-conflict=return"]);
    assert_eq!(same, holder);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_refuses_is_told_in_its_words() {
    let (node, client) = node_with(&["--max-queues=1"]).await;
    client.refused(&["enqueue", "no name"], 64, "kind: \"no name\" has ' ' in it");
    client.printed(&["enqueue", "k"]);
    client.refused(&["enqueue", "k", "--queue=second"], 1, "second");
    client.refused(&["enqueue", "k", "--payload={"], 64, "--payload: this is no JSON");
    client.refused(&["enqueue", "k", "--header=x"], 64, "name=value");
    client.refused(&["enqueue", "k", "--file=x"], 64, "--file");
    client.refused(&["enqueue"], 64, "KIND");
    node.stop().await;
}

#[test]
fn a_node_that_is_not_there_is_named_without_its_secret() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://me:secret@{free}");
    refused(
        &["enqueue", "k", "--url", &url],
        &[],
        1,
        &format!("http://***@{free} can't be reached"),
    );
    refused(&["stats"], &[("PULK_URL", "https://host")], 64, "PULK_URL: a node speaks http");
    refused(&["stats", "--url=host:80"], &[("PULK_URL", "http://x")], 64, "--url");
    let help = crate::program::pulk(&["stats", "--help"], &[("PULK_URL", &url)]);
    assert!(!help.stdout.contains("secret"), "{help:?}");
}
