//! Producers and workers that go on whatever happens to the pods, and what they were told.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::node::{Http, within};
use crate::pods::{Endpoints, Shared, any, one};

/// What the clients were told.
#[derive(Default)]
pub struct Ledger {
    /// Ids of jobs that were taken in (201).
    pub enqueued: BTreeSet<String>,
    /// Enqueues that nobody answered: each may have made a job.
    pub unanswered: u64,
    /// How often each job was acked (204).
    pub acked: BTreeMap<String, u64>,
    /// Jobs whose ack got no answer, or that were no longer the worker's after such a one.
    pub uncertain: BTreeSet<String>,
}

#[derive(Clone, Copy, Default)]
pub struct Progress {
    pub enqueued: u64,
    pub acked: u64,
}

pub struct Clients {
    pub ledger: Shared<Ledger>,
    progress: watch::Sender<Progress>,
    producing: watch::Sender<bool>,
    working: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Clients {
    pub fn start(endpoints: &Endpoints, producers: usize, pods: usize) -> Clients {
        let mut clients = Clients {
            ledger: Shared::default(),
            progress: watch::Sender::default(),
            producing: watch::Sender::new(true),
            working: watch::Sender::new(true),
            tasks: JoinSet::new(),
        };
        for number in 0..producers {
            let client = clients.client(endpoints, &clients.producing);
            clients.tasks.spawn(client.produce(number));
        }
        for ordinal in 0..pods {
            let client = clients.client(endpoints, &clients.working);
            clients.tasks.spawn(client.work(ordinal));
        }
        clients
    }

    fn client(&self, endpoints: &Endpoints, on: &watch::Sender<bool>) -> Client {
        let (ledger, progress) = (self.ledger.clone(), self.progress.clone());
        Client { endpoints: endpoints.clone(), on: on.subscribe(), ledger, progress }
    }

    /// Waits until so many further jobs were taken in and done.
    pub async fn go_on(&self, enqueued: u64, acked: u64) {
        let from = *self.progress.borrow();
        let mut progress = self.progress.subscribe();
        let done = progress.wait_for(|now| {
            now.enqueued >= from.enqueued + enqueued && now.acked >= from.acked + acked
        });
        within("further jobs", done).await.unwrap();
    }

    pub fn set_producing(&self, on: bool) {
        self.producing.send_replace(on);
    }

    pub fn set_working(&self, on: bool) {
        self.working.send_replace(on);
    }

    /// Ends them all, each when it has written down the answer it waits for.
    pub async fn stop(self) -> Shared<Ledger> {
        self.set_producing(false);
        self.set_working(false);
        drop((self.producing, self.working));
        within("the end of the clients", self.tasks.join_all()).await;
        self.ledger
    }
}

struct Client {
    endpoints: Endpoints,
    on: watch::Receiver<bool>,
    ledger: Shared<Ledger>,
    progress: watch::Sender<Progress>,
}

impl Client {
    async fn produce(mut self, number: usize) {
        for turn in number.. {
            if self.on.wait_for(|on| *on).await.is_err() {
                return;
            }
            let pod = any(&mut self.endpoints, turn).await;
            // Workers that vanish are no fault of the job's here.
            let job = json!({"kind": "k", "payload": turn, "max_interruptions": 1000});
            match pod.call(Method::POST, "/v1/jobs", job.to_string()).await {
                Ok(answer) if answer.status == 201 => {
                    let id = answer.json()["id"].as_str().unwrap().to_owned();
                    let is_new = self.ledger.lock().unwrap().enqueued.insert(id);
                    assert!(is_new, "two jobs have one id: {answer:?}");
                    self.progress.send_modify(|progress| progress.enqueued += 1);
                }
                // Draining, or full: the job was not taken.
                Ok(answer) => assert!([503, 429].contains(&answer.status), "{answer:?}"),
                Err(_) => {
                    self.ledger.lock().unwrap().unanswered += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Claims from one pod and acks there, for as long as it takes.
    async fn work(mut self, ordinal: usize) {
        while self.on.wait_for(|on| *on).await.is_ok() {
            let pod = one(&mut self.endpoints, ordinal).await;
            let claim = r#"{"limit":8,"wait_ms":100,"lease_ms":3000}"#;
            let Ok(answer) = pod.call(Method::POST, "/v1/claim", claim).await else {
                tokio::task::yield_now().await;
                continue;
            };
            if answer.status != 200 {
                assert_eq!(answer.status, 503, "{answer:?}");
                tokio::task::yield_now().await;
                continue;
            }
            for job in answer.json()["jobs"].as_array().unwrap() {
                self.ack(pod.clone(), ordinal, job).await;
            }
        }
    }

    /// Until the pod says what became of it: leases go on over a restart.
    async fn ack(&mut self, mut pod: Http, ordinal: usize, job: &Value) {
        let id = job["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/jobs/{id}/ack");
        let ack = json!({"token": job["lease"]["token"]}).to_string();
        loop {
            match pod.call(Method::POST, &path, ack.clone()).await {
                Ok(answer) if answer.status == 204 => {
                    *self.ledger.lock().unwrap().acked.entry(id).or_default() += 1;
                    self.progress.send_modify(|progress| progress.acked += 1);
                    return;
                }
                // The lease ran out while the pod was away, or an ack without an answer was one.
                Ok(answer) if answer.status == 409 || answer.status == 404 => return,
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                Err(_) => {
                    self.ledger.lock().unwrap().uncertain.insert(id.clone());
                    tokio::task::yield_now().await;
                }
            }
            pod = one(&mut self.endpoints, ordinal).await;
        }
    }
}
