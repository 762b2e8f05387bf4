use super::{
    tokens::{LineError, parse_tokens},
    *,
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
};

const READER: &str = "reader-0123456789";
const OPERATOR: &str = "operator-0123456789";

impl Access {
    pub(in crate::admin) fn trusting(trust: &[&str], tokens: &str) -> Self {
        let tokens = parse_tokens(tokens);
        Self {
            trust: trust.iter().map(|net| net.parse().unwrap()).collect(),
            tokens: tokens.unwrap_or_else(|(line, fault)| panic!("line {line}: {fault}")),
            lockout: Mutex::new(Lockout::new(crate::config::Config::default().admin.lockout)),
        }
    }
}

/// What a caller may do, as one word.
fn ask(access: &Access, addr: &str, authorization: Option<&str>) -> &'static str {
    let authorization = authorization.map(|text| HeaderValue::from_str(text).unwrap());
    let operator = access.operator(addr.parse().unwrap(), authorization.as_ref());
    match operator.map(|operator| operator.role) {
        Ok(Role::Admin) => "admin",
        Ok(Role::Read) => "read",
        Err(refusal) => match refusal.code {
            Code::Forbidden => "forbidden",
            Code::LockedOut => "locked out",
            Code::Unauthorized => "unauthorized",
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn an_address_or_a_token_opens_the_door() {
    let tokens = format!("read {READER}\nadmin {OPERATOR}\n");
    let access = Access::trusting(&["127.0.0.0/8", "::1/128", "10.1.0.0/16"], &tokens);
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    for (addr, authorization, expected) in [
        ("127.0.0.1", None, "admin"),
        ("127.255.0.9", None, "admin"),
        ("::1", None, "admin"),
        ("10.1.2.3", None, "admin"),
        // As a listener on [::] shows IPv4 peers.
        ("::ffff:10.1.2.3", None, "admin"),
        ("::ffff:10.2.2.3", None, "unauthorized"),
        ("10.2.0.1", None, "unauthorized"),
        ("fe80::1", None, "unauthorized"),
        // Trust does not need the token, so a bad one does not take it away.
        ("127.0.0.1", bearer("nonsense"), "admin"),
        ("10.2.0.1", bearer(READER), "read"),
        ("10.2.0.1", bearer(OPERATOR), "admin"),
        ("10.2.0.1", Some(format!("bearer {OPERATOR}")), "admin"),
        ("10.2.0.1", Some(format!("Bearer   {OPERATOR} ")), "admin"),
        ("10.2.0.1", Some(format!("Basic {OPERATOR}")), "unauthorized"),
        ("10.2.0.1", Some(OPERATOR.to_owned()), "unauthorized"),
        ("10.2.0.1", bearer(&OPERATOR[1..]), "unauthorized"),
        ("10.2.0.1", bearer(&format!("{OPERATOR}x")), "unauthorized"),
        ("10.2.0.1", bearer(""), "unauthorized"),
        ("10.2.0.1", Some(String::new()), "unauthorized"),
    ] {
        let role = ask(&access, addr, authorization.as_deref());
        assert_eq!(role, expected, "{addr} with {authorization:?}");
    }
}

#[test]
fn who_guesses_is_locked_out_and_who_is_trusted_never() {
    let access = Access::trusting(&["127.0.0.0/8"], &format!("admin {OPERATOR}\n"));
    let failures = crate::config::Config::default().admin.lockout.failures;
    let (bad, good) = (Some("Bearer nonsense"), format!("Bearer {OPERATOR}"));
    for _ in 0..failures {
        assert_eq!(ask(&access, "10.2.0.1", None), "unauthorized", "no guess: no failure");
        assert_eq!(ask(&access, "10.2.0.1", bad), "unauthorized");
        assert_eq!(ask(&access, "127.0.0.1", bad), "admin");
    }
    for presented in [bad, Some(good.as_str())] {
        assert_eq!(ask(&access, "10.2.0.1", presented), "locked out");
        assert_eq!(ask(&access, "::ffff:10.2.0.1", presented), "locked out");
        assert_eq!(ask(&access, "127.0.0.1", presented), "admin");
    }
    assert_eq!(ask(&access, "10.2.0.2", Some(&good)), "admin");
}

#[test]
fn an_operator_is_known_by_its_token_s_fingerprint() {
    let access = Access::trusting(&["127.0.0.0/8"], &format!("read {READER}\n"));
    let presented = HeaderValue::from_str(&format!("Bearer {READER}")).unwrap();
    let proof = |addr: &str| {
        let operator = access.operator(addr.parse().unwrap(), Some(&presented));
        operator.ok().unwrap().proof.to_string()
    };
    // printf %s reader-0123456789 | b2sum -l 32
    assert_eq!(proof("10.2.0.1"), "token aed8978f");
    assert_eq!(proof("127.0.0.1"), "address");
}

#[test]
fn without_tokens_there_is_nothing_to_present() {
    let access = Access::trusting(&["127.0.0.0/8"], "");
    assert_eq!(ask(&access, "10.2.0.1", None), "forbidden");
    let presented = Some("Bearer reader-0123456789");
    assert_eq!(ask(&access, "10.2.0.1", presented), "forbidden");
}

#[test]
fn the_tokens_file_may_have_comments_and_empty_lines() {
    let text = format!("# tokens\n\n  read   {READER}\t\r\n#admin {OPERATOR}\n");
    let tokens = parse_tokens(&text).ok().unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!((tokens[0].role, tokens[0].secret.as_str()), (Role::Read, READER));
}

#[test]
fn the_tokens_file_may_have_a_byte_order_mark_and_crlf() {
    let text = format!("\u{feff}read {READER}\r\nadmin {OPERATOR}\r\n");
    let tokens = parse_tokens(&text).ok().unwrap();
    let found: Vec<_> = tokens.iter().map(|it| (it.role, it.secret.as_str())).collect();
    assert_eq!(found, [(Role::Read, READER), (Role::Admin, OPERATOR)]);
}

#[test]
fn a_stranger_is_told_of_the_loopback_address_that_is_trusted() {
    for (trust, advice) in [
        (&["127.0.0.0/8", "::1/128"][..], ", or call 127.0.0.1 from the balancer's own machine"),
        (&["::1/128"], ", or call ::1 from the balancer's own machine"),
        (&["10.1.0.0/16"], ""),
        (&[], ""),
    ] {
        let stranger = Access::trusting(trust, "").stranger("10.2.0.1".parse().unwrap());
        assert_eq!(stranger, format!("10.2.0.1 is not trusted: add it to admin.trust{advice}"));
    }
}

#[test]
fn a_bad_line_is_named_by_number_and_never_quoted() {
    let repeated = format!("read {READER}\n\nadmin {READER}");
    for (text, line, fault) in [
        ("read", 1, LineError::Fields),
        ("0123456789abcdef", 1, LineError::Fields),
        ("\nread 0123456789abcdef # why", 2, LineError::Fields),
        ("0123456789abcdef read", 1, LineError::Role),
        ("Read 0123456789abcdef", 1, LineError::Role),
        ("read 0123456789abcde", 1, LineError::Short(15)),
        ("read 0123456789abcdeé", 1, LineError::Charset),
        (&repeated, 3, LineError::Repeated),
    ] {
        let found = parse_tokens(text).err();
        assert_eq!(found, Some((line, fault)), "{text:?}");
    }
}

/// A tokens file with this mode, and what loading it says.
fn load(mode: u32, text: &str) -> Result<Access, String> {
    let path = std::env::temp_dir().join(format!("tokens-{}", uuid::Uuid::now_v7()));
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    // Not at creation: there the process's mask would take bits away.
    file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
    let mut config = crate::config::Config::default().admin;
    config.tokens_file = Some(path.clone());
    let access = Access::load(&config);
    fs::remove_file(&path).unwrap();
    access.map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
}

#[test]
fn a_tokens_file_must_be_private() {
    let text = format!("admin {OPERATOR}\n");
    for mode in [0o600, 0o400] {
        let access = load(mode, &text).unwrap_or_else(|error| panic!("{mode:o}: {error}"));
        let presented = format!("Bearer {OPERATOR}");
        assert_eq!(ask(&access, "10.0.0.1", Some(&presented)), "admin");
    }
    for mode in [0o640, 0o604, 0o610, 0o601, 0o620, 0o602] {
        assert_eq!(
            load(mode, &text).err().unwrap(),
            format!(
                "admin.tokens_file: FILE has mode {mode:o}, which opens it to others; use chmod 600"
            )
        );
    }
}

#[test]
fn a_tokens_file_that_cannot_be_used_says_why_in_one_line() {
    assert_eq!(
        load(0o600, "# good\nread short\n").err().unwrap(),
        "admin.tokens_file: FILE, line 2: the token has 5 characters; it needs 16 or more"
    );
    let mut config = crate::config::Config::default().admin;
    config.tokens_file = Some("/nonexistent/tokens".into());
    let error = Access::load(&config).err().unwrap().to_string();
    assert!(
        error.starts_with("admin.tokens_file: /nonexistent/tokens cannot be read: "),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn no_tokens_file_means_trust_alone() {
    let access = Access::load(&crate::config::Config::default().admin).ok();
    let access = access.unwrap();
    assert_eq!(ask(&access, "127.0.0.1", None), "admin");
    assert_eq!(ask(&access, "10.0.0.1", None), "forbidden");
}
