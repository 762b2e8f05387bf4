use super::*;

/// The result as one line: `n NAMES`, or the error.
fn parse(verb: Verb, body: &str) -> String {
    match Payload::parse(verb, body.as_bytes()) {
        Ok(Payload { n, hosts }) => {
            let hosts: Vec<_> = hosts.iter().map(Host::to_string).collect();
            format!("{n} {}", hosts.join(","))
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_form_that_clients_send() {
    for (body, expected) in [
        ("", "1 "),
        (" \r\n", "1 "),
        ("{}", "1 "),
        (r#"{"n":1}"#, "1 "),
        (" {\"n\" : 4 }\n", "4 "),
        (r#"{"n":2,"hostnames":[]}"#, "2 "),
        (r#"{"n":2,"hostnames":["S5"]}"#, "2 S5"),
        (r#"{"hostnames":["S5","S4"],"n":3}"#, "3 S5,S4"),
        (r#"{"n":1,"hostnames":["server4:5000"]}"#, "1 server4:5000"),
        (r#"{"n":null,"hostnames":null}"#, "1 "),
        (r#"{"hostnames":["A","B"]}"#, "2 A,B"),
        (r#"{"hostnames":[]}"#, "1 "),
        ("server_id=Server4", "1 Server4"),
        ("server_id=server4%3A5000\n", "1 server4:5000"),
        ("server_id=server4%3a5000", "1 server4:5000"),
        // The fleet's rules, which know what exists, are not applied here.
        (r#"{"n":1,"hostnames":["A","A"]}"#, "1 A,A"),
        (r#"{"n":9223372036854775807}"#, "9223372036854775807 "),
    ] {
        for verb in [Verb::Add, Verb::Remove] {
            assert_eq!(parse(verb, body), expected, "{verb}: {body}");
        }
    }
}

#[test]
fn specific_names_a_victim() {
    for (body, expected) in [
        (r#"{"n":1,"specific":"Server1"}"#, "1 Server1"),
        (r#"{"specific":"Server1"}"#, "1 Server1"),
        (r#"{"specific":null}"#, "1 "),
        (r#"{"hostnames":["A"],"specific":"B"}"#, "2 A,B"),
    ] {
        assert_eq!(parse(Verb::Remove, body), expected, "{body}");
    }
    assert_eq!(
        parse(Verb::Add, r#"{"n":1,"specific":"Server1"}"#),
        "Invalid payload format: \"specific\" is for /rm only"
    );
}

#[test]
fn a_body_of_another_form_is_refused_with_the_reason() {
    let rule = "\"n\" must be a whole number of at most 18 digits, without point or exponent";
    let form = "a JSON object or server_id=NAME is expected";
    for (body, reason) in [
        ("nonsense", form.to_owned()),
        ("3", form.to_owned()),
        ("[1]", form.to_owned()),
        ("\"n\"", form.to_owned()),
        ("n=3", form.to_owned()),
        ("server_ids=S1", form.to_owned()),
        (r#"{"n":"3"}"#, format!("{rule}, not \"3\"")),
        (r#"{"n":1.5}"#, format!("{rule}, not 1.5")),
        (r#"{"n":1.0}"#, format!("{rule}, not 1.0")),
        (r#"{"n":true}"#, format!("{rule}, not true")),
        (r#"{"n":[1]}"#, format!("{rule}, not [1]")),
        (r#"{"n":9223372036854775808}"#, format!("{rule}, not 9223372036854775808")),
        (r#"{"n":1e30}"#, format!("{rule}, not 1e+30")),
        (r#"{"n":1e999}"#, "number out of range at line 1 column 10".to_owned()),
        (r#"{"n":1"#, "EOF while parsing an object at line 1 column 6".to_owned()),
        (r#"{"n":1} x"#, "trailing characters at line 1 column 9".to_owned()),
        (r#"{"n":1}{"n":1}"#, "trailing characters at line 1 column 8".to_owned()),
        (r#"{"n":1,"n":2}"#, "duplicate field `n` at line 1 column 10".to_owned()),
        (
            r#"{"m":1}"#,
            "unknown field `m`, expected one of `n`, `hostnames`, `specific` at line 1 column 4"
                .to_owned(),
        ),
        (
            r#"{"m\n\u001b":1}"#,
            "unknown field `m  `, expected one of `n`, `hostnames`, `specific` at line 1 column 12"
                .to_owned(),
        ),
        (
            r#"{"hostnames":"S5"}"#,
            "invalid type: string \"S5\", expected a sequence at line 1 column 17".to_owned(),
        ),
        (
            r#"{"hostnames":[5]}"#,
            "invalid type: integer `5`, expected a string at line 1 column 15".to_owned(),
        ),
    ] {
        for verb in [Verb::Add, Verb::Remove] {
            let expected = format!("Invalid payload format: {reason}");
            assert_eq!(parse(verb, body), expected, "{verb}: {body}");
        }
    }
    let error = Payload::parse(Verb::Add, b"{\"n\":1,\"hostnames\":[\"\xff\"]}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Invalid payload format: invalid unicode code point at line 1 column 22"
    );
}

#[test]
fn a_number_below_one_is_no_number_of_servers() {
    for (body, n) in [
        (r#"{"n":0}"#, 0),
        (r#"{"n":-3}"#, -3),
        // Checked before the names, so also where there would be too many of them.
        (r#"{"n":0,"hostnames":["A","-"]}"#, 0),
    ] {
        let added = format!("Invalid number of servers to be added: {n}");
        assert_eq!(parse(Verb::Add, body), added, "{body}");
        let removed = format!("Invalid number of servers to be removed: {n}");
        assert_eq!(parse(Verb::Remove, body), removed, "{body}");
    }
}

#[test]
fn a_bad_name_is_refused_with_the_rule() {
    let rule = "1 to 63 characters, the first a letter or digit, the others letters, digits, '_', '.' or '-'";
    for (body, expected) in [
        (r#"{"n":1,"hostnames":["-a"]}"#, format!("bad name \"-a\": {rule}")),
        (r#"{"n":2,"hostnames":["A",""]}"#, format!("bad name \"\": {rule}")),
        ("server_id=", format!("bad name \"\": {rule}")),
        ("server_id=a&n=3", format!("bad name \"a&n=3\": {rule}")),
        ("server_id=%41", format!("bad name \"%41\": {rule}")),
        (
            r#"{"hostnames":["a:0"]}"#,
            "bad port in \"a:0\": a number from 1 to 65535 must follow the colon".to_owned(),
        ),
    ] {
        assert_eq!(parse(Verb::Add, body), expected, "{body}");
    }
}
