//! Whoever does not keep to the protocol gets one line that says so, and starts nothing.

use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::*;

/// All that the spawner answers to `bytes`, and what it ordered. After them, the guest says nothing more, or hangs up.
async fn visit(bytes: &[u8], hangs_up: bool) -> (Vec<String>, Vec<Order>) {
    let engine = Arc::<Memory>::default();
    let spawner = Spawner::new(engine.clone(), policy(), [getuid().as_raw()].into());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut input, mut output) = ours.into_split();
    let speak = async move {
        // The spawner may have heard enough before the end.
        let _ = output.write_all(bytes).await;
        (!hangs_up).then_some(output)
    };
    let listen = async move {
        let mut heard = Vec::new();
        // Closed with something unread, a unix socket is reset: what came before is there all the same.
        let _ = input.read_to_end(&mut heard).await;
        heard
    };
    let (_, _, heard) = tokio::join!(spawner.attend(theirs), speak, listen);
    let text = String::from_utf8(heard).expect("text");
    (text.lines().map(str::to_owned).collect(), engine.orders())
}

fn ensure(order: &Order) -> String {
    format!("{}\n", serde_json::to_string(&Request::Ensure(order.clone())).unwrap())
}

/// The one refusal that follows the greeting.
async fn refusal(bytes: &[u8], hangs_up: bool) -> String {
    let (lines, orders) = visit(bytes, hangs_up).await;
    assert_eq!(orders, []);
    let [greeting, answer] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(greeting, "{\"Ok\":2}");
    refused(serde_json::from_str::<Answer<()>>(answer).unwrap())
}

#[tokio::test]
async fn an_order_is_carried_out_once() {
    let (lines, orders) = visit(ensure(&order("S1")).repeat(2).as_bytes(), true).await;
    assert_eq!((lines.len(), orders), (2, vec![order("S1")]), "{lines:?}");
}

#[tokio::test]
async fn what_is_not_in_the_language_is_refused() {
    let good = ensure(&order("S1"));
    for word in
        ["privileged", "binds", "mounts", "cap_add", "devices", "volumes", "pid_mode", "user"]
    {
        let line =
            good.replacen("\"cluster\"", &format!("\"{word}\":[\"/:/host\"],\"cluster\""), 1);
        let text = refusal(line.as_bytes(), true).await;
        assert!(text.starts_with("not a request: unknown field `"), "{word}: {text}");
    }
    for line in [
        "\n",
        "null\n",
        "{}\n",
        "GET / HTTP/1.1\r\n",
        "\u{0}\u{1b}[2J\n",
        "{\"exec\":{\"cluster\":\"a\"}}\n",
        "{\"inspect\":{\"cluster\":\"a\",\"all\":true}}\n",
        "{\"inspect\":{\"cluster\":\"a\"},\"events\":{\"cluster\":\"a\"}}\n",
        "{\"stop\":{\"cluster\":\"a\",\"name\":\"S1\",\"incarnation\":-1,\"grace_ms\":null}}\n",
        &format!("{}\n", "[".repeat(60_000)),
    ] {
        let text = refusal(line.as_bytes(), true).await;
        assert!(text.starts_with("not a request: "), "{line:?}: {text}");
        assert!(text.len() < 400 && !text.contains(char::is_control), "{text:?}");
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_not_read_to_the_end() {
    for hangs_up in [true, false] {
        let text = refusal(&vec![b' '; 10 * wire::REQUEST_MAX], hangs_up).await;
        assert_eq!(text, "not a request: a line is longer than 65536 bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_line_is_waited_for_but_not_for_ever() {
    let good = ensure(&order("S1"));
    let half = &good.as_bytes()[..good.len() / 2];
    assert_eq!(refusal(half, false).await, "no request within 5 s");
    assert_eq!(refusal(half, true).await, "not a request: unexpected end of file");
    assert_eq!(refusal(b"", false).await, "no request within 5 s");
    let (lines, orders) = visit(b"", true).await;
    assert_eq!((lines, orders), (vec!["{\"Ok\":2}".to_owned()], vec![]));
}

/// Anything, and what is nearly an order.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let good = ensure(&order("S1")).into_bytes();
    let length = good.len();
    let spoilt = prop::collection::vec((0..length, any::<u8>()), 1..4).prop_map(move |changes| {
        let mut line = good.clone();
        changes.into_iter().for_each(|(index, byte)| line[index] = byte);
        line
    });
    let texts = prop::sample::select(vec!["i:1", "alpine", "a", "b", "S1", "..", "net1", "host"]);
    let order = (texts.clone(), texts.clone(), texts.clone(), texts, any::<bool>(), 0..2_000_u64)
        .prop_map(|(cluster, image, name, network, read_only, memory_bytes)| {
            let limits = ContainerLimits { memory_bytes, ..policy().limits };
            let (cluster, image, network) = (cluster.into(), image.into(), network.into());
            let order = Order { cluster, image, network, read_only, limits, ..order(name) };
            ensure(&order).into_bytes()
        });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), spoilt, order]
}

proptest! {
    #[test]
    fn nothing_that_is_not_allowed_is_ever_started(line in lines()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (lines, orders) = runtime.block_on(visit(&line, true));
        prop_assert!(lines.len() <= 2, "{lines:?}");
        for it in orders {
            prop_assert_eq!((&*it.cluster, &*it.network), ("a", "net1"));
            prop_assert!(["i:1", "j"].contains(&&*it.image), "{}", it.image);
            prop_assert!((1..=1_000).contains(&it.limits.memory_bytes));
            prop_assert!(it.read_only && it.command.is_empty());
        }
    }
}
