//! The formats, byte by byte. These bytes lie on disks: when one of them must change, the format
//! gets a new version.

use std::fmt::Debug;

use super::*;
use crate::store::codec::{HEADER_BYTES, decode, encode};

fn job() -> JobRecord {
    JobRecord {
        kind: "mail".to_owned(),
        payload: PayloadRecord::Json(Bytes::from_static(b"{}")),
        headers: vec![("a".to_owned(), "b".to_owned())],
        max_attempts: 3,
        max_interruptions: 5,
        retry: Some(RetryPolicy { base_ms: 1_000, max_ms: 3_600_000, jitter: 0.5 }),
        timeout_ms: Some(60_000),
        failures: 1,
        interruptions: 2,
        deliveries: 4,
        errors: vec![ErrorRecord {
            attempt: 1,
            failed_at_ms: 1_800_000_000_000,
            error: "no".to_owned(),
        }],
        seldom: None,
    }
}

/// Bytes of format 1 are read, and written again as format 2 with the same body.
#[track_caller]
fn golden<T: Record + PartialEq + Debug>(record: T, hex: &str) {
    let written: String = hex_of(&encode(&record)[HEADER_BYTES..]);
    assert_eq!(written, hex[2 * HEADER_BYTES..]);
    assert_eq!(decode::<T>(&bytes_of(hex)).unwrap(), record);
}

#[track_caller]
fn golden_2<T: Record + PartialEq + Debug>(record: T, hex: &str) {
    let bytes = encode(&record);
    assert_eq!(hex_of(&bytes), hex);
    assert_eq!(decode::<T>(&bytes).unwrap(), record);
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|digits| std::str::from_utf8(digits).unwrap());
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

#[test]
fn records_of_format_1_keep_their_bytes() {
    golden(
        MetaRecord {
            store_id: 1 << 100,
            next_sequence: 300,
            next_queue: 2,
            damaged_records: 0,
            last_commit_ms: 1_800_000_000_000,
        },
        "0101167ac7c7fe00000000000000000000000010000000fb2c010200fd00505c18a3010000",
    );
}

#[test]
fn a_queue_of_format_1_keeps_its_bytes() {
    let counts = PerPriority::from_fn(|priority| StateCounts {
        scheduled: 1,
        ready: 2,
        running: 3,
        retrying: 4,
        dead: 1_000 * u64::from(priority.number()),
    });
    golden(
        QueueRecord { name: "mails".to_owned(), paused: true, counts },
        "\
         01020cf499b7056d61696c7301010203040001020304fbe80301020304fbd00701020304fbb80b\
         01020304fba00f",
    );
}

#[test]
fn a_chunk_of_format_1_keeps_its_bytes() {
    let born = Origin::Born { offset_ms: 7 };
    let moved = Origin::Moved { id: 1 << 90, ready_at_ms: 1_800_000_000_000 };
    let large = JobRecord {
        payload: PayloadRecord::BinaryParts { bytes: 1 << 20 },
        ..JobRecord::default()
    };
    let json =
        JobRecord { payload: PayloadRecord::JsonParts { bytes: 9_000 }, ..JobRecord::default() };
    let binary = JobRecord {
        payload: PayloadRecord::Binary(Bytes::from_static(&[0, 255])),
        ..JobRecord::default()
    };
    let slots = vec![
        SlotRecord { place_offset: 0, origin: born, job: job() },
        SlotRecord { place_offset: 1, origin: moved, job: large },
        SlotRecord { place_offset: 300, origin: born, job: json },
        SlotRecord { place_offset: 70_000, origin: born, job: binary },
    ];
    golden(
        ChunkRecord { shard: 2, base_ms: 1_800_000_000_000, slots },
        "\
         0103eb0f1e7a02fd00505c18a301000004000007046d61696c00027b7d0101610162030501fbe8\
         03fc80ee3600000000000000e03f01fb60ea0102040101fd00505c18a3010000026e6f000101fe\
         00000000000000000000000400000000fd00505c18a30100000003fc0000100000000000000000\
         000000fb2c0100070002fb282300000000000000000000fc70110100000700010200ff00000000\
         000000000000",
    );
}

fn lease() -> LeaseRecord {
    LeaseRecord {
        delivery: 3,
        interruptions: 1,
        started_ms: 1_800_000_000_000,
        deadline_ms: 1_800_000_030_000,
        lease_ms: 30_000,
        timeout_at_ms: Some(1_800_000_060_000),
        worker: Some("w".to_owned()),
        progress: Some(40),
        cancelled: true,
    }
}

#[test]
fn progress_of_format_1_keeps_its_bytes() {
    let slots = vec![
        SlotProgress::Waiting,
        SlotProgress::Returned { deliveries: 2, interruptions: 1 },
        SlotProgress::Leased(lease()),
        SlotProgress::Gone,
    ];
    golden(
        ProgressRecord { slots },
        "\
         010418856edf0400010201020301fd00505c18a3010000fd30c55c18a3010000fb307501fd603a\
         5d18a301000001017701280103",
    );
}

