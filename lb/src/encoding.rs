//! Text files as editors and tools of other systems write them: with a byte order mark, with CRLF, with stray spaces.

/// What some editors begin a file of UTF-8 with.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A file's text without its byte order mark.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A PEM file as its parser expects it: each line without a byte order mark, and without spaces at its ends. Where files
/// were joined, there is a mark in the middle.
pub(crate) fn plain_pem(file: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(file.len() + 1);
    for line in file.split(|&byte| byte == b'\n') {
        let line = line.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(line);
        plain.extend_from_slice(line.trim_ascii());
        plain.push(b'\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_mark_is_no_text() {
        for (text, without) in
            [("", ""), ("a", "a"), ("\u{feff}a", "a"), ("a\u{feff}", "a\u{feff}")]
        {
            assert_eq!(without_mark(text), without);
        }
    }

    #[test]
    fn lines_of_pem_are_trimmed() {
        let file =
            "\u{feff}-----BEGIN A-----\r\n AA==\t\r\n-----END A----- \r\n\u{feff}-----BEGIN B-----";
        let plain = plain_pem(file.as_bytes());
        assert_eq!(
            String::from_utf8(plain).unwrap(),
            "-----BEGIN A-----\nAA==\n-----END A-----\n-----BEGIN B-----\n"
        );
    }
}
