//! What is said in a session: requests put together, and the ids that answers gave.

use serde_json::Value;

/// Where an answer has given nothing yet.
const NOBODY: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// What the answers so far have named, oldest first.
#[derive(Clone, Default)]
pub(super) struct Words {
    ids: Vec<String>,
    tokens: Vec<String>,
    cursors: Vec<String>,
    replays: Vec<String>,
}

impl Words {
    /// Remembers what an answer names.
    pub(super) fn hear(&mut self, answer: &Value) {
        match answer {
            Value::Array(all) => all.iter().for_each(|each| self.hear(each)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    let heard = match (name.as_str(), value) {
                        ("id", Value::String(_)) => &mut self.ids,
                        ("id", Value::Number(_)) => &mut self.replays,
                        ("token", Value::String(_)) => &mut self.tokens,
                        ("next_cursor", Value::String(_)) => &mut self.cursors,
                        _ => {
                            self.hear(value);
                            continue;
                        }
                    };
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    if heard.last() != Some(&text) {
                        heard.push(text);
                    }
                }
            }
            _ => {}
        }
    }

    /// The text with what the placeholders stand for.
    pub(super) fn filled_in(&self, text: &[u8]) -> Vec<u8> {
        let (mut filled, mut rest) = (Vec::with_capacity(text.len()), text);
        while let Some((first, behind)) = rest.split_first() {
            match (first, behind) {
                (b'$', [what @ (b'i' | b't' | b'c' | b'r'), nth @ b'0'..=b'9', behind @ ..]) => {
                    filled.extend(self.named(*what, usize::from(nth - b'0')).bytes());
                    rest = behind;
                }
                _ => {
                    filled.push(*first);
                    rest = behind;
                }
            }
        }
        filled
    }

    fn named(&self, what: u8, nth: usize) -> String {
        let newest = |heard: &[String]| heard.iter().rev().nth(nth).cloned();
        match what {
            b'i' => newest(&self.ids).unwrap_or_else(|| NOBODY.to_owned()),
            b't' => newest(&self.tokens).unwrap_or_else(|| format!("{NOBODY}-1")),
            b'c' => newest(&self.cursors).unwrap_or_else(|| format!("timer.0.{NOBODY}")),
            _ => newest(&self.replays).unwrap_or_else(|| "1".to_owned()),
        }
    }
}

/// The number in these digits; what is none counts as zero.
pub(super) fn number(digits: &[u8]) -> u64 {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.trim().parse().ok()).unwrap_or(0)
}

/// The bytes of a request: what is missing for it to be one is added.
pub(super) fn request(part: &[u8]) -> Vec<u8> {
    let (head, body) = match part.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&part[..at], &part[at + 2..]),
        None => (part, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut request = lines.next().unwrap_or_default().to_vec();
    request.extend(b" HTTP/1.1\r\nhost: node\r\n");
    let mut has_type = false;
    for line in lines {
        has_type |= line.to_ascii_lowercase().starts_with(b"content-type");
        request.extend(line);
        request.extend(b"\r\n");
    }
    if !body.is_empty() {
        if !has_type {
            request.extend(b"content-type: application/json\r\n");
        }
        request.extend(format!("content-length: {}\r\n", body.len()).bytes());
    }
    request.extend(b"\r\n");
    request.extend(body);
    request
}