#[test]
fn progress_of_format_2_keeps_its_bytes() {
    let slots = vec![
        SlotProgress::Waiting,
        SlotProgress::Returned { deliveries: 2, interruptions: 1 },
        SlotProgress::Leased(lease()),
        SlotProgress::Gone,
        SlotProgress::LeasedInProcess(lease()),
    ];
    golden_2(
        ProgressRecord { slots },
        "\
         02048b100d9c0500010201020301fd00505c18a3010000fd30c55c18a3010000fb307501fd603a\
         5d18a301000001017701280103040301fd00505c18a3010000fd30c55c18a3010000fb307501fd\
         603a5d18a3010000010177012801",
    );
}

#[test]
fn a_record_of_format_2_says_so() {
    golden_2(
        MetaRecord {
            store_id: 1 << 100,
            next_sequence: 300,
            next_queue: 2,
            damaged_records: 0,
            last_commit_ms: 1_800_000_000_000,
        },
        "020103cbd09cfe00000000000000000000000010000000fb2c010200fd00505c18a3010000",
    );
}

#[test]
fn timers_of_format_1_keep_their_bytes() {
    let at = TimerRecord { priority: 0, wait: Wait::At, job: JobRecord::default() };
    golden(at, "0105e8e71034000000000000000000000000000000");
    let after = Wait::After { since_ms: 1_800_000_000_000 };
    golden(
        TimerRecord { priority: 1, wait: after, job: JobRecord::default() },
        "01058c2b02610101fd00505c18a301000000000000000000000000000000",
    );
    let retry = Wait::Retry { since_ms: 1_800_000_000_000 };
    golden(
        TimerRecord { priority: 4, wait: retry, job: job() },
        "\
         010568f7386d0402fd00505c18a3010000046d61696c00027b7d0101610162030501fbe803fc80\
         ee3600000000000000e03f01fb60ea0102040101fd00505c18a3010000026e6f00",
    );
}

#[test]
fn dead_letters_of_format_1_keep_their_bytes() {
    let dead =
        |reason| DeadRecord { priority: 2, reason, sequence: 300, job: JobRecord::default() };
    golden(dead(DeadReason::Exhausted), "010607c3c57b0200fb2c0100000000000000000000000000");
    golden(dead(DeadReason::Rejected), "0106440863fc0201fb2c0100000000000000000000000000");
    golden(dead(DeadReason::Crashed), "0106c053f9af0202fb2c0100000000000000000000000000");
    golden(dead(DeadReason::Damaged), "010683985f280203fb2c0100000000000000000000000000");
}

#[test]
fn locations_of_format_1_keep_their_bytes() {
    golden(LocationRecord::Ready { priority: 3, place: 70_000 }, "01079c9e279f0003fc70110100");
    golden(LocationRecord::Timer { due_ms: 1_800_000_000_000 }, "0107d4f1251701fd00505c18a3010000");
    golden(
        LocationRecord::Dead { died_at_ms: 1_800_000_000_000 },
        "0107d74a12fc02fd00505c18a3010000",
    );
}

#[test]
fn what_few_jobs_have_keeps_its_bytes() {
    let unique = Some(UniqueKeyRecord { key: "k".to_owned(), ttl_ms: Some(7) });
    let (expires_ms, replay) = (Some(9), Some(3));
    let seldom = SeldomRecord { unique, expires_ms, replay, ..SeldomRecord::default() };
    let job = JobRecord { seldom: Some(Box::new(seldom)), ..JobRecord::default() };
    golden(
        TimerRecord { priority: 0, wait: Wait::At, job },
        "0105089666e500000000000000000000000000000101016b010701090103",
    );
}

#[test]
fn limits_of_format_2_keep_their_bytes() {
    golden_2(
        LimitsRecord { concurrency: Some(7), rate: None, concurrency_per_key: None },
        "020f99e6a9c301070000",
    );
    let rate = RateRecord {
        jobs: 100,
        per_ms: 60_000,
        burst: 10,
        units: 600_000,
        as_of_ms: 1_800_000_000_000,
    };
    golden_2(
        LimitsRecord { concurrency: None, rate: Some(rate), concurrency_per_key: Some(300) },
        "020f46a9e4b9000164fb60ea0afcc0270900fd00505c18a301000001fb2c01",
    );
}

