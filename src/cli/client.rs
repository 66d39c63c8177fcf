//! Talks to a running node: one call, its answer, and every failure as a sentence.

mod address;
mod pages;
mod problem;

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use ureq::http::Method;

pub(super) use self::address::{Address, address, path, query};
pub(super) use self::pages::pages;
pub(super) use self::problem::{Failure, Refusal, Reply};
use super::failed;
use crate::error::Result;

/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer may take to a call that is about any number of jobs.
const BULK_ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);
/// The longest answer that is read: a page is far below it.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The node to speak to.
#[derive(Clone, Debug, Args)]
pub(super) struct NodeArguments {
    /// The node's address.
    #[arg(
        long,
        global = true,
        env = "PULK_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        value_parser = address
    )]
    url: Address,
}

/// A node that can be called.
pub(super) struct Node {
    address: Address,
    agent: ureq::Agent,
}

/// What a node said to a call that it did.
pub(super) struct Answer {
    body: Vec<u8>,
}

impl NodeArguments {
    pub(super) fn node(&self) -> Node {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Node { address: self.url.clone(), agent: agent.into() }
    }
}

impl Node {
    /// The node as a person would write it, without the user's secret.
    pub(super) fn name(&self) -> String {
        self.address.shown()
    }

    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, &[], ANSWER_TIMEOUT)
    }

    pub(super) fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        self.call(Method::POST, path, Some(body), &[], ANSWER_TIMEOUT)
    }

    pub(super) fn post_with(
        &self,
        path: &str,
        body: Vec<u8>,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, Failure> {
        self.call(Method::POST, path, Some(body), header.as_slice(), ANSWER_TIMEOUT)
    }

    pub(super) fn patch(&self, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        self.call(Method::PATCH, path, Some(body), &[], ANSWER_TIMEOUT)
    }

    pub(super) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::DELETE, path, None, &[], ANSWER_TIMEOUT)
    }

    /// A call about so many jobs that the answer may take long.
    pub(super) fn delete_many(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::DELETE, path, None, &[], BULK_ANSWER_TIMEOUT)
    }

    /// As [`Node::delete_many`], with a body.
    pub(super) fn post_many(&self, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        self.call(Method::POST, path, Some(body), &[], BULK_ANSWER_TIMEOUT)
    }

    /// The status of a probe, whatever it is.
    pub(super) fn probe(&self, path: &str, patience: Duration) -> Result<u16, Failure> {
        self.send(&Method::GET, path, None, &[], patience).map(|answer| answer.status)
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let answer = self.send(&method, path, body, headers, patience)?;
        match answer.status {
            200..=299 => Ok(Answer { body: answer.body }),
            _ => Err(Failure::Refused(Refusal::read(&self.name(), &answer))),
        }
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Reply, Failure> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address.base()))
            .header("accept", "application/json");
        if let Some(authorization) = self.address.authorization() {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let is_read = method == Method::GET;
        let lost = |reason: ureq::Error| Failure::of(&self.name(), is_read, &reason);
        let sent = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body);
                let request = request.map_err(|reason| lost(reason.into()))?;
                self.agent.run(self.with_patience(request, patience))
            }
            None => {
                let request = request.body(()).map_err(|reason| lost(reason.into()))?;
                self.agent.run(self.with_patience(request, patience))
            }
        };
        let mut response = sent.map_err(lost)?;
        let retry_after = response.headers().get("retry-after");
        let retry_after_s = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|reason| Failure::broken_off(&self.name(), is_read, &reason))?;
        Ok(Reply { status, retry_after_s, body })
    }

    fn with_patience<B: ureq::AsSendBody>(
        &self,
        request: ureq::http::Request<B>,
        patience: Duration,
    ) -> ureq::http::Request<B> {
        self.agent.configure_request(request).timeout_global(Some(patience)).build()
    }
}

impl Answer {
    /// The body as the node wrote it, with a line's end.
    pub(super) fn text(&self) -> String {
        format!("{}\n", String::from_utf8_lossy(&self.body).trim_end())
    }

    /// The body read as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|reason| {
            failed(format!("the answer is not what a pulk node says ({reason}); is it one?"))
        })
    }
}
