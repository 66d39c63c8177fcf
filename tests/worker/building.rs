//! What a worker can't be made of.

use pulk::worker::{Job, WorkerBuilder};
use pulk::{ErrorKind, Priority};

use crate::rig::Rig;

fn mail(builder: WorkerBuilder) -> WorkerBuilder {
    builder.handle("mail", |_: Job<u32>| async {})
}

#[tokio::test]
async fn what_can_not_work_is_refused_with_a_sentence() {
    let rig = Rig::new().await;
    let new = || rig.worker();
    let good = || mail(new());
    let many_queues = (0..1_001).map(|number| format!("q{number}"));
    let cases = [
        (new(), "a worker without a handler"),
        (mail(good()), "kind mail has two handlers"),
        (new().handle("a b", |_: Job<u32>| async {}), "a handler's kind: \"a b\" has ' ' in it"),
        (new().handle("", |_: Job<u32>| async {}), "a handler's kind: must not be empty"),
        (good().concurrency(0), "concurrency: 0 is out of range; use 1 to 10000"),
        (good().concurrency(10_001), "concurrency: 10001 is out of range"),
        (good().concurrency(4).reserved(4), "reserved: 4 of 4 slots leave none"),
        (good().priorities([Priority::Low]).concurrency(4).reserved(1), "would stay empty"),
        (good().lease_ms(0), "lease_ms: 0 is out of range"),
        (good().name("n".repeat(65)), "has 65 bytes; use 1 to 64"),
        (good().name(""), "has 0 bytes"),
        (good().queues(["ok", "a b"]), "a worker's queue: \"a b\""),
        (good().queues(many_queues), "1001 queues are too many"),
    ];
    for (builder, sentence) in cases {
        let Err(error) = builder.build() else { panic!("it was built: {sentence}") };
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains(sentence), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_said_has_a_default() {
    let rig = Rig::new().await;
    let running = mail(rig.worker()).concurrency(8).build().unwrap().start();
    let stats = running.stats();
    assert_eq!((stats.concurrency, stats.reserved, stats.running), (8, 2, 0));
    let filtered = mail(rig.worker()).concurrency(8).priorities([Priority::Low]);
    assert_eq!(filtered.build().unwrap().start().stats().reserved, 0);
    let unnamed = mail(pulk::worker::Worker::builder(rig.queue.clone())).build().unwrap().start();
    assert!(!unnamed.stats().name.is_empty());
}
