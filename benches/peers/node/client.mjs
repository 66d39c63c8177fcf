// BullMQ's side of a workload: node client.mjs PORT LOAD, with the load as JSON; tells what it did
// as JSON. With `claim` instead of a load it tries to claim a job for each line that it reads.
import { createInterface } from "node:readline";
import IORedis from "ioredis";
import { Queue, Worker } from "bullmq";

const PAYLOAD = "x".repeat(254); // 256 bytes as JSON
const OPTIONS = { removeOnComplete: true, removeOnFail: true };
const [port, work] = process.argv.slice(2);
const connect = () => new IORedis(Number(port), "127.0.0.1", { maxRetriesPerRequest: null });

if (work === "claim") {
  await claim();
} else {
  const load = JSON.parse(work);
  const result = load.work === "take" ? await take(load) : await enqueue(load);
  console.log(JSON.stringify(result));
  process.exit(0);
}

// All clients share a connection, on which their commands are sent one behind the other.
async function enqueue({ work, clients, size, jobs, limit_ms }) {
  const queue = new Queue("bench", { connection: connect(), defaultJobOptions: OPTIONS });
  await queue.waitUntilReady();
  const times = [];
  const started = performance.now();
  let left = jobs;
  let done = 0;
  let last = started;
  const client = async () => {
    while (left > 0 && performance.now() < started + limit_ms) {
      const share = Math.min(size, left);
      left -= share;
      const before = performance.now();
      if (work === "enqueue") await queue.add("bench", PAYLOAD);
      else await queue.addBulk(Array.from({ length: share }, () => ({ name: "bench", data: PAYLOAD })));
      last = performance.now();
      times.push((last - before) * 1000);
      done += share;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return measured(done, last - started, times);
}

// A worker acks a job and takes the next in one call. `size` jobs at a time in each worker.
async function take({ clients, size, jobs, limit_ms }) {
  // Single jobs are done by one worker, as many at a time as there would be clients.
  const [workers, concurrency] = size === 1 ? [1, clients] : [clients, size];
  const started = performance.now();
  const all = [];
  let done = 0;
  let last = started;
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, limit_ms);
    const finished = () => {
      done += 1;
      last = performance.now();
      if (done >= jobs) {
        clearTimeout(timer);
        resolve();
      }
    };
    for (let number = 0; number < workers; number += 1) {
      const worker = new Worker("bench", async () => {}, { connection: connect(), concurrency });
      worker.on("completed", finished);
      worker.on("error", (error) => console.error(error));
      all.push(worker);
    }
  });
  // What completes while the workers close counts, in jobs and in time.
  await Promise.all(all.map((worker) => worker.close()));
  return measured(done, last - started, []);
}

function measured(jobs, ms, times) {
  times.sort((a, b) => a - b);
  return { jobs, seconds: ms / 1000, p50_us: times[Math.floor(times.length / 2)] ?? 0 };
}

async function claim() {
  const worker = new Worker("bench", null, {
    connection: new IORedis(Number(port), "127.0.0.1", {
      maxRetriesPerRequest: null,
      retryStrategy: () => 20,
    }),
    autorun: false,
  });
  worker.on("error", () => {});
  await worker.waitUntilReady();
  for await (const _ of createInterface({ input: process.stdin })) {
    const job = await worker.getNextJob("first", { block: false }).catch(() => undefined);
    console.log(job ? "1" : "0");
  }
  process.exit(0);
}
