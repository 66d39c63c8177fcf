//! A file: its durable bytes, and the changes since.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::mood::Survival;
use crate::chance::Chance;

/// A sector at least; a torn one ends within it.
const LEAST_SECTOR_BYTES: u64 = 512;

#[derive(Default)]
pub(super) struct File<'a> {
    durable: Vec<u8>,
    /// Each with the number of its operation.
    pending: Vec<(usize, Change<'a>)>,
}

/// One change of a file.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    Written { offset: u64, bytes: &'a [u8] },
    SetLength(u64),
}

impl Change<'_> {
    fn length_after(self, before: u64) -> u64 {
        match self {
            Change::Written { offset, bytes } => before.max(offset + bytes.len() as u64),
            Change::SetLength(length) => length,
        }
    }

    /// Changes what a window onto the file shows, which begins at `start`.
    fn show(self, start: u64, window: &mut [u8]) {
        let end = start + window.len() as u64;
        let within = |at: u64| (at.clamp(start, end) - start) as usize;
        match self {
            Change::Written { offset, bytes } => {
                let (from, until) = (within(offset), within(offset + bytes.len() as u64));
                if from < until {
                    let skipped = (start + from as u64 - offset) as usize;
                    window[from..until].copy_from_slice(&bytes[skipped..][..until - from]);
                }
            }
            Change::SetLength(length) => window[within(length)..].fill(0),
        }
    }
}

