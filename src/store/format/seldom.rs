//! What few jobs have. Format 1 wrote it as an option: a byte 0 or 1, then the first three fields.
//! The same bytes are those of an enum, to which format 2 adds a variant 2 with the keys. So every
//! job of format 1 is one of format 2, and jobs without keys keep their bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::JobRecord;
use crate::job::QueueId;
use crate::store::key::{KeyKind, SharedKey};

/// What few jobs have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SeldomRecord {
    /// Its unique key, held while it lives and is not dead.
    pub(crate) unique: Option<UniqueKeyRecord>,
    /// It becomes a dead letter when no worker has started it by then.
    pub(crate) expires_ms: Option<u64>,
    /// The replay of many that put it back to work last.
    pub(crate) replay: Option<u64>,
    /// Jobs with the same one run in turn.
    pub(crate) ordering_key: Option<String>,
    /// So many jobs with the same one run at a time.
    pub(crate) concurrency_key: Option<String>,
}

impl JobRecord {
    /// It is put back to work, by this background replay if by one. It does not expire any more.
    pub(crate) fn note_replay(&mut self, replay: Option<u64>) {
        let mut seldom = self.seldom.take().unwrap_or_default();
        (seldom.expires_ms, seldom.replay) = (None, replay);
        self.seldom = (*seldom != SeldomRecord::default()).then_some(seldom);
    }
}

/// A job's unique key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UniqueKeyRecord {
    pub(crate) key: String,
    /// So long after the job's birth the key is free, whatever the job does.
    pub(crate) ttl_ms: Option<u64>,
}

impl JobRecord {
    /// The key of this kind that it carries.
    pub(crate) fn shared_key(&self, queue: QueueId, kind: KeyKind) -> Option<SharedKey> {
        let seldom = self.seldom.as_ref()?;
        let text = match kind {
            KeyKind::Ordering => seldom.ordering_key.as_ref()?,
            KeyKind::Concurrency => seldom.concurrency_key.as_ref()?,
        };
        Some(SharedKey { queue, kind, text: text.clone() })
    }

    /// Bytes of the keys that it shares with others.
    pub(crate) fn shared_key_bytes(&self) -> usize {
        let Some(seldom) = &self.seldom else { return 0 };
        let keys = [&seldom.ordering_key, &seldom.concurrency_key];
        keys.into_iter().flatten().map(String::len).sum()
    }

    /// True when it shares a key with others.
    pub(crate) fn has_shared_key(&self) -> bool {
        self.seldom.as_ref().is_some_and(|seldom| seldom.has_shared_key())
    }
}

impl SeldomRecord {
    fn has_shared_key(&self) -> bool {
        self.ordering_key.is_some() || self.concurrency_key.is_some()
    }
}

#[derive(Serialize)]
enum Written<'a> {
    None,
    Some(&'a Option<UniqueKeyRecord>, Option<u64>, Option<u64>),
    WithKeys(
        &'a Option<UniqueKeyRecord>,
        Option<u64>,
        Option<u64>,
        &'a Option<String>,
        &'a Option<String>,
    ),
}

#[derive(Deserialize)]
enum Read {
    None,
    Some(Option<UniqueKeyRecord>, Option<u64>, Option<u64>),
    WithKeys(Option<UniqueKeyRecord>, Option<u64>, Option<u64>, Option<String>, Option<String>),
}

pub(super) fn serialize<S: Serializer>(
    seldom: &Option<Box<SeldomRecord>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let written = match seldom.as_deref() {
        None => Written::None,
        Some(seldom) => {
            let SeldomRecord { unique, expires_ms, replay, ordering_key, concurrency_key } = seldom;
            match seldom.has_shared_key() {
                false => Written::Some(unique, *expires_ms, *replay),
                true => {
                    let (expires_ms, replay) = (*expires_ms, *replay);
                    Written::WithKeys(unique, expires_ms, replay, ordering_key, concurrency_key)
                }
            }
        }
    };
    written.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<SeldomRecord>>, D::Error> {
    let (unique, expires_ms, replay, ordering_key, concurrency_key) =
        match Read::deserialize(deserializer)? {
            Read::None => return Ok(None),
            Read::Some(unique, expires_ms, replay) => (unique, expires_ms, replay, None, None),
            Read::WithKeys(unique, expires_ms, replay, ordering, concurrency) => {
                (unique, expires_ms, replay, ordering, concurrency)
            }
        };
    let seldom = SeldomRecord { unique, expires_ms, replay, ordering_key, concurrency_key };
    Ok(Some(Box::new(seldom)))
}
