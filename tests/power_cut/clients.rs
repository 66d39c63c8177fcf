//! Clients that call everything there is, and note what each call was and what it was told.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nobody's lease ends while images are checked.
const LEASE_MS: u64 = 20 * 3_600_000;
const HELD_MAX: usize = 25;
const HOUR_MS: u64 = 3_600_000;

/// A job in somebody's hands.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Held {
    pub id: String,
    pub token: String,
    pub name: String,
}

impl Held {
    pub fn delivery(&self) -> u64 {
        self.token.rsplit_once('-').unwrap().1.parse().unwrap()
    }
}

/// What a call asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Asked {
    /// Jobs, by the names in their payloads. A whole batch, or one.
    Enqueue {
        names: Vec<String>,
        later: bool,
        keys: Keys,
    },
    Claim {
        acks: Vec<Held>,
    },
    Ack {
        held: Vec<Held>,
    },
    Retry {
        held: Held,
    },
    Bury {
        held: Held,
    },
    Release {
        held: Held,
        later: bool,
    },
    Extend {
        held: Held,
    },
    Cancel {
        id: String,
    },
    Replay {
        id: String,
        delivery: u64,
    },
}

/// What keeps a job from being there twice.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Keys {
    pub queue: String,
    pub unique: Option<String>,
    pub idempotency: Option<String>,
}

/// What a call was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Of jobs that were enqueued, in their order.
    pub ids: Vec<String>,
    /// Of a claim.
    pub jobs: Vec<Held>,
}

/// A call: which one it was of those from this port to the first or the second node, what it asked
/// and what it was told, if anything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    pub life: usize,
    pub port: u16,
    pub nth: usize,
    pub asked: Asked,
    pub told: Option<Told>,
}

pub struct Client {
    number: u64,
    life: usize,
    random: StdRng,
    connection: TcpStream,
    calls: Vec<Call>,
    pub hands: Hands,
}

/// What a client goes on with over the end of a node.
#[derive(Default)]
pub struct Hands {
    held: Vec<Held>,
    /// Jobs that wait and that nobody claims.
    to_cancel: Vec<String>,
    /// Dead letters of its own making, and by which delivery.
    dead: Vec<(String, u64)>,
}

impl Client {
    pub async fn connect(
        number: u64,
        life: usize,
        seed: u64,
        address: &str,
        hands: Hands,
    ) -> Client {
        let connection = TcpStream::connect(address).await.unwrap();
        let random = StdRng::seed_from_u64(seed ^ number << 8 ^ (life as u64) << 16);
        Client { number, life, random, connection, calls: Vec::new(), hands }
    }

    /// Makes so many calls, or as many as the node lives to answer.
    pub async fn work(mut self, calls: usize) -> (Vec<Call>, Hands) {
        for _ in 0..calls {
            if self.step().await.is_none() {
                break;
            }
        }
        (self.calls, self.hands)
    }

    async fn step(&mut self) -> Option<()> {
        let full = self.hands.held.len() >= HELD_MAX;
        match self.random.random_range(0..100) {
            0..30 => self.enqueue().await,
            30..40 => self.batch().await,
            40..43 => self.cancel().await,
            43..46 => self.replay().await,
            46..66 if !full => self.claim().await,
            _ if self.hands.held.is_empty() => self.claim().await,
            46..78 => self.ack().await,
            78..86 => self.settle().await,
            86..92 => self.fail(true).await,
            92..95 => self.fail(false).await,
            95..97 => self.extend().await,
            _ => self.release().await,
        }
    }

    // ---- producers ----

    fn name(&self) -> String {
        format!("{}-{}-{}", self.life, self.number, self.calls.len())
    }

    fn job(&mut self, name: &str, queue: &str) -> Value {
        let pad = match self.random.random_range(0..100) {
            0..4 => self.random.random_range(50_000..150_000),
            4..15 => 20_000,
            _ => self.random.random_range(0..900),
        };
        let priority = pulk::Priority::ALL[self.random.random_range(0..5)];
        json!({
            "queue": queue, "kind": "work", "priority": priority,
            "payload": {"name": name, "pad": "x".repeat(pad)},
            "max_attempts": 1_000, "retry": {"base_ms": 1, "max_ms": 5, "jitter": 0.5},
        })
    }

    async fn enqueue(&mut self) -> Option<()> {
        let name = self.name();
        let cancels = self.random.random_bool(0.1);
        let queue = match cancels {
            true => "cancelled".to_owned(),
            false => format!("q{}", self.random.random_range(0..3)),
        };
        let mut body = self.job(&name, &queue);
        let mut keys = Keys { queue, ..Keys::default() };
        let later = match self.random.random_range(0..10) {
            0 => HOUR_MS * 20,
            1 => self.random.random_range(1..20),
            _ => 0,
        };
        body["delay_ms"] = later.into();
        if self.random.random_bool(0.2) {
            keys.unique = Some(name.clone());
            body["unique"] = json!({"key": name});
        }
        let header = match self.random.random_bool(0.2) {
            true => {
                keys.idempotency = Some(name.clone());
                format!("idempotency-key: {name}\r\n")
            }
            false => String::new(),
        };
        let asked = Asked::Enqueue { names: vec![name], later: later == HOUR_MS * 20, keys };
        let ids = |reply: &Value| vec![text(&reply["id"])];
        let told = self.call("POST", "/v1/jobs", &header, &body, asked, 201, ids).await?;
        if cancels {
            self.hands.to_cancel.push(told.ids[0].clone());
        }
        Some(())
    }

