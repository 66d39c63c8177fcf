// A push target in a few lines: pulk sends a job, this runs it. Node without packages.
//
//     PULK_SECRET=change-me node examples/push-target.mjs 3000
//     pulk serve --push-url http://127.0.0.1:3000/ --push-secret change-me

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.env.PULK_SECRET ?? "";

// Standard Webhooks: HMAC-SHA256 of id, time and body, not older than five minutes.
function isSigned(headers, body) {
  const sentAt = headers["webhook-timestamp"] ?? "0";
  const digest = createHmac("sha256", secret)
    .update(`${headers["webhook-id"]}.${sentAt}.`)
    .update(body)
    .digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  const given = Buffer.from(headers["webhook-signature"] ?? "");
  const isRecent = Math.abs(Date.now() / 1000 - Number(sentAt)) < 300;
  return isRecent && given.length === expected.length && timingSafeEqual(given, expected);
}

// The work itself. What it returns is the job's result; what it throws is a failure.
class Rejected extends Error {}
async function run(kind, payload) {
  if (kind === "mail.welcome") return { sent: payload.to };
  throw new Rejected(`no handler for ${kind}`);
}

function answer(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  const { headers } = request;
  if (secret && !isSigned(headers, body)) {
    return answer(response, 401, { error: "the signature is wrong" });
  }
  const kind = decodeURIComponent(headers["ce-type"]);
  console.log(`${headers["ce-id"]}: ${kind}, attempt ${headers["ce-attempt"]}`);
  try {
    answer(response, 200, await run(kind, JSON.parse(body))); // 2xx: done
  } catch (reason) {
    const isHopeless = reason instanceof Rejected || reason instanceof SyntaxError;
    answer(response, isHopeless ? 422 : 500, { error: reason.message }); // 4xx: dead, 5xx: again
  }
}).listen(Number(process.argv[2] ?? 3000), "127.0.0.1");
