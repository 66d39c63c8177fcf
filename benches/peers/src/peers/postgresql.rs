//! A table of PostgreSQL: rows are claimed by SKIP LOCKED in a transaction whose commit is the ack.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Statement};

use crate::peer::{Client, PAYLOAD_BYTES, Peer, Place, version_of};
use crate::process::Server;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const TAKE: &str = "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs ORDER BY id \
                    FOR UPDATE SKIP LOCKED LIMIT $1) RETURNING id, payload";

pub(crate) struct PostgreSql;

fn program(name: &str) -> PathBuf {
    Path::new(PROGRAMS).join(name)
}

fn data(place: &Place) -> PathBuf {
    place.dir.join("data")
}

/// The server does not run as root; its package brings the user `postgres`.
fn unprivileged(name: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]);
    command.arg(program(name));
    command
}

fn number_of_user(flag: &str) -> Result<u32> {
    let output = Command::new("id").args([flag, "postgres"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().context("there is no user postgres")
}

#[async_trait]
impl Peer for PostgreSql {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn version(&self) -> Result<String> {
        version_of(program("postgres"), &["--version"])
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            let (user, group) = (number_of_user("-u")?, number_of_user("-g")?);
            chown(&place.dir, Some(user), Some(group))?;
        }
        let mut command = unprivileged("initdb");
        command.args(["--auth", "trust", "--username", "bench", "--pgdata"]).arg(data(place));
        let output = command.current_dir(&place.dir).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "initdb: {told}");
        Ok(())
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        let mut command = unprivileged("postgres");
        command.current_dir(&place.dir).arg("-D").arg(data(place)).arg("-k").arg(&place.dir);
        command.args(["-h", "127.0.0.1", "-p", &place.port.to_string()]);
        command.args(["-c", "fsync=on", "-c", "synchronous_commit=on"]);
        Server::start(command, &place.dir)
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        let client = open(place).await?;
        let table = "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                     payload bytea NOT NULL)";
        Ok(client.batch_execute(table).await?)
    }

    async fn connect(&self, place: &Place, _: usize) -> Result<Box<dyn Client>> {
        let client = open(place).await?;
        let one = client.prepare("INSERT INTO jobs (payload) VALUES ($1)").await?;
        let many = "INSERT INTO jobs (payload) SELECT unnest($1::bytea[])";
        let many = client.prepare(many).await?;
        let take = client.prepare(TAKE).await?;
        Ok(Box::new(PostgreSqlClient { client, one, many, take, holds: false }))
    }
}

async fn open(place: &Place) -> Result<tokio_postgres::Client> {
    let address = format!("host=127.0.0.1 port={} user=bench dbname=postgres", place.port);
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

struct PostgreSqlClient {
    client: tokio_postgres::Client,
    one: Statement,
    many: Statement,
    take: Statement,
    /// A transaction is open: what it took is not finished.
    holds: bool,
}

const PAYLOAD: &[u8] = &[b'x'; PAYLOAD_BYTES];

#[async_trait]
impl Client for PostgreSqlClient {
    async fn enqueue(&mut self) -> Result<()> {
        let rows = self.client.execute(&self.one, &[&PAYLOAD]).await?;
        ensure!(rows == 1, "{rows} rows were inserted");
        Ok(())
    }

    async fn enqueue_batch(&mut self, jobs: usize) -> Result<()> {
        let payloads = vec![PAYLOAD; jobs];
        let rows = self.client.execute(&self.many, &[&payloads]).await?;
        ensure!(rows == u64::try_from(jobs)?, "{rows} of {jobs} rows were inserted");
        Ok(())
    }

    async fn take(&mut self, jobs: usize) -> Result<usize> {
        // Sent together: the commit of the former, and the next.
        let border = if self.holds { "COMMIT; BEGIN" } else { "BEGIN" };
        let limit = i64::try_from(jobs)?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
        let (border, rows) = tokio::join!(
            self.client.batch_execute(border),
            self.client.query(&self.take, &parameters),
        );
        border?;
        self.holds = true;
        Ok(rows?.len())
    }

    async fn finish(&mut self) -> Result<()> {
        self.holds = false;
        Ok(self.client.batch_execute("COMMIT").await?)
    }

    async fn waiting(&mut self) -> Result<u64> {
        let row = self.client.query_one("SELECT count(*) FROM jobs", &[]).await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?)?)
    }
}
