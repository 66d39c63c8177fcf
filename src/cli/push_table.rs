//! The `[[push]]` tables of the file: a push target each, with the jobs that it takes.

use std::fs;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{mask, settings};
use crate::job::NewJob;
use crate::worker::push::{Secret, TargetConfig, TargetUrl};

/// The key of the tables in the file.
pub(super) const KEY: &str = "push";
/// What a table may have.
const KEYS: [&str; 8] =
    ["name", "url", "queues", "kinds", "concurrency", "timeout_ms", "secret", "secret_file"];
/// A file that is longer holds no secret.
const SECRET_BYTES_MAX: u64 = 4 << 10;

/// One table. What it does not say is as the settings have it for the target of all jobs.
#[derive(Clone, Debug, Default)]
pub(super) struct PushTable {
    name: Option<String>,
    url: Option<TargetUrl>,
    queues: Vec<String>,
    kinds: Vec<String>,
    concurrency: Option<usize>,
    timeout_ms: Option<u64>,
    /// `Some(None)`: an empty one, so none.
    secret: Option<Option<Secret>>,
    /// As `--print-config` shows it.
    shown: Vec<(String, String)>,
}

/// What is wrong, and where it begins in the file's text.
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) reason: String,
}

/// Reads the tables in their order.
pub(super) fn read(key_at: usize, value: &Spanned<DeValue<'_>>) -> Result<Vec<PushTable>, Wrong> {
    let misplaced = |reason: &str| Wrong { at: key_at, key: KEY.into(), reason: reason.into() };
    let DeValue::Array(tables) = value.get_ref() else {
        return Err(misplaced("write each target as a table of its own under [[push]]"));
    };
    let table = |table: &Spanned<DeValue<'_>>| match table.get_ref() {
        DeValue::Table(keys) => PushTable::read(table.span().start, keys),
        _ => Err(misplaced("write each target as a table of its own under [[push]]")),
    };
    tables.iter().map(table).collect()
}

impl PushTable {
    fn read(at: usize, keys: &DeTable<'_>) -> Result<PushTable, Wrong> {
        let mut table = PushTable::default();
        let mut keys: Vec<_> = keys.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in keys {
            let taken = table.take(key.get_ref(), value.get_ref());
            taken.map_err(|reason| Wrong {
                at: key.span().start,
                key: format!("{KEY}.{}", key.get_ref()),
                reason,
            })?;
        }
        match table.url {
            Some(_) => Ok(table),
            None => {
                let reason = "the table has no url; give one like http://127.0.0.1:3000/jobs";
                Err(Wrong { at, key: KEY.into(), reason: reason.into() })
            }
        }
    }

    fn take(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        let mut shown = None;
        match key {
            "name" => self.name = Some(text(value)?.to_owned()),
            "url" => {
                let url = text(value)?;
                shown = Some(settings::quoted(&mask::url(url)));
                self.url = Some(url.parse().map_err(|reason| format!("{reason}"))?);
            }
            "queues" => self.queues = names(value, |name| NewJob::new("kind").queue(name))?,
            "kinds" => self.kinds = names(value, |name| NewJob::new(name))?,
            "concurrency" => {
                let most = whole(value)?;
                self.concurrency = Some(usize::try_from(most).unwrap_or(usize::MAX));
            }
            "timeout_ms" => self.timeout_ms = Some(whole(value)?),
            "secret" | "secret_file" if self.secret.is_some() => {
                return Err("secret and secret_file say the same; leave out one".to_owned());
            }
            "secret" => {
                shown = Some(settings::quoted(mask::SECRET));
                self.secret = Some(secret(text(value)?)?);
            }
            "secret_file" => self.secret = Some(secret_in_file(text(value)?)?),
            _ => return Err(unknown(key)),
        }
        let value = shown.unwrap_or_else(|| in_toml(value));
        self.shown.push((key.to_owned(), value));
        Ok(())
    }

    /// The target; `number` is its place among the tables, from 1, and `standard` what holds
    /// where it says nothing.
    pub(super) fn target(&self, number: usize, standard: &TargetConfig) -> TargetConfig {
        TargetConfig {
            name: self.name.clone().unwrap_or_else(|| format!("push-{number}")),
            url: self.url.clone().unwrap_or_else(|| standard.url.clone()),
            queues: self.queues.clone(),
            kinds: self.kinds.clone(),
            concurrency: self.concurrency.unwrap_or(standard.concurrency),
            timeout_ms: self.timeout_ms.unwrap_or(standard.timeout_ms),
            secret: self.secret.clone().unwrap_or_else(|| standard.secret.clone()),
        }
    }

    /// As TOML, without secrets.
    pub(super) fn to_toml(&self) -> String {
        let lines = self.shown.iter().map(|(key, value)| format!("{key} = {value} # file\n"));
        format!("\n[[{KEY}]]\n{}", lines.collect::<String>())
    }
}

/// A secret in a setting; an empty one is none.
pub(super) fn secret(text: &str) -> Result<Option<Secret>, String> {
    match text {
        "" => Ok(None),
        text => Secret::new(text).map(Some).map_err(|reason| reason.to_string()),
    }
}

/// A secret in a file, without the line end behind it. No file's name is no secret.
pub(super) fn secret_in_file(path: &str) -> Result<Option<Secret>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let found = fs::metadata(path).and_then(|found| match found.len() <= SECRET_BYTES_MAX {
        true => fs::read_to_string(path),
        false => Err(std::io::Error::other("it is too large for a secret")),
    });
    let text = found.map_err(|reason| format!("{path} can't be read: {reason}"))?;
    let secret = Secret::new(text.trim_end_matches(['\n', '\r']));
    secret.map(Some).map_err(|reason| format!("{path}: {reason}"))
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| "use a text in quotes".to_owned())
}

fn whole(value: &DeValue<'_>) -> Result<u64, String> {
    let number = match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    // What TOML itself can write.
    number
        .filter(|number| i64::try_from(*number).is_ok())
        .ok_or_else(|| "use a whole number from 0".to_owned())
}

fn names(value: &DeValue<'_>, job: impl Fn(&str) -> NewJob) -> Result<Vec<String>, String> {
    let list = || "use a list of texts; leave it out for all".to_owned();
    let DeValue::Array(items) = value else { return Err(list()) };
    let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
    let texts = texts.filter(|texts| !texts.is_empty()).ok_or_else(list)?;
    let name = |text: &&str| match job(text).validate() {
        Ok(()) => Ok((*text).to_owned()),
        Err(reason) => Err(format!("{text:?}: {reason}")),
    };
    texts.iter().map(name).collect()
}

fn in_toml(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(_) => whole(value).map_or_else(|_| String::new(), |n| n.to_string()),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| in_toml(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        other => settings::quoted(other.as_str().unwrap_or_default()),
    }
}

fn unknown(key: &str) -> String {
    let nearest = KEYS.into_iter().map(|known| (strsim::jaro_winkler(key, known), known));
    match nearest.max_by(|one, other| one.0.total_cmp(&other.0)) {
        Some((likeness, known)) if likeness >= super::config_file::LIKENESS_MIN => {
            format!("there is no such key in a push table; did you mean {known}?")
        }
        _ => format!("there is no such key in a push table; use {}", KEYS.join(", ")),
    }
}
