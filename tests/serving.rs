//! A node that says it serves does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod node;

use node::Node;
use tokio::task::JoinSet;

/// Several at once, so that a node is held up now and then between saying and doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_node_that_says_it_serves_takes_calls() {
    let mut starting = JoinSet::new();
    for _ in 0..3 {
        starting.spawn(async {
            for _ in 0..20 {
                let node = Node::start_with(["--store", "memory"]).await;
                let answer = node.http.post("/v1/jobs", r#"{"kind":"mail"}"#).await;
                assert_eq!(answer.status, 201, "{answer:?}");
                node.stop().await;
            }
        });
    }
    starting.join_all().await;
}
