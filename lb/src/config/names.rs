//! Which names an engine takes for containers and services. Each rule is narrower than that for replicas, so only the
//! difference is checked here.

use ringmaster_fleet::ReplicaName;

/// The shortest name of a container.
const CONTAINER_CHARS_MIN: usize = 2;

/// Whether a container can have this name; else the rule that it breaks, in one line.
pub(crate) fn container(name: &ReplicaName) -> Result<(), String> {
    if name.as_str().len() >= CONTAINER_CHARS_MIN {
        return Ok(());
    }
    Err(format!(
        "bad name {:?}: the name of a container has at least {CONTAINER_CHARS_MIN} characters",
        name.as_str()
    ))
}

/// Whether a service of a Swarm can have this name beside `others`; else the rule that it breaks, in one line.
pub(crate) fn service<'a>(
    name: &ReplicaName,
    others: impl IntoIterator<Item = &'a ReplicaName>,
) -> Result<(), String> {
    let text = name.as_str();
    let ends_well = text.ends_with(|last: char| last.is_ascii_alphanumeric());
    if text.contains('.') || !ends_well {
        return Err(format!(
            "bad name {text:?}: the name of a Swarm service consists of letters, digits, '_' and '-', \
             the last a letter or digit"
        ));
    }
    let mut others = others.into_iter().filter(|it| *it != name);
    match others.find(|it| it.as_str().eq_ignore_ascii_case(text)) {
        Some(other) => Err(format!(
            "bad name {text:?}: a Swarm does not tell it from {:?}, as case does not matter there",
            other.as_str()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ReplicaName {
        ReplicaName::parse(text).unwrap()
    }

    #[test]
    fn container_names_have_two_characters() {
        for (text, is_good) in
            [("A", false), ("0", false), ("AB", true), ("a.", true), ("a-", true), ("a_", true)]
        {
            assert_eq!(container(&name(text)).is_ok(), is_good, "{text}");
        }
        let error = container(&name("A")).unwrap_err();
        assert_eq!(error, "bad name \"A\": the name of a container has at least 2 characters");
    }

    #[test]
    fn service_names_are_dns_labels_that_differ_by_more_than_case() {
        let others = [name("s1"), name("S2")];
        for (text, expected) in [
            ("A", None),
            ("a_-b", None),
            ("S2", None),
            (&"x".repeat(63), None),
            ("a.b", Some("bad name \"a.b\": the name of a Swarm service consists of letters")),
            ("a-", Some("bad name \"a-\": the name of a Swarm service consists of letters")),
            ("a_", Some("bad name \"a_\": the name of a Swarm service consists of letters")),
            ("S1", Some("bad name \"S1\": a Swarm does not tell it from \"s1\"")),
        ] {
            let error = service(&name(text), &others).err();
            assert_eq!(error.is_some(), expected.is_some(), "{text}: {error:?}");
            let error = error.unwrap_or_default();
            assert!(error.starts_with(expected.unwrap_or_default()), "{error}");
            assert!(error.lines().count() <= 1, "{error}");
        }
    }
}
