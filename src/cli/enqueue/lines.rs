//! The lines of a file of jobs, each with its number.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::value::RawValue;

use super::batches::BATCH_BYTES_MAX;
use crate::error::{Error, ErrorKind, Result};

/// A job as it stands in its line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) job: Vec<u8>,
}

/// Reads jobs line by line.
pub(super) struct Lines {
    reader: Box<dyn BufRead>,
    name: String,
    /// The length of the file, where it has one.
    pub(super) bytes: Option<u64>,
    /// How much of it was read.
    pub(super) bytes_read: u64,
    number: u64,
    from_line: u64,
}

impl Lines {
    /// Opens a file, or stdin for `-`.
    ///
    /// # Errors
    /// Bad usage, when it can't be read.
    pub(super) fn open(path: &Path, from_line: u64) -> Result<Lines> {
        let name = path.display().to_string();
        let (reader, bytes): (Box<dyn BufRead>, _) = if name == "-" {
            (Box::new(BufReader::new(io::stdin())), None)
        } else {
            let file = File::open(path).map_err(|reason| unreadable(&name, &reason))?;
            let about = file.metadata().map_err(|reason| unreadable(&name, &reason))?;
            let bytes = about.is_file().then_some(about.len());
            (Box::new(BufReader::new(file)), bytes)
        };
        Ok(Lines { reader, name, bytes, bytes_read: 0, number: 0, from_line })
    }

    /// The next line with a job in it; empty ones are passed over.
    ///
    /// # Errors
    /// Bad usage, naming the line, when it is no JSON object or too long.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            let most = BATCH_BYTES_MAX as u64;
            let mut limited = (&mut self.reader).take(most + 1);
            let read = limited.read_until(b'\n', &mut line);
            let read = read.map_err(|reason| unreadable(&self.name, &reason))?;
            if read == 0 {
                return Ok(None);
            }
            self.bytes_read += read as u64;
            self.number += 1;
            let number = self.number;
            if line.len() as u64 > most {
                return Err(wrong(number, &format!("it is over {most} bytes")));
            }
            let job = line.trim_ascii();
            if number < self.from_line || job.is_empty() {
                continue;
            }
            match serde_json::from_slice::<&RawValue>(job) {
                Ok(_) if job.starts_with(b"{") => {
                    return Ok(Some(Line { number, job: job.to_vec() }));
                }
                Ok(_) => return Err(wrong(number, "it is no JSON object")),
                Err(reason) => return Err(wrong(number, &format!("it is no JSON: {reason}"))),
            }
        }
    }

    /// The line read last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

fn unreadable(name: &str, reason: &io::Error) -> Error {
    Error::new(ErrorKind::Configuration, format!("--file: {name} can't be read: {reason}"))
}

fn wrong(number: u64, reason: &str) -> Error {
    Error::new(ErrorKind::Configuration, format!("line {number}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, from_line: u64) -> Lines {
        let reader = Box::new(io::Cursor::new(text.to_owned()));
        Lines { reader, name: String::new(), bytes: None, bytes_read: 0, number: 0, from_line }
    }

    #[test]
    fn lines_are_numbered_and_empty_ones_passed_over() {
        let mut lines = lines("{\"a\":1.50}\r\n\n  {}\n[]", 1);
        let first = lines.next().unwrap().unwrap();
        assert_eq!((first.number, first.job.as_slice()), (1, &b"{\"a\":1.50}"[..]));
        assert_eq!(lines.next().unwrap().unwrap().number, 3);
        assert_eq!(lines.next().unwrap_err().to_string(), "line 4: it is no JSON object");
    }

    #[test]
    fn what_is_before_the_first_wanted_line_is_not_judged() {
        let mut lines = lines("nonsense\n{}\n{", 2);
        assert_eq!(lines.next().unwrap().unwrap().number, 2);
        assert!(lines.next().unwrap_err().to_string().starts_with("line 3: it is no JSON"));
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let text = "x".repeat(BATCH_BYTES_MAX + 10);
        assert!(lines(&text, 1).next().unwrap_err().to_string().contains("over"));
    }
}
