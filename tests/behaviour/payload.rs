//! Payloads come back as they went in, to the byte.

use pulk::job::limits::PAYLOAD_BYTES_MAX;
use pulk::{ErrorKind, JobState, NewJob, Payload};

use crate::harness::Harness;
use crate::state_of;

/// Enqueues a payload, reads it, claims it, kills the job and replays it: always the same bytes.
async fn assert_kept(queue: &Harness, payload: Payload) {
    let id = queue.put(NewJob::new("mail").payload(payload.clone())).await;
    assert!(queue.job(id).await.unwrap().payload == payload);
    let job = queue.take("default").await;
    assert!(job.payload == payload);
    queue.fail_once(&job, Some(0)).await;
    let job = queue.take("default").await;
    assert!(job.payload == payload && job.id == id);
    assert!(queue.job(id).await.unwrap().payload == payload);
    queue.ack(job.token).await.unwrap();
}

pub async fn json_is_kept_byte_for_byte(queue: &Harness) {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for text in [
        "null",
        "false",
        "0",
        "-0",
        "1.0e5",
        "1E+2",
        "123456789012345678901234567890.10",
        r#""""#,
        r#""\u00e9 \ud83d\ude00 é 😀 \/ \\ \" \b""#,
        "[ ]",
        "{ }",
        "{ \"b\" : 1 ,\t\"a\":2,\n\"b\":3.50e+02 }",
        r#"{"":{"":[{"":[[],{}]}]},"nested":{"deeper":[1,[2,[3,{"x":null}]]]}}"#,
        &deep,
    ] {
        assert_kept(queue, Payload::Json(text.to_owned().into())).await;
    }
}

pub async fn any_bytes_are_kept(queue: &Harness) {
    for bytes in [vec![], vec![0], (0..=255).collect(), vec![255; 3], b"{\"a\":1}".to_vec()] {
        assert_kept(queue, Payload::Binary(bytes.into())).await;
    }
}

/// Above 8 KiB a payload lies in parts of 16 KiB; every edge of the two is tried.
pub async fn a_large_payload_is_kept_in_all_its_parts(queue: &Harness) {
    let edges = [8 << 10, 16 << 10, 32 << 10, 48 << 10].into_iter();
    let sizes = edges.flat_map(|edge| [edge - 1, edge, edge + 1]);
    for size in sizes.chain([PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX]) {
        // No two parts are alike, so that a mix-up shows.
        let bytes: Vec<u8> = (0..size).map(|n| (n ^ (n >> 8) ^ (n >> 13)) as u8).collect();
        assert_kept(queue, Payload::Binary(bytes.into())).await;
    }
    let text = format!("\"{}\"", "ä".repeat((PAYLOAD_BYTES_MAX - 2) / 2));
    assert_eq!(text.len(), PAYLOAD_BYTES_MAX);
    assert_kept(queue, Payload::Json(text.into())).await;
}

pub async fn a_payload_over_1_mib_is_too_large(queue: &Harness) {
    let text = format!("\"{}\"", "a".repeat(PAYLOAD_BYTES_MAX - 1));
    assert_eq!(text.len(), PAYLOAD_BYTES_MAX + 1);
    for payload in
        [Payload::Json(text.into()), Payload::Binary(vec![0; PAYLOAD_BYTES_MAX + 1].into())]
    {
        let refused = queue.enqueue(NewJob::new("mail").payload(payload)).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::TooLarge, Some("payload")));
    }
    assert_eq!(queue.queues().await.unwrap(), []);
}

/// That no part stays in the store is checked when the queue is closed (I5).
pub async fn a_large_payload_leaves_nothing_behind(queue: &Harness) {
    let job = || NewJob::new("mail").payload(Payload::Binary(vec![7; 200_000].into()));
    let dead = queue.put_dead(job()).await;
    queue.put(job()).await;
    let acked = queue.take("default").await;
    queue.ack(acked.token).await.unwrap();
    queue.put(job()).await;
    let released = queue.take("default").await;
    queue.release(released.token, Some(60_000)).await.unwrap();
    assert_eq!(state_of(queue, acked.id).await, None);
    assert_eq!(state_of(queue, released.id).await, Some(JobState::Scheduled));
    queue.replay(dead).await.unwrap();
    let replayed = queue.take("default").await;
    queue.ack(replayed.token).await.unwrap();
    assert_eq!(state_of(queue, dead).await, None);
}

pub async fn headers_are_kept(queue: &Harness) {
    let headers: std::collections::BTreeMap<String, String> =
        (0..32).map(|n| (format!("Name {n} ü\n\""), "v\u{0}😀".repeat(n))).collect();
    let id = queue.put(NewJob { headers: headers.clone(), ..NewJob::new("mail") }).await;
    assert_eq!(queue.job(id).await.unwrap().headers, headers);
    let job = queue.take("default").await;
    assert_eq!(job.headers, headers);
    queue.fail_once(&job, Some(0)).await;
    assert_eq!(queue.take("default").await.headers, headers);
}
