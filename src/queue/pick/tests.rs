use super::*;
use crate::queue::state::QueueState;

impl Picker {
    /// P2 and P4, of what is known by itself.
    fn assert_filed(&self) {
        let (mut levels, mut rises, mut unknown) =
            (Levels::default(), BTreeSet::new(), BTreeSet::new());
        for (lane, known) in &self.lanes {
            match known {
                Known::Nothing => {
                    assert!(self.ageing.ages(lane.priority), "P2: {lane:?} needs no look");
                    unknown.insert(*lane);
                }
                Known::Standing(standing, first) => {
                    let expected = match first {
                        Some(first) => {
                            self.ageing.standing(lane.priority, first.ready_at, self.now)
                        }
                        None => Standing { level: lane.priority, rises_at: None },
                    };
                    assert_eq!(*standing, expected, "P2: {lane:?}");
                    levels.insert(standing.level, *lane);
                    rises.extend(standing.rises_at.map(|moment| (moment, *lane)));
                }
            }
        }
        assert_eq!(format!("{:?}", self.levels), format!("{levels:?}"), "P2");
        assert_eq!((&self.rises, &self.unknown), (&rises, &unknown), "P4");
    }
}

impl QueueState {
    /// P1 to P4, with every head looked up.
    pub(in crate::queue) fn assert_picker(&mut self) {
        self.picker.assert_filed();
        let queues: Vec<QueueId> = self.queues.by_id.keys().copied().collect();
        let mut here = 0;
        for queue in queues {
            for priority in Priority::ALL {
                let lane = LaneId { priority, queue };
                let paused = self.queues.by_id[&queue].paused;
                let waits = self.queues.ready_jobs(lane) > 0 && !paused;
                let known = self.picker.lanes.get(&lane).copied();
                assert_eq!(known.is_some(), waits, "P1: {lane:?}");
                here += usize::from(waits);
                if let Some(Known::Standing(_, Some(first))) = known {
                    self.lanes.entry(lane).or_default().head = None;
                    let head = self.head(lane).unwrap().unwrap();
                    let (found, known) =
                        ((head.place, head.ready_at), (first.place, first.ready_at));
                    assert_eq!(found, known, "P3: {lane:?}");
                }
            }
        }
        assert_eq!(here, self.picker.lanes.len(), "P1");
    }
}

fn start() -> Timestamp {
    Timestamp::from_ms(1_000_000)
}

fn lane(queue: u32, priority: Priority) -> LaneId {
    LaneId { priority, queue: QueueId(queue) }
}

fn any() -> Wanted {
    Wanted { queues: None, priorities: PerPriority::from_fn(|_| true) }
}

/// Each level ages after a second. Lanes whose first job is ready since so many milliseconds.
fn picker(lanes: &[(u32, Priority, u64)]) -> Picker {
    let mut picker = Picker::new(PerPriority::from_fn(|_| 1_000));
    picker.set_now(start());
    for (queue, priority, waited_ms) in lanes {
        let lane = lane(*queue, *priority);
        picker.enter(lane);
        picker.job_came(lane, 1, start().minus_ms(*waited_ms), true);
        picker.assert_filed();
    }
    picker
}

/// The next turns, when no lane runs empty nor gets older.
fn turns(picker: &mut Picker, wanted: &Wanted, count: usize) -> Vec<(u32, Priority)> {
    let turn = |_| {
        let turn = picker.next(None, wanted)?;
        picker.served(&turn);
        Some((turn.lane.queue.0, turn.lane.priority))
    };
    (0..count).filter_map(turn).collect()
}

