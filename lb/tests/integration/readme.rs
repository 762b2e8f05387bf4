//! The README's commands are run as they stand there, against a balancer started as they say: without arguments.
//!
//! In its `console` blocks, `$ ` begins a command; the lines after it are its output, where `…` stands for any text.

use std::process::Stdio;

use tokio::process::Command;

use crate::harness::{Balancer, DEADLINE};

#[tokio::test]
async fn the_readme_does_what_it_says() {
    let readme = include_str!("../../../README.md");
    let steps = steps(readme);
    assert!(steps.len() >= 8, "the README shows the API by example");
    let balancer = Balancer::start_default().await;
    assert!(balancer.output().contains("ready in"));
    for (command, expected) in steps {
        let printed = run(&command).await;
        assert!(
            matches(printed.trim_end(), expected.trim_end()),
            "$ {command}\nprinted:\n{printed}\nthe README says:\n{expected}"
        );
    }
    balancer.stop().await;
}

async fn run(command: &str) -> String {
    let output =
        Command::new("sh").args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, output).await.expect(command).expect("a shell");
    assert!(output.status.success(), "$ {command}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn steps(readme: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut shown = false;
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            shown = language == "console";
        } else if shown && let Some(command) = line.strip_prefix("$ ") {
            steps.push((command.to_owned(), String::new()));
        } else if shown && let Some((_, output)) = steps.last_mut() {
            output.push_str(line);
            output.push('\n');
        }
    }
    steps
}

/// Whether `text` is `pattern` with any text for each `…`.
fn matches(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        last = Some(part);
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || last.is_some_and(|part| part.is_empty() || text.ends_with(part))
}

#[test]
fn patterns_match_what_they_should() {
    assert!(matches("a 12 b", "a … b"));
    assert!(matches("a", "a"));
    assert!(matches("abc", "…"));
    assert!(matches("x b x b", "x …b"));
    assert!(!matches("a 12 c", "a … b"));
    assert!(!matches("ab", "a"));
}
