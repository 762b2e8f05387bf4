//! Tables as CSV, as simple as it can be: no field needs quotes, because none may contain a comma,
//! a quote or a line break.

use anyhow::{Context, ensure};

/// The text of a table with `N` columns.
pub(crate) fn write<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> anyhow::Result<String> {
    let mut text = header.join(",") + "\n";
    for row in rows {
        if let Some(field) = row.iter().find(|field| field.contains([',', '"', '\n', '\r'])) {
            anyhow::bail!(
                "{field:?} cannot be a field of a table: it contains ',', '\"' or a line break"
            );
        }
        text += &row.join(",");
        text.push('\n');
    }
    Ok(text)
}

/// The rows of a table that [`write()`] made, each turned into a `T`; an error names the line.
pub(crate) fn read<const N: usize, T>(
    text: &str,
    header: [&str; N],
    row: impl Fn([&str; N]) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let mut lines = text.lines();
    let (found, wanted) = (lines.next().unwrap_or_default(), header.join(","));
    ensure!(found == wanted, "the header is {found:?}, not {wanted:?}");
    let parse = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        let count = fields.len();
        row(fields.try_into().ok().with_context(|| format!("{count} fields instead of {N}"))?)
    };
    lines
        .enumerate()
        .map(|(index, line)| parse(line).with_context(|| format!("line {}", index + 2)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 2] = ["name", "value"];

    fn pair([name, value]: [&str; 2]) -> anyhow::Result<(String, u32)> {
        Ok((name.into(), value.parse()?))
    }

    #[test]
    fn what_is_written_is_read() {
        let rows =
            [("a", 1), ("", 22)].map(|(name, value): (&str, u32)| [name.into(), value.to_string()]);
        let text = write(HEADER, rows).unwrap();
        assert_eq!(text, "name,value\na,1\n,22\n");
        assert_eq!(read(&text, HEADER, pair).unwrap(), [("a".into(), 1), ("".into(), 22)]);
    }

    #[test]
    fn a_field_that_would_need_quotes_is_an_error() {
        for field in ["a,b", "a\"b", "a\nb", "a\rb"] {
            let error = write(HEADER, [[field.into(), String::new()]]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{field:?}")), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_line_and_the_fault() {
        let cases = [
            ("name\n", "the header is \"name\", not \"name,value\""),
            ("", "the header is \"\", not \"name,value\""),
            ("name,value\na,1\nb\n", "line 3: 1 fields instead of 2"),
            ("name,value\na,1,2\n", "line 2: 3 fields instead of 2"),
            ("name,value\na,x\n", "line 2: invalid digit found in string"),
        ];
        for (text, expected) in cases {
            assert_eq!(format!("{:#}", read(text, HEADER, pair).unwrap_err()), expected);
        }
    }
}
