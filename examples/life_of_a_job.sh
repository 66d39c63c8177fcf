#!/usr/bin/env bash
# A job's life over HTTP, from enqueue to ack, through the dead letters. Needs a node that runs
# (cargo run --release -- serve), bash and curl. The README shows the same lines.
set -euo pipefail

pulk=${PULK_URL:-http://127.0.0.1:8080}
get() { curl -sS --fail-with-body -w '\n' "$pulk$1"; }
post() { curl -sS --fail-with-body -w '\n' --json "$2" "$pulk$1"; }
claim() { post /v1/claim '{"queues":["mails"],"wait_ms":5000,"worker":"me"}'; }
token() { sed -E 's/.*"token":"([^"]+)".*/\1/'; }

# 201: the job is on the disk. Two attempts; the second may follow the first at once.
post /v1/jobs '{"queue":"mails","kind":"mail.welcome","payload":{"to":"ann@example.org"},
                "max_attempts":2,"retry":{"base_ms":0,"max_ms":0}}'
token=$(claim | token) # proves the right to finish the job,
id=${token%-*}         # whose id is its first part
post "/v1/jobs/$id/extend" '{"token":"'"$token"'","lease_ms":60000,"progress":40}'
post "/v1/jobs/$id/fail" '{"token":"'"$token"'","error":"no route to host"}' # retrying
token=$(claim | token)
post "/v1/jobs/$id/fail" '{"token":"'"$token"'","error":"still no route"}' # dead
get "/v1/dead?queue=mails"                                                 # why, every error
post "/v1/dead/$id/replay" '{}'                                            # back to work
token=$(claim | token)
post "/v1/jobs/$id/ack" '{"token":"'"$token"'"}' # 204: done, and never handed out again
get /v1/queues/mails                             # nothing is left in it
