//! What becomes of a job by the answer of its target.

use serde_json::{Value, json};

use crate::node::Node;
use crate::target::Target;
use crate::{enqueue, job_in, metric, pushing};

struct Scene {
    node: Node,
    target: Target,
}

impl Scene {
    async fn new(arguments: &[&str]) -> Scene {
        let target = Target::start();
        let node = pushing(&target.url(), arguments).await;
        Scene { node, target }
    }

    /// The job after this answer, once it is in the state.
    async fn answered(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: &str,
        state: &str,
    ) -> Value {
        let id = enqueue(&self.node.http, json!({"kind": "k"})).await;
        let delivery = self.target.next().await;
        assert_eq!(delivery.id(), id);
        delivery.answer_with(status, headers, body);
        job_in(&self.node.http, &id, state).await
    }
}

#[tokio::test]
async fn a_success_is_an_ack_and_its_json_is_the_result() {
    let mut scene = Scene::new(&[]).await;
    let json = ("content-type", "application/json; charset=utf-8");
    let done = scene.answered(200, &[json], r#"{"pages": 3}"#, "done").await;
    assert_eq!(done["result"], json!({"pages": 3}));
    scene.answered(204, &[], "", "gone").await;
    scene.answered(202, &[("content-type", "text/plain")], "3", "gone").await;
    scene.answered(200, &[json], "no json", "gone").await;
    scene.answered(200, &[json], &format!("\"{}\"", "x".repeat(17_000)), "gone").await;
    scene.answered(200, &[json], &"x".repeat(1 << 20), "gone").await;
    let acked = r#"pulk_push_requests_total{outcome="acked",target="default"}"#;
    assert_eq!(metric(&scene.node.http, acked).await, 6.0);
    let count = r#"pulk_push_duration_seconds_count{target="default"}"#;
    assert_eq!(metric(&scene.node.http, count).await, 6.0);
}

#[tokio::test]
async fn a_failure_is_tried_again_by_the_policy_and_a_refusal_is_not() {
    let mut scene = Scene::new(&["--retry-base-ms=3600000", "--push-breaker-failures=0"]).await;
    for status in [500, 502, 503, 504, 408, 429] {
        let job = scene.answered(status, &[], "no luck", "retrying").await;
        let error = job["errors"][0]["error"].as_str().unwrap();
        assert!(error.contains(&status.to_string()) && error.contains("no luck"), "{error}");
    }
    for (status, said) in [(400, "400"), (404, "404"), (422, "422"), (302, "no redirects")] {
        let job = scene.answered(status, &[("location", "/other")], "", "dead").await;
        assert_eq!(job["reason"], "rejected");
        let error = job["errors"][0]["error"].as_str().unwrap();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_target_that_asks_for_time_gets_it_and_the_job_loses_nothing() {
    let mut scene = Scene::new(&[]).await;
    for status in [429, 503] {
        for after in ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"] {
            let job = scene.answered(status, &[("retry-after", after)], "", "scheduled").await;
            assert_eq!((&job["errors"], &job["interruptions"]), (&json!([]), &json!(0)), "{job}");
        }
    }
    // Put off for the shortest time, it is here again, in its first attempt.
    let id = enqueue(&scene.node.http, json!({"kind": "k", "max_attempts": 1})).await;
    scene.target.next().await.answer_with(429, &[("retry-after", "0")], "");
    let again = scene.target.next().await;
    assert_eq!((again.id(), again.header("ce-attempt")), (id.as_str(), "1"));
    again.answer(200);
    job_in(&scene.node.http, &id, "gone").await;
}

#[tokio::test]
async fn no_answer_is_a_failure() {
    let arguments = ["--retry-base-ms=3600000", "--push-timeout-ms=300"];
    let mut scene = Scene::new(&arguments).await;
    let id = enqueue(&scene.node.http, json!({"kind": "k"})).await;
    drop(scene.target.next().await);
    let job = job_in(&scene.node.http, &id, "retrying").await;
    assert!(job["errors"][0]["error"].as_str().unwrap().contains("broke"), "{job}");
    // The target's limit, and a job's own below it.
    for timeout in [json!(null), json!(50)] {
        let mut job = json!({"kind": "k"});
        if !timeout.is_null() {
            job["timeout_ms"] = timeout;
        }
        let id = enqueue(&scene.node.http, job).await;
        scene.target.next().await.given_up().await;
        let job = job_in(&scene.node.http, &id, "retrying").await;
        assert!(job["errors"][0]["error"].as_str().unwrap().contains("timed out"), "{job}");
    }
}

#[tokio::test]
async fn what_statuses_mean_can_be_chosen() {
    let arguments = [
        "--retry-base-ms=3600000",
        "--push-wait-statuses=",
        "--push-retry-statuses=404,5xx",
        "--push-reject-statuses=4xx,501",
    ];
    let mut scene = Scene::new(&arguments).await;
    scene.answered(404, &[], "", "retrying").await;
    scene.answered(503, &[("retry-after", "9")], "", "retrying").await;
    scene.answered(501, &[], "", "dead").await;
    scene.answered(429, &[("retry-after", "9")], "", "dead").await;
}
