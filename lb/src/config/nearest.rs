//! Which key was meant by one that nobody knows.

/// The key nearest to `typed`, if so few letters differ that it is a likely mistake.
pub(super) fn nearest<'a>(typed: &str, keys: &[&'a str]) -> Option<&'a str> {
    let likely = |key: &&&str| distance(typed, key) <= 1 + key.len() / 4;
    keys.iter().filter(likely).min_by_key(|key| distance(typed, key)).copied()
}

/// How many letters must be inserted, removed or replaced to make one text of the other.
///
/// Source: Wagner and Fischer, "The string-to-string correction problem" (1974), one row at a time.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("lisen", "listen", 1),
            ("listenn", "listen", 1),
            ("kitten", "sitting", 3),
            ("ämter", "amter", 1),
        ] {
            assert_eq!(distance(from, to), expected);
            assert_eq!(distance(to, from), expected);
        }
    }

    #[test]
    fn only_a_likely_key_is_suggested() {
        let keys = ["key", "path", "listen", "timeout_ms", "interval_ms"];
        for (typed, expected) in [
            ("kez", Some("key")),
            ("Path", Some("path")),
            ("timeout", Some("timeout_ms")),
            ("interval_secs", Some("interval_ms")),
            ("port", None),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, &keys), expected, "{typed}");
        }
    }
}
