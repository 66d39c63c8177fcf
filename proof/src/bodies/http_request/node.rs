//! A node without threads and sockets: the real router behind a real hyper connection, a queue
//! that is stepped by hand, on memory.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pulk::api::{self, ApiState};
use pulk::clock::{Clock, ManualClock, Timestamp};
use pulk::config::StoreKind;
use pulk::handle::{Stepped, Stepper};
use pulk::priority::PerPriority;
use pulk::queue::examine;
use pulk::store::memory::MemoryStore;
use pulk::{Config, Queue};
use tokio::io::duplex;
use tower_service::Service;

use super::answer::{Asked, check};
use super::client::Client;
use super::words::{Words, request};

/// How often the clock goes on to what is due next, for one connection.
const WAITS_MAX: u32 = 30;
/// How often a connection is looked at before it counts as hung.
const ROUNDS_MAX: u32 = 20_000;
const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct Node {
    router: Router,
    api: ApiState,
    queue: Queue,
    stepper: Stepper,
    store: MemoryStore,
    clock: ManualClock,
    heard: Rc<Heard>,
    /// Some answers have a time limit, which wants to know of a runtime.
    runtime: tokio::runtime::Runtime,
}

/// What the answers of a session came to.
#[derive(Default)]
struct Heard {
    words: RefCell<Words>,
    begun: Cell<u64>,
    under_way: Cell<u32>,
    draining: Cell<bool>,
    last_status: Cell<u16>,
}

impl Node {
    pub(super) fn new() -> Node {
        let config = Config {
            store: StoreKind::Memory,
            // So low that a session meets them.
            queue_capacity: PerPriority::from_fn(|_| 20),
            max_queues: 5,
            result_ttl_ms: 60_000,
            dead_max_per_queue: 20,
            ..Config::default()
        };
        let clock = ManualClock::new(Timestamp::from_ms(1_700_000_000_000));
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let store = MemoryStore::new();
        let opened =
            Queue::open_stepped(config.clone(), Arc::new(store.clone()), shared.clone(), 7);
        let (queue, stepper) = opened.unwrap();
        let api = ApiState::starting(config, shared);
        api.opened(queue.clone());
        let router = api::router(api.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let heard = Rc::new(Heard::default());
        Node { router, api, queue, stepper, store, clock, heard, runtime }
    }

    pub(super) fn words(&self) -> Words {
        self.heard.words.borrow().clone()
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.clock.advance_ms(ms.min(100 * 366 * 24 * 3_600_000));
        self.step();
    }

    pub(super) fn drain(&mut self) {
        self.api.draining();
        self.heard.draining.set(true);
        let queue = self.queue.clone();
        let mut drained = pin!(queue.drain());
        let mut context = Context::from_waker(Waker::noop());
        while drained.as_mut().poll(&mut context).is_pending() {
            self.step();
        }
    }

    fn step(&mut self) {
        assert_eq!(self.stepper.step(), Stepped::Done);
    }

    /// Sends the bytes over a connection of their own, and waits for all answers, or goes away.
    pub(super) fn converse(&mut self, bytes: &[u8], waits: bool) {
        let handle = self.runtime.handle().clone();
        let _entered = handle.enter();
        let (client, server) = duplex(BUFFER_BYTES);
        let (router, heard) = (self.router.clone(), self.heard.clone());
        let service = service_fn(|request| answer(router.clone(), heard.clone(), request));
        let mut http = http1::Builder::new();
        http.header_read_timeout(None).max_header_size(BUFFER_BYTES).max_buf_size(BUFFER_BYTES);
        let mut served = pin!(http.serve_connection(TokioIo::new(server), service));
        let mut client = Client::new(client, bytes);
        let (mut waits_left, mut last) = (if waits { WAITS_MAX } else { 0 }, None);
        for _ in 0..ROUNDS_MAX {
            let mut context = Context::from_waker(Waker::noop());
            let moved = client.go_on(&mut context);
            if served.as_mut().poll(&mut context).is_ready() {
                return;
            }
            let now = (heard.begun.get(), heard.under_way.get());
            if moved || last.replace(now) != Some(now) {
                continue;
            }
            // Nothing goes on by itself: a group, then time, then the client gives up.
            last = None;
            self.step();
            let is_patient = heard.under_way.get() > 0 && waits_left > 0;
            if !is_patient {
                client.end(&mut context);
            }
            // A client that has gone is not always noticed before its answer is due.
            if is_patient || client.has_ended {
                waits_left = waits_left.saturating_sub(1);
                let due = self.stepper.next_due().unwrap_or_default();
                self.clock.set(due.max(self.clock.now()));
            }
        }
        panic!("the connection hangs: {:?}", String::from_utf8_lossy(bytes));
    }

    /// The node works, and its store is sound.
    pub(super) fn end(mut self) {
        let is_draining = self.heard.draining.get();
        let enqueue = b"POST /v1/jobs\n\n{\"kind\":\"probe\",\"priority\":\"critical\"}";
        for (part, expected) in [
            (&b"GET /q/health/live"[..], &[200][..]),
            (b"GET /v1/queues", &[200]),
            (enqueue, if is_draining { &[503] } else { &[201, 429] }),
        ] {
            self.heard.last_status.set(0);
            self.converse(&request(part), true);
            let status = self.heard.last_status.get();
            assert!(expected.contains(&status), "{status} to {}", String::from_utf8_lossy(part));
        }
        let report = examine(&self.store).unwrap();
        assert!(report.is_sound(), "{:?}", report.problems);
    }
}

/// Asks the router, and checks what it says.
async fn answer(
    mut router: Router,
    heard: Rc<Heard>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _under_way = UnderWay::new(&heard);
    let asked = Asked { method: request.method().clone(), path: request.uri().path().to_owned() };
    let response = router.call(request.map(Body::new)).await?;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("an answer that is in memory");
    let said = check(&asked, &parts, &body, heard.draining.get());
    heard.words.borrow_mut().hear(&said);
    heard.last_status.set(parts.status.as_u16());
    Ok(Response::from_parts(parts, Full::new(body)))
}

/// A request that the router has, until it is answered or its client went away.
struct UnderWay<'a>(&'a Heard);

impl UnderWay<'_> {
    fn new(heard: &Heard) -> UnderWay<'_> {
        heard.begun.set(heard.begun.get() + 1);
        heard.under_way.set(heard.under_way.get() + 1);
        UnderWay(heard)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}
