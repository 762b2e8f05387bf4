//! Reports: written as Markdown, and the same as one page of HTML.

use std::fmt::Write;

use pulldown_cmark::{Options, Parser, html::push_html};

use crate::manifest::Manifest;

pub(crate) const MARKDOWN: &str = "report.md";
pub(crate) const HTML: &str = "report.html";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
    table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ddd;padding:.25rem .6rem;text-align:right}\
    td:first-child,th:first-child{text-align:left}img{max-width:100%}";

/// A table in Markdown: the first column to the left, the others, figures, to the right.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = header.iter().map(|&it| it.to_owned()).collect();
    let rule = format!("|---|{}\n", "---:|".repeat(header.len().saturating_sub(1)));
    let rows: String = rows.into_iter().map(|row| line(&row)).collect();
    line(&header) + &rule + &rows
}

/// When and where a run was: absolute figures hold nowhere else.
pub(crate) fn circumstances<P>(manifest: &Manifest<P>) -> String {
    let machine = &manifest.machine;
    let or_unknown = |it: &Option<String>| it.clone().unwrap_or_else(|| "unknown".into());
    let cores = machine.cores.map_or_else(|| "?".into(), |it| it.to_string());
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Machine: {}, {cores} cores, Linux {}. Commit {}.",
        or_unknown(&machine.cpu),
        or_unknown(&machine.kernel),
        or_unknown(&manifest.commit)
    );
    text
}

/// A report that consists of what the terminal is told, and of a chart if there is one.
pub(crate) fn plain<P>(
    title: &str,
    manifest: &Manifest<P>,
    text: &str,
    chart: Option<&str>,
) -> String {
    let chart = chart.map(|it| format!("\n![{title}]({it})\n")).unwrap_or_default();
    format!("# {title}\n\n{}\n```text\n{text}```\n{chart}", circumstances(manifest))
}

/// A report as a part of another one, whose files are one folder higher.
pub(crate) fn section(markdown: &str, folder: &str) -> String {
    let line = |line: &str| {
        let deeper = if line.starts_with('#') { "#" } else { "" };
        let line = match line.strip_prefix("![").and_then(|it| it.split_once("](")) {
            Some((title, chart)) => format!("![{title}]({folder}/{chart}"),
            None => line.to_owned(),
        };
        format!("{deeper}{line}\n")
    };
    markdown.lines().map(line).collect()
}

/// A page of HTML that says what `markdown` does.
pub(crate) fn page(title: &str, markdown: &str) -> String {
    let mut body = String::new();
    push_html(&mut body, Parser::new_ext(markdown, Options::ENABLE_TABLES));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}</style>\n{body}</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_one_level_deeper_and_finds_its_charts() {
        assert_eq!(
            section("# A\n\n## B\n\n![c: d](e.svg)\n", "f"),
            "## A\n\n### B\n\n![c: d](f/e.svg)\n"
        );
    }

    #[test]
    fn a_table_is_a_table_in_both() {
        let markdown = table(&["peer", "µs"], [vec!["a<b".into(), "1.5".into()]]);
        assert_eq!(markdown, "| peer | µs |\n|---|---:|\n| a<b | 1.5 |\n");
        let page = page("t", &markdown);
        assert!(page.contains("<td>a&lt;b</td><td style=\"text-align: right\">1.5</td>"), "{page}");
    }
}