#[test]
fn keys_results_and_replays_of_format_1_keep_their_bytes() {
    golden(
        UniqueRecord { job: 1 << 90, since_ms: 1_800_000_000_000, ttl_ms: Some(60_000) },
        "01099c3164a4fe00000000000000000000000400000000fd00505c18a301000001fb60ea",
    );
    golden(
        IdempotencyRecord {
            job: 1 << 90,
            state: JobState::Retrying,
            priority: 2,
            run_at_ms: 1_800_000_000_000,
            replaced: Some(7),
            until_ms: 1_800_086_400_000,
        },
        "\
         010a5c0d06abfe000000000000000000000004000000000302fd00505c18a30100000107fd00ac\
         821da3010000",
    );
    golden(
        ResultRecord {
            queue: "mails".to_owned(),
            kind: "mail".to_owned(),
            priority: 2,
            attempt: 1,
            finished_ms: 1_800_000_000_000,
            until_ms: 1_800_003_600_000,
            result: Bytes::from_static(b"{}"),
        },
        "010b450e36bb056d61696c73046d61696c0201fd00505c18a3010000fd803e9318a3010000027b7d",
    );
    golden(
        ReplayRecord {
            queue: Some("mails".to_owned()),
            kind: None,
            reason: Some(DeadReason::Expired),
            error: Some("no".to_owned()),
            ids: Some(vec![1 << 90]),
            limit: Some(10),
            rate_per_s: 2.5,
            max_error_share: Some(0.5),
            matched: 4,
            replayed: 3,
            skipped: 1,
            died_again: 2,
            started_ms: 1_800_000_000_000,
            died_by: 300,
            next_ms: 1_800_000_000_500,
            end: Some(ReplayEnd::Stopped { ended_ms: 1_800_000_001_000 }),
            after: Some(Bytes::from_static(b"k")),
        },
        "\
         010c1268c34401056d61696c7300010401026e6f0101fe00000000000000000000000400000000\
         010a000000000000044001000000000000e03f04030102fd00505c18a3010000fb2c01fdf4515c\
         18a30100000101fde8535c18a301000001016b",
    );
}

#[test]
fn schedules_of_format_1_keep_their_bytes() {
    let unique = UniqueKeyRecord { key: "k".to_owned(), ttl_ms: Some(7) };
    golden(
        ScheduleRecord {
            cron: "@daily".to_owned(),
            time_zone: "UTC".to_owned(),
            catch_up: CatchUp::All,
            queue: "mails".to_owned(),
            kind: "mail".to_owned(),
            payload: PayloadRecord::Json(Bytes::from_static(b"{}")),
            priority: 2,
            max_attempts: Some(3),
            max_interruptions: Some(5),
            retry: Some(RetryPolicy { base_ms: 1_000, max_ms: 3_600_000, jitter: 0.5 }),
            timeout_ms: Some(60_000),
            headers: vec![("a".to_owned(), "b".to_owned())],
            unique: Some((unique, OnConflict::Replace)),
            expires_in_ms: Some(9),
        },
        "\
         010da1d377ef06406461696c790355544302056d61696c73046d61696c00027b7d020103010501\
         fbe803fc80ee3600000000000000e03f01fb60ea010161016201016b0107020109",
    );
    golden(
        ScheduleProgressRecord {
            paused: true,
            since_ms: 1_800_000_000_000,
            done_ms: Some(1_800_000_060_000),
            last_run: Some(LastRunRecord { slot_ms: 1_800_000_060_000, job: 1 << 90 }),
            skipped: 300,
        },
        "\
         010e1d211a1801fd00505c18a301000001fd603a5d18a301000001fd603a5d18a3010000fe0000\
         0000000000000000000400000000fb2c01",
    );
}

#[test]
fn a_job_with_keys_of_format_2_keeps_its_bytes() {
    let seldom = SeldomRecord {
        expires_ms: Some(9),
        ordering_key: Some("o".to_owned()),
        concurrency_key: Some("c".to_owned()),
        ..SeldomRecord::default()
    };
    let job = JobRecord { seldom: Some(Box::new(seldom)), ..JobRecord::default() };
    golden_2(
        LineRecord { id: 7, priority: 4, ready_at_ms: 300, job },
        "0210d55b5d600704fb2c01000000000000000000000000020001090001016f010163",
    );
}

#[test]
fn places_of_format_2_keep_their_bytes() {
    let numbers = |first| PerPriority::from_fn(|priority| first + u64::from(priority.number()));
    let places = PlacesRecord { taken: 300, waiting: numbers(0), first: numbers(70_000) };
    golden_2(
        places,
        "021140d420edfb2c010001020304fc70110100fc71110100fc72110100fc73110100fc74110100",
    );
    let admit_from = Some(Bytes::from_static(&[0, 1]));
    golden_2(
        QueueLinesRecord { waiting: numbers(1), admit_from },
        "0212a01e48eb010203040501020001",
    );
    let (kind, text) = (KeyKind::Concurrency, "c".to_owned());
    golden_2(
        LocationRecord::Line { kind, text, urgency: 4, order: 300 },
        "0207b357edc60301016304fb2c01",
    );
}
