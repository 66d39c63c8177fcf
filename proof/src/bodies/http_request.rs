//! `http_request`: any bytes at the real router, behind a real hyper connection.
//!
//! An input is a session: parts between bytes 0x1E, each one thing that happens to a node.
//!
//! | begins with | what happens |
//! |---|---|
//! | `+` | the clock goes on by the digits that follow, in milliseconds |
//! | `!` | the node drains |
//! | `>` | the rest goes over a connection as it is |
//! | `<` | so it does, and the client goes away without waiting |
//! | anything else | `METHOD PATH`, lines of headers, an empty line, a body: a request made whole |
//!
//! `$i0` stands for the newest job id in an answer so far, `$i1` for the one before; so do `$t` for
//! tokens, `$c` for cursors and `$r` for replays.

mod answer;
mod client;
mod node;
mod words;

use node::Node;

/// The most parts of one session.
const PARTS_MAX: usize = 60;

/// Any session ends with a node that works, a sound store, and answers as the manual has them.
///
/// # Panics
/// When it does not.
pub fn http_request(input: &[u8]) {
    let mut node = Node::new();
    for part in input.split(|byte| *byte == 0x1E).take(PARTS_MAX) {
        match part.split_first() {
            None => {}
            Some((b'+', digits)) => node.wait(words::number(digits)),
            Some((b'!', _)) => node.drain(),
            Some((b'>', bytes)) => node.converse(&node.words().filled_in(bytes), true),
            Some((b'<', bytes)) => node.converse(&node.words().filled_in(bytes), false),
            Some(_) => node.converse(&words::request(&node.words().filled_in(part)), true),
        }
    }
    node.end();
}