impl<'a> File<'a> {
    pub(super) fn durable(bytes: Vec<u8>) -> File<'a> {
        File { durable: bytes, pending: Vec::new() }
    }

    pub(super) fn change(&mut self, operation: usize, change: Change<'a>) {
        self.pending.push((operation, change));
    }

    /// Makes durable what was done before this operation.
    pub(super) fn harden(&mut self, before: usize) {
        let count = self.pending.partition_point(|(operation, _)| *operation < before);
        for (_, change) in self.pending.drain(..count) {
            let length = change.length_after(self.durable.len() as u64);
            self.durable.resize(length as usize, 0);
            change.show(0, &mut self.durable);
        }
    }

    pub(super) fn oldest_pending(&self) -> Option<usize> {
        self.pending.first().map(|(operation, _)| *operation)
    }

    /// The bytes that a power cut leaves.
    pub(super) fn survived(
        &self,
        survival: Survival,
        sector_bytes: u64,
        chance: &mut dyn Chance,
    ) -> Cow<'_, [u8]> {
        if survival == Survival::Nothing || self.pending.is_empty() {
            return Cow::Borrowed(&self.durable);
        }
        let mut lengths = vec![self.durable.len() as u64];
        for (_, change) in &self.pending {
            lengths.push(change.length_after(lengths[lengths.len() - 1]));
        }
        let (step, length) = self.length(survival, &lengths, chance);
        let tear = match survival {
            Survival::Before(_) | Survival::Metadata => None,
            _ => self.tear(chance),
        };
        let mut survived = self.durable.clone();
        survived.resize(length as usize, 0);
        for (sector, changed) in self.changed_sectors(sector_bytes, &lengths, step) {
            let start = sector * sector_bytes;
            let Some(window) = survived.get_mut(start as usize..) else { break };
            let window_bytes = window.len().min(sector_bytes as usize);
            let window = &mut window[..window_bytes];
            if changed.is_new {
                window.fill(0);
            }
            let count = changed.by.len();
            let kept = self.kept(survival, &changed.by, chance);
            match tear.filter(|at| at / sector_bytes == sector && count > 0) {
                Some(at) => {
                    let mut newest = window.to_vec();
                    self.show(&changed.by, start, &mut newest);
                    self.show(&changed.by[..kept.min(count - 1)], start, window);
                    let torn_bytes = window_bytes.min((at - start) as usize);
                    window[..torn_bytes].copy_from_slice(&newest[..torn_bytes]);
                }
                None => self.show(&changed.by[..kept], start, window),
            }
        }
        Cow::Owned(survived)
    }

    fn show(&self, changes: &[usize], start: u64, window: &mut [u8]) {
        for change in changes {
            self.pending[*change].1.show(start, window);
        }
    }

    /// The length that is on the disk, and how many changes have had their part in it.
    fn length(&self, survival: Survival, lengths: &[u64], chance: &mut dyn Chance) -> (usize, u64) {
        let last = lengths.len() - 1;
        let step = match survival {
            Survival::Nothing => 0,
            Survival::Everything | Survival::Metadata => last,
            Survival::Before(end) => self.pending.partition_point(|(done, _)| *done < end),
            Survival::Eighths(_) | Survival::Since(_) => {
                let step = chance.below(lengths.len() as u64) as usize;
                let more =
                    lengths.get(step + 1).map_or(0, |next| next.saturating_sub(lengths[step]));
                if more > 1 && chance.in_eight(4) {
                    return (step, lengths[step] + 1 + chance.below(more - 1));
                }
                step
            }
        };
        (step, lengths[step])
    }

    /// Where the newest write is torn, if it is: a byte of the sector in which it ended.
    fn tear(&self, chance: &mut dyn Chance) -> Option<u64> {
        let (_, Change::Written { offset, bytes }) = self.pending.last()? else { return None };
        let end = offset + bytes.len() as u64;
        if end == *offset || !chance.in_eight(2) {
            return None;
        }
        let first = (*offset).max((end - 1) / LEAST_SECTOR_BYTES * LEAST_SECTOR_BYTES);
        Some(first + chance.below(end - first))
    }

    /// The sectors that may not be as they are durable, and by which changes; `step` changes have
    /// had their part in the length on the disk.
    fn changed_sectors(
        &self,
        sector_bytes: u64,
        lengths: &[u64],
        step: usize,
    ) -> BTreeMap<u64, Changed> {
        let mut sectors = BTreeMap::<u64, Changed>::new();
        // Behind a cut that is not on the disk, what was written later went into other blocks.
        let mut hidden_from = u64::MAX;
        for (nth, (_, change)) in self.pending.iter().enumerate() {
            let touched = match *change {
                Change::Written { bytes: [], .. } => continue,
                Change::Written { offset, bytes } => {
                    let end = offset + bytes.len() as u64;
                    offset / sector_bytes..end.div_ceil(sector_bytes)
                }
                Change::SetLength(length) if length < lengths[nth] => {
                    let behind = length.div_ceil(sector_bytes);
                    match nth < step {
                        true => {
                            let gone = behind..lengths[nth].div_ceil(sector_bytes);
                            sectors.extend(gone.map(|sector| (sector, Changed::new())));
                        }
                        false => hidden_from = hidden_from.min(behind),
                    }
                    length / sector_bytes..behind
                }
                Change::SetLength(_) => continue,
            };
            for sector in touched.filter(|sector| *sector < hidden_from) {
                sectors.entry(sector).or_default().by.push(nth);
            }
        }
        sectors
    }

    /// How many of a sector's changes are on the disk.
    fn kept(&self, survival: Survival, by: &[usize], chance: &mut dyn Chance) -> usize {
        let newest = by.last().map_or(0, |newest| self.pending[*newest].0);
        let all_or_none = |all| if all { by.len() } else { 0 };
        match survival {
            Survival::Nothing | Survival::Metadata => 0,
            Survival::Everything => by.len(),
            Survival::Eighths(eighths) if by.is_empty() || !chance.in_eight(eighths) => 0,
            Survival::Eighths(_) => by.len() - chance.below(by.len() as u64) as usize,
            Survival::Before(end) => by.partition_point(|nth| self.pending[*nth].0 < end),
            Survival::Since(from) => all_or_none(newest >= from),
        }
    }
}

/// What may have become of a sector.
#[derive(Default)]
struct Changed {
    /// It was given up since, and is zeros before the changes.
    is_new: bool,
    /// The pending changes that touched it.
    by: Vec<usize>,
}

impl Changed {
    fn new() -> Changed {
        Changed { is_new: true, by: Vec::new() }
    }
}
