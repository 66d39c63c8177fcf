//! A node of the real program: started on a free port, spoken to over real sockets, ended by
//! real signals. What a test waits for, it waits for by the node's answers and its log.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Longer than anything takes here, however busy the machine is: only a hang lasts so long.
const HANG: Duration = Duration::from_secs(90);

/// The outcome of something that must come; a test that hangs fails instead.
pub async fn within<T>(what: &str, outcome: impl Future<Output = T>) -> T {
    match tokio::time::timeout(HANG, outcome).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what} did not come within {HANG:?}"),
    }
}

/// A running `pulk serve`. Dropped, it is killed.
pub struct Node {
    child: Child,
    log: mpsc::UnboundedReceiver<String>,
    seen: Vec<String>,
    pub address: String,
    pub http: Http,
}

impl Node {
    /// Starts a node on a data directory, and waits until it serves.
    pub async fn start(data_dir: &Path) -> Node {
        Self::start_with([OsStr::new("--data-dir"), data_dir.as_os_str()]).await
    }

    /// Starts a node with these arguments, and waits until it serves.
    pub async fn start_with<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Node {
        Self::spawn(serve(arguments)).await
    }

    /// Starts a node by a command of the test's own, and waits until it serves.
    pub async fn spawn(command: Command) -> Node {
        match Self::try_spawn(command).await {
            Ok(node) => node,
            Err((_, log)) => panic!("the node ended without serving; it said: {log}"),
        }
    }

    /// The same; or how the node ended instead, and all that it logged.
    pub async fn try_spawn(command: Command) -> Result<Node, (ExitStatus, String)> {
        let mut node = Node::launch(command);
        match node.serves().await {
            true => Ok(node),
            false => Err(node.ended().await),
        }
    }

    /// Starts a node by a command of the test's own; it serves later.
    pub fn launch(mut command: Command) -> Node {
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, log) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        let (seen, address, http) = (Vec::new(), String::new(), Http::new(""));
        Node { child, log, seen, address, http }
    }

    /// Waits until it serves.
    pub async fn serving(&mut self) {
        assert!(self.serves().await, "the node ended without serving; it said: {:#?}", self.seen);
    }

    /// The same; false when it has ended instead.
    async fn serves(&mut self) -> bool {
        let Some(serving) = self.find_line("Serving").await else { return false };
        self.address = field(&serving, "address");
        self.http = Http::new(&self.address);
        true
    }

    /// The next line of the log with this text in it.
    pub async fn line(&mut self, text: &str) -> String {
        let found = self.find_line(text).await;
        found
            .unwrap_or_else(|| panic!("the node ended without {text:?}; it said: {:#?}", self.seen))
    }

    async fn find_line(&mut self, text: &str) -> Option<String> {
        let wanted = async {
            while let Some(line) = self.log.recv().await {
                self.seen.push(line.clone());
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        };
        within(text, wanted).await
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Kills it: nothing is flushed, nobody is told. Gives all that it logged.
    pub async fn kill(mut self) -> String {
        self.child.start_kill().unwrap();
        let (status, log) = self.ended().await;
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}: {log}");
        log
    }

    /// Waits for its end; gives how it ended and all that it logged.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = within("the end of the node", self.child.wait()).await.unwrap();
        while let Some(line) = self.log.recv().await {
            self.seen.push(line);
        }
        (status, self.seen.join("\n"))
    }

    /// A connection of our own, to send what no client would.
    pub async fn connect(&self) -> Connection {
        Connection::open(&self.address).await
    }
}

/// `pulk serve` on a free port, without the caller's environment.
pub fn serve<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulk"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the program to its end; gives its exit code, stdout and stderr.
pub async fn run(mut command: Command) -> (Option<i32>, String, String) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = within("the end of the program", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// `pulk doctor DIR` must find the directory sound.
pub async fn assert_sound(data_dir: &Path) {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_pulk"));
    doctor.arg("doctor").arg(data_dir).env_clear();
    let (code, stdout, stderr) = run(doctor).await;
    assert_eq!(code, Some(0), "pulk doctor: {stdout}{stderr}");
    assert!(stdout.contains("is sound"), "{stdout}");
}

/// The value of `name=value` in a line of the log, or of `"name"` when the log is JSON.
fn field(line: &str, name: &str) -> String {
    if let Ok(line) = serde_json::from_str::<serde_json::Value>(line) {
        return line[name].as_str().unwrap().to_owned();
    }
    let start = format!("{name}=");
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(&start));
    word.unwrap_or_else(|| panic!("no {name} in {line:?}")).to_owned()
}

/// An HTTP client of one node.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
}

/// What a node answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Http {
    fn new(address: &str) -> Http {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Http { client, base: format!("http://{address}") }
    }

    /// One call; an `Err` is a connection that broke.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Answer> {
        self.send(self.client.request(method, format!("{}{path}", self.base)).body(body)).await
    }

    /// The same with one more header.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        header: (&str, &str),
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Answer> {
        let request = self.client.request(method, format!("{}{path}", self.base)).body(body);
        self.send(request.header(header.0, header.1)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.header(CONTENT_TYPE, "application/json").send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }

    /// A POST with one more header.
    pub async fn post_with(&self, path: &str, header: (&str, &str), body: Vec<u8>) -> Answer {
        within(path, self.call_with(Method::POST, path, header, body)).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        within(path, self.call(Method::GET, path, "")).await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Answer {
        within(path, self.call(Method::DELETE, path, "")).await.unwrap()
    }

    pub async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        within(path, self.call(Method::PUT, path, body)).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        within(path, self.call(Method::POST, path, body)).await.unwrap()
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A bare connection.
pub struct Connection(TcpStream);

impl Connection {
    pub async fn open(address: &str) -> Connection {
        Connection(TcpStream::connect(address).await.unwrap())
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one answer, whose body has a length, and leaves the connection open. An interim one
    /// (100) counts.
    pub async fn answer(&mut self) -> (u16, String) {
        within("an answer", self.read_answer()).await
    }

    async fn read_answer(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    /// Sends no more, and reads to the end of what the node sends.
    pub async fn close_and_read(mut self) -> String {
        // The node may have closed it already.
        let _ = self.0.shutdown().await;
        self.read_to_end().await
    }

    /// Reads to the end of what the node sends.
    pub async fn read_to_end(mut self) -> String {
        let mut bytes = Vec::new();
        let _ = within("the end of the connection", self.0.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The text of a POST up to its body, which is `length` bytes long.
pub fn post_head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
}
