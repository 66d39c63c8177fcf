//! How the pending changes of one image survive.

use std::ops::Range;

use super::Number;
use crate::chance::Chance;

/// What survives of the pending changes of one file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survival {
    Nothing,
    Everything,
    /// So many of eight sectors, and the names and the length as it comes.
    Eighths(u64),
    /// Names and lengths, and no data: what a file system does that writes its metadata first.
    Metadata,
    /// What was done before this operation: the disk keeps the order.
    Before(usize),
    /// The sectors that were changed since this operation, and none of the others: the disk turns
    /// the order round.
    Since(usize),
}

/// How an image treats what is pending.
pub(super) struct Mood {
    pub(super) sector_bytes: u64,
    kind: Kind,
    /// The operations among which the pending ones are.
    pending: Range<usize>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// All files and directories alike.
    All(Survival),
    /// One is treated apart from all others.
    Apart { number: Number, it: Survival, others: Survival },
    /// Each as it comes.
    Each,
}

impl Mood {
    /// The mood of a disk whose power is not cut.
    pub(super) fn everything() -> Mood {
        Mood { sector_bytes: 4096, kind: Kind::All(Survival::Everything), pending: 0..0 }
    }

    /// Draws the mood for an image in which these files and directories have pending changes, made
    /// by these operations.
    pub(super) fn draw(chance: &mut dyn Chance, changed: &[Number], pending: Range<usize>) -> Mood {
        let sector_bytes = [512, 4096][chance.below(2) as usize];
        let kind = match chance.below(3) {
            0 => Kind::All(survival(&pending, chance)),
            1 => Kind::Each,
            _ => Kind::Apart {
                number: changed[chance.below(changed.len() as u64) as usize],
                it: survival(&pending, chance),
                others: survival(&pending, chance),
            },
        };
        Mood { sector_bytes, kind, pending }
    }

    pub(super) fn survival(&self, number: Number, chance: &mut dyn Chance) -> Survival {
        match self.kind {
            Kind::All(survival) => survival,
            Kind::Apart { number: apart, it, others } => match apart == number {
                true => it,
                false => others,
            },
            Kind::Each => survival(&self.pending, chance),
        }
    }
}

fn survival(pending: &Range<usize>, chance: &mut dyn Chance) -> Survival {
    let count = pending.len() as u64 + 1;
    match chance.below(8) {
        0 => Survival::Nothing,
        1 => Survival::Everything,
        2 => Survival::Eighths(1),
        3 => Survival::Eighths(4),
        4 => Survival::Eighths(7),
        5 => Survival::Metadata,
        6 => Survival::Before(pending.start + chance.below(count) as usize),
        _ => Survival::Since(pending.end - chance.below(count) as usize),
    }
}
