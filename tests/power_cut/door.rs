//! Ways into a node on an image: the router in this process, or the real program.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use pulk::api::{ApiState, router};
use pulk::clock::SystemClock;
use pulk::{Config, Queue};
use reqwest::Method;
use serde_json::Value;
use tower::ServiceExt;

use crate::node::{Node, serve};

pub enum Door {
    Router { router: Router, queue: Queue },
    Program(Box<Node>),
}

impl Door {
    /// Opens the queue of a directory in this process.
    pub async fn router(data_dir: &Path) -> Door {
        let config =
            Config { data_dir: data_dir.to_owned(), disk_reserve_bytes: 0, ..Config::default() };
        let queue = Queue::open(config.clone()).await.unwrap();
        let state = ApiState::starting(config, Arc::new(SystemClock));
        state.opened(queue.clone());
        Door::Router { router: router(state), queue }
    }

    /// Starts the program on a directory.
    pub async fn program(data_dir: &Path) -> Door {
        let arguments = ["--disk-reserve-bytes", "0", "--data-dir", data_dir.to_str().unwrap()];
        Door::Program(Box::new(Node::spawn(serve(arguments)).await))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, Value::Null, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, body, None).await
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Value,
        idempotency: Option<&str>,
    ) -> (u16, Value) {
        let (status, bytes) = match self {
            Door::Router { router, .. } => {
                let mut request = Request::builder().method(method).uri(path);
                request = request.header("content-type", "application/json");
                if let Some(key) = idempotency {
                    request = request.header("idempotency-key", key);
                }
                let request = request.body(Body::from(body.to_string())).unwrap();
                let answer = router.clone().oneshot(request).await.unwrap();
                let status = answer.status().as_u16();
                (status, to_bytes(answer.into_body(), usize::MAX).await.unwrap())
            }
            Door::Program(node) => {
                let body = body.to_string();
                let answer = match idempotency {
                    Some(key) => {
                        node.http.post_with(path, ("idempotency-key", key), body.into()).await
                    }
                    None => node.http.call(method, path, body).await.unwrap(),
                };
                (answer.status, answer.body)
            }
        };
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Closes it in an orderly way.
    pub async fn close(self) {
        match self {
            Door::Router { queue, .. } => queue.close().await.unwrap(),
            Door::Program(node) => {
                let (status, log) = node.stop().await;
                assert_eq!(status.code(), Some(0), "{log}");
                assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
            }
        }
    }
}
