//! Where a job stands in the order of all jobs, and the text that a page's cursor is.

use std::fmt;
use std::ops::RangeInclusive;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, QueueId, limits};
use crate::priority::Priority;
use crate::store::key::{KeyKind, LaneId, LinePlace, SharedKey};

const SHARED_KEY_BYTES: RangeInclusive<usize> = 1..=limits::SHARED_KEY_BYTES_MAX;

/// A job's place in the order of all jobs: first the lanes, then the lines, then the timers, then
/// the dead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Position {
    Lane(LaneId, u64),
    Line(LinePlace),
    Timer(Timestamp, JobId),
    Dead(QueueId, Timestamp, JobId),
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Lane(lane, place) => {
                write!(formatter, "lane.{}.{}.{place}", lane.priority, lane.queue.0)
            }
            Position::Line(LinePlace { of, urgency, order }) => {
                let kind = match of.kind {
                    KeyKind::Ordering => "ordering",
                    KeyKind::Concurrency => "concurrency",
                };
                write!(formatter, "line.{}.{kind}.{urgency}.{order}.{}", of.queue.0, of.text)
            }
            Position::Timer(due, id) => write!(formatter, "timer.{}.{id}", due.as_ms()),
            Position::Dead(queue, died_at, id) => {
                write!(formatter, "dead.{}.{}.{id}", queue.0, died_at.as_ms())
            }
        }
    }
}

impl Position {
    /// The position that a cursor stands for.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for any text that no page gave.
    pub(crate) fn from_cursor(text: &str) -> Result<Position> {
        // Strictly what is written above: one position has one text.
        read(text).filter(|position| position.to_string() == text).ok_or_else(|| {
            Error::invalid(
                "cursor",
                format!("{text:?} is not a cursor; use next_cursor of the page before"),
            )
        })
    }
}

fn read(text: &str) -> Option<Position> {
    // A line's key is last, and may have any text in it.
    let parts: Vec<&str> = match text.starts_with("line.") {
        true => text.splitn(6, '.').collect(),
        false => text.split('.').collect(),
    };
    let queue = |text: &str| text.parse().ok().filter(|queue| *queue <= QueueId::MAX).map(QueueId);
    let moment = |text: &str| {
        let ms = text.parse::<u64>().ok().filter(|ms| *ms <= Timestamp::MAX.as_ms());
        ms.map(Timestamp::from_ms)
    };
    Some(match parts.as_slice() {
        ["lane", priority, in_queue, place] => {
            let lane =
                LaneId { priority: priority.parse::<Priority>().ok()?, queue: queue(in_queue)? };
            let place = place.parse().ok().filter(|place| *place <= JobId::SEQUENCE_MAX)?;
            Position::Lane(lane, place)
        }
        ["line", in_queue, kind, urgency, order, text] => {
            let kind = match *kind {
                "ordering" => KeyKind::Ordering,
                "concurrency" => KeyKind::Concurrency,
                _ => return None,
            };
            let text = Some(*text).filter(|text| SHARED_KEY_BYTES.contains(&text.len()))?;
            let of = SharedKey { queue: queue(in_queue)?, kind, text: text.to_owned() };
            let urgency = urgency.parse::<Priority>().ok()?;
            Position::Line(LinePlace { of, urgency, order: order.parse().ok()? })
        }
        ["timer", due, id] => Position::Timer(moment(due)?, id.parse().ok()?),
        ["dead", of_queue, died_at, id] => {
            Position::Dead(queue(of_queue)?, moment(died_at)?, id.parse().ok()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    pub(in crate::queue::list) fn position() -> impl Strategy<Value = Position> {
        let id = || any::<u128>().prop_map(JobId::from_u128);
        let queue = || prop_oneof![0..9u32, 0..=QueueId::MAX].prop_map(QueueId);
        let moment = || (0..=Timestamp::MAX.as_ms()).prop_map(Timestamp::from_ms);
        prop_oneof![
            (0..5u8, queue(), prop_oneof![0..500u64, 0..=JobId::SEQUENCE_MAX]).prop_map(
                |(priority, queue, place)| {
                    let priority = Priority::from_number(priority).unwrap();
                    Position::Lane(LaneId { priority, queue }, place)
                }
            ),
            (queue(), any::<bool>(), 0..5u8, ".{1,9}", any::<u64>()).prop_map(
                |(queue, ordering, urgency, text, order)| {
                    let kind = if ordering { KeyKind::Ordering } else { KeyKind::Concurrency };
                    let urgency = Priority::from_number(urgency).unwrap();
                    Position::Line(LinePlace {
                        of: SharedKey { queue, kind, text },
                        urgency,
                        order,
                    })
                }
            ),
            (moment(), id()).prop_map(|(due, id)| Position::Timer(due, id)),
            (queue(), moment(), id()).prop_map(|(queue, at, id)| Position::Dead(queue, at, id)),
        ]
    }

    proptest! {
        #[test]
        fn a_cursor_goes_there_and_back(position in position()) {
            let text = position.to_string();
            prop_assert_eq!(Position::from_cursor(&text).unwrap(), position.clone());
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(
            text in "((lane|timer|dead|)\\.?(low|LOW|[0-9]{0,20})\\.?[0-9A-Z+-]{0,26}.{0,4}){0,2}",
        ) {
            match Position::from_cursor(&text) {
                Ok(position) => prop_assert_eq!(position.to_string(), text),
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::Invalid);
                    prop_assert_eq!(error.field(), Some("cursor"));
                }
            }
        }
    }

    #[test]
    fn what_no_page_gave_is_refused() {
        let id = JobId::from_u128(7);
        for text in [
            String::new(),
            "lane".to_owned(),
            "lane.low.1".to_owned(),
            "lane.LOW.1.1".to_owned(),
            "lane.low.1.01".to_owned(),
            "lane.low.1.+1".to_owned(),
            "lane.low.131072.1".to_owned(),
            format!("lane.low.1.{}", JobId::SEQUENCE_MAX + 1),
            "lane.low.1.1.".to_owned(),
            "line.1.ordering.critical.1".to_owned(),
            "line.1.ordering.critical.1.".to_owned(),
            "line.1.other.critical.1.a".to_owned(),
            format!("line.1.ordering.critical.1.{}", "k".repeat(257)),
            format!("timer.{}.{id}", Timestamp::MAX.as_ms() + 1),
            format!("timer.1.{id}x"),
            format!("timer.1.{}", "O".repeat(26)),
            format!("dead.1.2.{id}.3"),
            format!(" dead.1.2.{id}"),
            format!("1.2.{id}"),
            format!("dead.1.2.{}", JobId::from_u128(u128::MAX).to_string().to_lowercase()),
        ] {
            assert!(Position::from_cursor(&text).is_err(), "{text:?}");
        }
    }
}
