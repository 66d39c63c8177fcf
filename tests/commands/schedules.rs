//! `pulk schedules`.

use reqwest::Method;

use crate::{node_with, words};

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_listed_run_paused_and_removed() {
    let (node, client) = node_with(&[]).await;
    assert_eq!(client.printed(&["schedules", "list"]), "There are no schedules.\n");
    let schedule = r#"{"cron":"0 0 1 1 *","time_zone":"Asia/Tokyo","job":{"kind":"k"}}"#;
    let put = node.http.call(Method::PUT, "/v1/schedules/a%2Fb", schedule).await.unwrap();
    assert_eq!(put.status, 201, "{put:?}");
    let listed = client.printed(&["schedules", "list"]);
    let table = words(&listed);
    assert_eq!(table[0][..2], ["SCHEDULE", "CRON"]);
    assert_eq!(table[1][0], "a/b");
    assert!(listed.contains("-01-01T00:00:00+09:00"), "{listed}");
    let id = client.printed(&["schedules", "run", "a/b"]);
    let job = node.http.get(&format!("/v1/jobs/{}", id.trim())).await.json();
    assert_eq!(job["headers"]["pulk-schedule"], "a/b");
    assert_eq!(client.printed(&["schedules", "pause", "a/b"]), "a/b is paused\n");
    assert!(client.printed(&["schedules", "list"]).contains("paused"));
    let resumed = client.json(&["schedules", "resume", "a/b", "--json"]);
    assert_eq!(resumed["next_runs"].as_array().unwrap().len(), 10);
    assert_eq!(client.json(&["schedules", "list", "--json"])["name"], "a/b");
    assert_eq!(client.printed(&["schedules", "remove", "a/b"]), "a/b is removed\n");
    client.refused(&["schedules", "run", "a/b"], 1, "a/b");
    node.stop().await;
}