    async fn batch(&mut self) -> Option<()> {
        let (name, queue) = (self.name(), format!("q{}", self.random.random_range(0..3)));
        let count = self.random.random_range(1..15);
        let names: Vec<String> = (0..count).map(|number| format!("{name}/{number}")).collect();
        let jobs: Vec<Value> = names.iter().map(|name| self.job(name, &queue)).collect();
        let asked = Asked::Enqueue { names, later: false, keys: Keys::default() };
        let ids = |reply: &Value| reply["ids"].as_array().unwrap().iter().map(text).collect();
        let body = json!({"jobs": jobs});
        self.call("POST", "/v1/jobs/batch", "", &body, asked, 201, ids).await.map(drop)
    }

    async fn cancel(&mut self) -> Option<()> {
        let Some(id) = self.hands.to_cancel.pop() else { return Some(()) };
        let path = format!("/v1/jobs/{id}");
        self.call("DELETE", &path, "", &Value::Null, Asked::Cancel { id }, 200, none)
            .await
            .map(drop)
    }

    // ---- workers ----

    async fn claim(&mut self) -> Option<()> {
        let acks = self.random.random_range(0..2).min(self.hands.held.len());
        let acks = self.hands.held.split_off(self.hands.held.len() - acks);
        let body = json!({
            "queues": ["q0", "q1", "q2"], "limit": self.random.random_range(1..10),
            "lease_ms": LEASE_MS, "worker": "w",
            "acks": acks.iter().map(by_token).collect::<Vec<Value>>(),
        });
        let asked = Asked::Claim { acks };
        let told = self.call("POST", "/v1/claim", "", &body, asked, 200, none).await?;
        self.hands.held.extend(told.jobs);
        Some(())
    }

    async fn ack(&mut self) -> Option<()> {
        let held = self.any();
        let asked = Asked::Ack { held: vec![held.clone()] };
        self.verb(&held, "ack", json!({}), asked, 204).await
    }

    async fn settle(&mut self) -> Option<()> {
        let count = self.random.random_range(1..=self.hands.held.len());
        let held: Vec<Held> = self.hands.held.drain(..count).collect();
        let body = json!({"acks": held.iter().map(by_token).collect::<Vec<Value>>()});
        self.call("POST", "/v1/settle", "", &body, Asked::Ack { held }, 200, none).await.map(drop)
    }

    async fn fail(&mut self, retry: bool) -> Option<()> {
        let held = self.any();
        let asked = match retry {
            true => Asked::Retry { held: held.clone() },
            false => Asked::Bury { held: held.clone() },
        };
        let body = json!({"error": "no luck", "retry": retry});
        self.verb(&held, "fail", body, asked, 200).await?;
        if !retry {
            self.hands.dead.push((held.id.clone(), held.delivery()));
        }
        Some(())
    }

    async fn extend(&mut self) -> Option<()> {
        let held = self.hands.held[0].clone();
        let body = json!({"lease_ms": LEASE_MS, "progress": 50});
        self.verb(&held, "extend", body, Asked::Extend { held: held.clone() }, 200).await
    }

    async fn release(&mut self) -> Option<()> {
        let (held, later) = (self.any(), self.random.random_bool(0.3));
        let body = json!({"delay_ms": if later { HOUR_MS * 20 } else { 0 }});
        let asked = Asked::Release { held: held.clone(), later };
        self.verb(&held, "release", body, asked, 200).await
    }

    async fn replay(&mut self) -> Option<()> {
        let Some((id, delivery)) = self.hands.dead.pop() else { return Some(()) };
        let path = format!("/v1/dead/{id}/replay");
        let asked = Asked::Replay { id, delivery };
        self.call("POST", &path, "", &json!({}), asked, 200, none).await.map(drop)
    }

    fn any(&mut self) -> Held {
        let number = self.random.random_range(0..self.hands.held.len());
        self.hands.held.swap_remove(number)
    }

    // ---- the wire ----

    async fn verb(
        &mut self,
        held: &Held,
        verb: &str,
        mut body: Value,
        asked: Asked,
        status: u16,
    ) -> Option<()> {
        body["token"] = held.token.clone().into();
        let path = format!("/v1/jobs/{}/{verb}", held.id);
        self.call("POST", &path, "", &body, asked, status, none).await.map(drop)
    }

    /// One call; `None` when the connection broke before the answer was whole.
    #[allow(clippy::too_many_arguments, reason = "the parts of a call")]
    async fn call(
        &mut self,
        method: &str,
        path: &str,
        header: &str,
        body: &Value,
        asked: Asked,
        status: u16,
        ids: impl Fn(&Value) -> Vec<String>,
    ) -> Option<Told> {
        let port = self.connection.local_addr().unwrap().port();
        let nth = self.calls.len();
        self.calls.push(Call { life: self.life, port, nth, asked, told: None });
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: node\r\n{header}content-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.connection.write_all((head + &body).as_bytes()).await.ok()?;
        let (got, reply) = self.answer().await?;
        assert_eq!(got, status, "{method} {path}: {reply}");
        let all_acked = |outcomes: &Vec<Value>| outcomes.iter().all(|o| o["outcome"] == "acked");
        assert!(reply["outcomes"].as_array().is_none_or(all_acked), "{reply}");
        let jobs = reply["jobs"].as_array().into_iter().flatten().map(|job| Held {
            id: text(&job["id"]),
            token: text(&job["lease"]["token"]),
            name: text(&job["payload"]["name"]),
        });
        let told = Told { ids: ids(&reply), jobs: jobs.collect() };
        self.calls[nth].told = Some(told.clone());
        Some(told)
    }

    async fn answer(&mut self) -> Option<(u16, Value)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.connection.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.connection.read_exact(&mut body).await.ok()?;
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

fn none(_: &Value) -> Vec<String> {
    Vec::new()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn by_token(held: &Held) -> Value {
    json!({"id": held.id, "token": held.token})
}