#[test]
fn what_counts_alike_is_served_in_turn() {
    let (critical, high, bulk) = (Priority::Critical, Priority::High, Priority::Bulk);
    let lanes = [(1, critical, 0), (2, bulk, 4_000), (2, high, 1_000), (3, critical, 0)];
    let mut picker = picker(&[&lanes[..], &[(1, high, 999), (4, bulk, 3_999)]].concat());
    let expected = [(1, critical), (2, high), (2, bulk), (3, critical), (1, critical), (2, high)];
    assert_eq!(turns(&mut picker, &any(), 6), expected);
    // Those that are less urgent by now come when the others are through.
    lanes.iter().for_each(|(queue, priority, _)| picker.leave(lane(*queue, *priority)));
    picker.assert_filed();
    let turn = picker.next(None, &any()).unwrap();
    assert_eq!((turn.lane, turn.level, turn.is_alone), (lane(1, high), high, false));
    picker.leave(lane(1, high));
    let turn = picker.next(None, &any()).unwrap();
    assert_eq!((turn.lane, turn.level, turn.is_alone), (lane(4, bulk), high, true));
}

#[test]
fn a_filter_means_a_lanes_own_priority() {
    let mut picker = picker(&[(1, Priority::High, 5_000), (2, Priority::Critical, 0)]);
    let only = |wanted| Wanted {
        queues: None,
        priorities: PerPriority::from_fn(|priority| priority == wanted),
    };
    assert_eq!(turns(&mut picker, &only(Priority::High), 2), [(1, Priority::High); 2]);
    assert_eq!(turns(&mut picker, &only(Priority::Critical), 2), [(2, Priority::Critical); 2]);
    assert_eq!(turns(&mut picker, &only(Priority::Low), 2), []);
    let queues = Some([QueueId(1), QueueId(9)].into());
    let named = Wanted { queues, ..any() };
    let mut levels = picker.levels_of(&named);
    let turn = picker.next(Some(&levels), &named).unwrap();
    assert_eq!((turn.lane, turn.is_alone), (lane(1, Priority::High), true));
    levels.remove(turn.level, turn.lane);
    assert_eq!(picker.next(Some(&levels), &named), None);
}

#[test]
fn lanes_rise_with_time_and_fall_when_the_clock_steps_back() {
    let bulk = lane(1, Priority::Bulk);
    let mut picker = picker(&[(1, Priority::Bulk, 10_000)]);
    for (waited_ms, level) in [
        (1_000, Priority::Low),
        (999, Priority::Bulk),
        (3_500, Priority::High),
        (4_000, Priority::Critical),
        (0, Priority::Bulk),
        (2_999, Priority::Default),
    ] {
        picker.set_now(start().minus_ms(10_000).plus_ms(waited_ms));
        picker.assert_filed();
        assert_eq!(picker.level(bulk), Some(level), "after {waited_ms} ms");
    }
    // Behind its first job, or in front of it.
    picker.job_came(bulk, 2, start(), false);
    assert_eq!(picker.level(bulk), Some(Priority::Default));
    picker.job_left(bulk, 2);
    assert_eq!(picker.level(bulk), Some(Priority::Default));
    picker.job_came(bulk, 0, start().minus_ms(20_000), false);
    assert_eq!(picker.level(bulk), Some(Priority::Critical));
    picker.job_left(bulk, 0);
    picker.assert_filed();
    assert_eq!((picker.level(bulk), picker.unknown_lanes(&any(), 9)), (None, vec![bulk]));
    picker.job_came(bulk, 3, start(), false);
    assert!(picker.is_unknown(bulk), "it is not the first");
}

#[test]
fn what_never_ages_needs_no_look() {
    let mut picker = Picker::new(PerPriority::from_fn(|priority| match priority {
        Priority::High => 0,
        _ => 1_000,
    }));
    for priority in Priority::ALL {
        picker.enter(lane(1, priority));
        picker.assert_filed();
    }
    let unknown = [Priority::Default, Priority::Low, Priority::Bulk];
    let lanes = unknown.map(|priority| lane(1, priority));
    assert_eq!(picker.unknown_lanes(&any(), 9), lanes);
    assert_eq!(picker.unknown_lanes(&any(), 2), lanes[..2]);
    let other = Wanted { queues: Some([QueueId(2)].into()), ..any() };
    assert_eq!(picker.unknown_lanes(&other, 9), []);
}
