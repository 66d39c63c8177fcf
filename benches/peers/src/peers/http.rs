//! pulk's HTTP server with a handler that only reads the body: what HTTP itself allows here.

use std::process::Command;
use std::sync::Arc;

use ::pulk::api::ApiState;
use ::pulk::clock::SystemClock;
use ::pulk::server::{ConnectionLimits, serve_router};
use ::pulk::{Config, Queue, StoreKind};
use anyhow::{Result, bail};
use async_trait::async_trait;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;

use crate::peer::{Client, Peer, Place};
use crate::peers::pulk::HttpClient;
use crate::process::Server;

pub(crate) struct EmptyHttp;

#[async_trait]
impl Peer for EmptyHttp {
    fn name(&self) -> &'static str {
        "HTTP itself"
    }

    fn version(&self) -> Result<String> {
        Ok("pulk's server, empty handler".into())
    }

    fn has_only_enqueues(&self) -> bool {
        true
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["empty-server", &place.address()]);
        Server::start(command, &place.dir)
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        HttpClient::open(place).await?.get("/ready").await.map(|_| ())
    }

    async fn connect(&self, place: &Place, _: usize) -> Result<Box<dyn Client>> {
        Ok(Box::new(HttpClient::open(place).await?))
    }

    async fn waiting(&self, _: &Place) -> Result<u64> {
        bail!("it keeps nothing")
    }
}

/// Serves until it is killed: every layer of pulk, no queue behind it.
pub(crate) fn serve(address: &str) -> Result<()> {
    async fn read(body: Bytes) -> (StatusCode, [(&'static str, &'static str); 1], Bytes) {
        assert!(!body.is_empty());
        let reply = br#"{"id":"01M839HZ1R0000005000000001","state":"ready","queue":"bench",
"priority":"default","run_at":"2026-11-23T04:10:19.064Z"}"#;
        (StatusCode::CREATED, [("content-type", "application/json")], Bytes::from_static(reply))
    }
    ::pulk::server::runtime()?.block_on(async {
        let config = Config { store: StoreKind::Memory, ..Config::default() };
        let state = ApiState::starting(config.clone(), Arc::new(SystemClock));
        state.opened(Queue::open(config).await?);
        let routes = axum::Router::new()
            .route("/ready", get(|| async { "ready" }))
            .route("/v1/jobs", post(read))
            .route("/v1/jobs/batch", post(read));
        let listener = tokio::net::TcpListener::bind(address).await?;
        let (routes, limits) = (::pulk::api::layered(routes, state), ConnectionLimits::default());
        serve_router(listener, routes, limits, std::future::pending()).await;
        Ok(())
    })
}
