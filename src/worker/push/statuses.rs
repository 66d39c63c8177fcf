//! Lists of HTTP statuses, as the settings have them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Statuses by number (`429`) or by class (`5xx`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Vec<StatusName>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusName {
    Number(u16),
    /// 3 to 5: the first digit.
    Class(u16),
}

/// Which statuses mean what. [`AnswerRules::default`] is the table at the top of `answer.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRules {
    /// With `Retry-After` the job waits so long; without, the other two decide.
    pub wait: Statuses,
    /// The attempt failed.
    pub retry: Statuses,
    /// The job is dead. So it is with a status that no list names.
    pub reject: Statuses,
}

impl Default for AnswerRules {
    fn default() -> Self {
        use StatusName::{Class, Number};
        AnswerRules {
            wait: Statuses(vec![Number(429), Number(503)]),
            retry: Statuses(vec![Number(408), Number(429), Class(5)]),
            reject: Statuses(vec![Class(3), Class(4)]),
        }
    }
}

impl AnswerRules {
    /// Checks that no status is in both lists that end an attempt.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming the status.
    pub fn validate(&self) -> Result<()> {
        match self.retry.0.iter().find(|name| self.reject.0.contains(name)) {
            None => Ok(()),
            Some(both) => Err(Error::new(
                ErrorKind::Configuration,
                format!(
                    "push_retry_statuses, push_reject_statuses: {both} is in both; leave it out of \
                     one"
                ),
            )),
        }
    }
}

impl Statuses {
    /// 2 when the status is named by its number, 1 by its class, 0 not at all.
    pub(super) fn rank(&self, status: u16) -> u8 {
        let rank = |name: &StatusName| match *name {
            StatusName::Number(number) if number == status => 2,
            StatusName::Class(class) if class == status / 100 => 1,
            StatusName::Number(_) | StatusName::Class(_) => 0,
        };
        self.0.iter().map(rank).max().unwrap_or(0)
    }
}

impl FromStr for Statuses {
    type Err = Error;

    /// Numbers and classes with commas between them; an empty text is none.
    fn from_str(text: &str) -> Result<Self> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::parse).collect::<Result<_>>().map(Statuses)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&names.join(","))
    }
}

impl FromStr for StatusName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let class = ["3xx", "4xx", "5xx"].iter().position(|class| class.eq_ignore_ascii_case(text));
        let number = text.parse().ok().filter(|number| (300..=599).contains(number));
        match (class, number) {
            (Some(class), _) => Ok(StatusName::Class(3 + class as u16)),
            (None, Some(number)) => Ok(StatusName::Number(number)),
            (None, None) => Err(Error::new(
                ErrorKind::Configuration,
                format!("{text:?} is not a status; use 300 to 599, 3xx, 4xx or 5xx"),
            )),
        }
    }
}

impl fmt::Display for StatusName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusName::Number(number) => write!(formatter, "{number}"),
            StatusName::Class(class) => write!(formatter, "{class}xx"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_written_as_they_are_read_and_contradictions_are_named() {
        let statuses: Statuses = " 404,5xx ,".parse().unwrap();
        assert_eq!(statuses.to_string(), "404,5xx");
        for wrong in ["200", "2xx", "99", "600", "abc", "-1"] {
            let error = wrong.parse::<Statuses>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let both = AnswerRules { retry: "4xx".parse().unwrap(), ..AnswerRules::default() };
        assert!(both.validate().unwrap_err().to_string().contains("4xx is in both"));
    }
}
