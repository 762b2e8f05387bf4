//! `ringmaster check`, and what a bad configuration does to a start.

use crate::harness::{config_file, ringmaster};

async fn run(args: &[&str], yaml: &str) -> (Option<i32>, String, String) {
    let file = config_file(yaml);
    let output = ringmaster().args(args).arg("-c").arg(file.path()).output().await.unwrap();
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap().replace(&*file.path().to_string_lossy(), "FILE")
    };
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_good_configuration_is_called_good() {
    let documented = include_str!("../../../conf/ringmaster.yaml");
    for yaml in ["", documented] {
        let (code, out, err) = run(&["check"], yaml).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert_eq!(out, "FILE: good: 1 pools, 1 routes\n");
    }
}

#[tokio::test]
async fn a_configuration_may_have_a_byte_order_mark_and_crlf() {
    let file = config_file("");
    let path = file.path();
    for text in
        ["\u{feff}threads: 2\n", "\u{feff}threads: 2\r\npools:\r\n  web:\r\n    replicas: 1\r\n"]
    {
        std::fs::write(path, text).unwrap();
        let output = ringmaster().args(["check", "-c"]).arg(path).output().await.unwrap();
        assert!(output.status.success(), "{text:?}: {output:?}");
    }
    std::fs::write(path, "\u{feff}thread: 2\r\n").unwrap();
    let output = ringmaster().args(["check", "-c"]).arg(path).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("thread: unknown key; did you mean 'threads'?"), "{text}");
}

#[tokio::test]
async fn a_replica_that_is_the_balancer_itself_is_refused_by_check_and_at_the_start() {
    let yaml = "
        listen: 0.0.0.0:5999
        admin: { listen: 127.0.0.1:5998 }
        pools: { a: { provider: fixed, fixed: { b: '127.0.0.1:5999', c: '[::ffff:127.0.0.1]:5998' } } }
    ";
    for args in [&["check"][..], &[]] {
        let (code, out, err) = run(args, yaml).await;
        assert_eq!(code, Some(2), "{out}");
        for (key, replica, listener) in [
            ("b", "127.0.0.1:5999", "listen: 0.0.0.0:5999"),
            ("c", "[::ffff:127.0.0.1]:5998", "admin.listen: 127.0.0.1:5998"),
        ] {
            let line =
                format!("pools.a.fixed.{key}: {replica} is this balancer itself ({listener}); ");
            assert!(err.contains(&line), "{line} is not in:\n{err}");
        }
    }
}

#[tokio::test]
async fn every_fault_is_named_at_once_with_key_value_and_rule() {
    let yaml = "
        lisen: 0.0.0.0:80
        admin: { listen: nowhere }
        client: { headers_max: 0 }
        routes: [{ path_prefix: /, pool: web }]
        pools:
          default:
            algorithm: ring
            slots: 8
            virtual_nodes: 9
            names: [A, A]
            heartbeat: { interval_ms: 500, timeout_ms: 500 }
    ";
    for args in [&["check"][..], &[], &["up"]] {
        let (code, out, err) = run(args, yaml).await;
        assert_eq!(code, Some(2), "{err}");
        assert_eq!(out, "");
        for (key, value) in [
            ("lisen", "listen"),
            ("admin.listen", "nowhere"),
            ("client.headers_max", "0"),
            ("routes[0].pool", "web"),
            ("pools.default.algorithm", "virtual_nodes (9) must be from 1 to slots (8)"),
            ("pools.default.names", "A"),
            ("pools.default.heartbeat.timeout_ms", "500"),
        ] {
            let named =
                err.lines().any(|line| line.contains(&format!("{key}: ")) && line.contains(value));
            assert!(named, "{key} with {value:?} is not in:\n{err}");
        }
        assert!(err.lines().all(|line| line.starts_with("ringmaster: FILE: ")), "{err}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let output = ringmaster().args(["check", "-c", "/no/such/file.yaml"]).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("/no/such/file.yaml"), "{text}");
    let (code, _, err) = run(&["check"], "listen: [").await;
    assert_eq!((code, err.lines().count()), (Some(2), 1), "{err}");
}

#[tokio::test]
async fn bad_usage_is_exit_code_2() {
    for args in [&["--no-such-flag"][..], &["no-such-command"], &["check"]] {
        assert_eq!(
            ringmaster().args(args).output().await.unwrap().status.code(),
            Some(2),
            "{args:?}"
        );
    }
}
